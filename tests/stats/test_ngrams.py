"""Counts and ROUGE-L from two texts against pycocoevalcap and rouge-score."""

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test
from pycocoevalcap.rouge.rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from stats import ngrams
from stats.text import BLEU_COLUMNS, corpus_bleu4

PIECES = ["heart", "Heart", "is", "normal", "no", "effusion.", "isn't", "T-spine,", "3.5 cm", "___", "(AP)", "\u00c9largi", "no\nacute",
          "  ", "'quoted'", "x_1", "\u0130", "\u03b1-beta", "o''clock"]  # fmt: skip


def texts(seed: int, number: int, longest: int) -> list[str]:
    """Reports of up to so many pieces with the marks, cases and letters that real ones have; some are empty."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(PIECES, random.integers(0, longest + 1))) for _ in range(number)]


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    """Five hundred pairs, a fifth of them equal, and a few long ones."""
    references, hypotheses = texts(1, 500, 30) + texts(3, 4, 400), texts(2, 500, 30) + texts(4, 4, 400)
    return [(r, r if k % 5 == 0 else h) for k, (r, h) in enumerate(zip(references, hypotheses, strict=True))]


def test_counts_are_pycocoevalcaps(pairs):
    """Matches, guesses and lengths of every report equal cook_test's, and corpus BLEU-1 to 4 of their sums is Bleu's."""
    found = ngrams.columns(*zip(*pairs, strict=True))
    counts = np.array([found[name] for name in BLEU_COLUMNS]).T
    joined = [[" ".join(ngrams.tokens(text)) for text in pair] for pair in pairs]
    for row, (reference, hypothesis) in zip(counts, joined, strict=True):
        theirs = cook_test(hypothesis, cook_refs([reference]))
        assert row.tolist() == [*theirs["correct"], *theirs["guess"], theirs["testlen"], *theirs["reflen"]]
    score, _ = Bleu(4).compute_score({k: [r] for k, (r, _) in enumerate(joined)}, {k: [h] for k, (_, h) in enumerate(joined)}, verbose=0)
    assert abs(corpus_bleu4(counts.sum(axis=0)) - score[3]) < 1e-12


def test_rouge_is_rouge_scores_and_pycocoevalcaps(pairs):
    """ROUGE-L equals rouge-score's without a stemmer, and the recall-weighted variant pycocoevalcap's; an empty text scores 0."""
    found, scorer, coco = ngrams.columns(*zip(*pairs, strict=True)), RougeScorer(["rougeL"], use_stemmer=False), Rouge()
    empty = 0
    for f1, weighted, (reference, hypothesis) in zip(found["rouge_l"], found["rouge_l_coco"], pairs, strict=True):
        assert abs(f1 - scorer.score(reference, hypothesis)["rougeL"].fmeasure) < 1e-12
        wanted, got = (" ".join(ngrams.tokens(text)) for text in (reference, hypothesis))
        empty += not (wanted and got)
        assert abs(weighted - (coco.calc_score([got], [wanted]) if wanted and got else 0.0)) < 1e-12
    assert empty >= 5


def test_words_are_the_tasks():
    """The tokens equal those of the task's tokenizer "words" on normalised text, and rouge-score's own tokenizer."""
    from tasks.report_generation.text import normalise, tokenize

    for text in [*texts(5, 300, 30), *PIECES]:
        assert " ".join(ngrams.tokens(text)) == tokenize([normalise(text)], ngrams.TOKENIZER)[0]
        assert ngrams.rouge_tokens(text) == DefaultTokenizer(use_stemmer=False).tokenize(text)


def test_columns_are_the_tasks(pairs):
    """Every column equals what the task of this project writes for the same texts under the tokenizer "words"."""
    from tasks.report_generation.text import normalise, statistics

    references, hypotheses = ([normalise(text) for text in side] for side in zip(*pairs[:200], strict=True))
    theirs, found = statistics(references, hypotheses, "words"), ngrams.columns(references, hypotheses)
    assert set(theirs) == set(found) == set(ngrams.COLUMNS)
    assert all(np.allclose(theirs[name], found[name], rtol=0, atol=1e-12) for name in theirs)
