"""Per-sample predictions in, estimates, intervals, tests and tables out; on a CPU, in seconds.

Reads only files (`docs/formats.md`) and imports only numpy, scipy, pandas and the standard library, so every number can
be derived again years later without a GPU, weights or the code that made the predictions.

    ranking.py       average precision and AUROC under resample counts
    text.py          corpus BLEU-4 and CheXbert macro F1 from sufficient statistics
    bootstrap.py     resampling of patients, percentile intervals
    permutation.py   sign-flip test for metrics that are means over images
    multiplicity.py  Holm, Benjamini-Hochberg
    predictions.py   reading and aligning the predictions of several encoders
    measures.py      one function per task: predictions -> metrics and their resamples
    provenance.py    sidecars and atomic writing
    published.py     the paper's numbers
    typeset.py       LaTeX and Markdown
    compare.py       entry point: one task on one dataset -> estimates.csv, comparisons.csv
    scores.py        Tables 3 to 5: one cell per encoder and target, with verdict and marks
    significance.py  Table 6: the reference encoder against the others, Holm over the family
    tables.py        entry point: everything -> tables 1 to 6, published beside measured
    figures.py       forest plots and curves as inline SVG, pictures as data URIs
    page.py          HTML with escaping, Markdown tables read back, the style sheet
    report.py        entry point: tables, plots, examples, cost and provenance -> one HTML page
"""
