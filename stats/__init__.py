"""Per-sample predictions in, estimates, intervals, tests and tables out; on a CPU, in seconds.

Reads only files (`docs/formats.md`) and imports only numpy, scipy, pandas (with pyarrow, which reads Parquet) and the
standard library, so every number can be derived again years later without a GPU, weights or the code that made the predictions.

Reading
    predictions.py       reading and aligning the predictions of several encoders
    own.py               somebody's CSV -> the same folders and statistics
    ngrams.py            BLEU counts and ROUGE-L from two texts, where the predictions bring none
    text.py              corpus BLEU-4 and CheXbert macro F1 from sufficient statistics
    published.py         the paper's numbers
    provenance.py        sidecars, CSV, and atomic writing
    errors.py            what can go wrong, by name

Measuring
    measures.py          one function per task: predictions -> metrics and their resamples
    ranking.py           average precision and AUROC under resample counts
    calibration.py       Brier score, calibration error, recalibration line, reliability by bin
    subgroups.py         scores by group, the worst, the gap
    learning_curves.py   scores by number of training images

How sure
    bootstrap.py         resampling of patients, percentile intervals
    permutation.py       sign-flip test for metrics that are means over images
    delong.py            AUROCs by placements, patients as clusters
    paired.py            Wilcoxon, corrected t, McNemar, equivalence, power
    ranks.py             rank intervals, Friedman, critical difference
    multiplicity.py      Holm, Benjamini-Hochberg

Tables
    compare.py           entry point: one task on one dataset -> estimates, comparisons, ranks, subgroups, ...
    tables.py            entry point: a run, or a CSV -> all tables
    facts.py             Tables 1 and 2: data counted, encoders measured
    scores.py            Tables 3 to 5: one cell per encoder and target, with verdict and marks
    significance.py      Table 6: the reference encoder against the others, Holm over the family
    supplement.py        supplementary tables: calibration, subgroups, ranks, learning curves; cost beside quality
    overlaps.py          what an encoder has seen: by its card, and by copies found
    verdicts.py          every published value with its verdict, and one page of them
    typeset.py           LaTeX and Markdown; the best two of a column

The page
    report.py            entry point: all of it on one HTML page
    run.py               what the page is about: encoders, sections, every sidecar
    charts.py            sections of the page: ranks, calibration, subgroups, learning curves, cost and quality
    examples.py          sections of the page: segmented images, written reports
    ledger.py            sections of the page: data, cost, provenance
    figures.py           forest plots, curves, rank diagrams, scatter as inline SVG; pictures as data URIs
    page.py              HTML with escaping, Markdown tables read back, the style sheet

The paper's claims
    claims.py            entry point: the paper's claims re-examined from print -> docs/claims.md; sums, means, gains
    printed.py           the printed numbers by place, for the claims
    sizes.py             claims about networks: parameters by closed form, tokens, decoders
    detectable.py        claims of significance: which differences the paper's test sets can show
    contradictions.py    claims of the text against itself, Table 1 and the splits against the data's owners
"""
