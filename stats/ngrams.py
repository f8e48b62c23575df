"""Per-report columns of BLEU and ROUGE-L from the two texts, for predictions that come without them.

Equal to what the task of this project writes with pycocoevalcap and rouge-score under the tokenizer "words", which a test holds to.
Written again because `stats` imports no task, and must serve people who have installed neither package.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from .text import BLEU_COLUMNS

#: What the columns are made of; named below the table. Stanford's PTBTokenizer, which needs Java, splits some words otherwise.
TOKENIZER = "words"
COLUMNS = ("rouge_l", "rouge_l_coco", *BLEU_COLUMNS)
_WORD = re.compile(r"\w+(?:'\w+)?")
_BETA2 = 1.2**2  # of pycocoevalcap: recall counts more than precision


def tokens(text: str) -> list[str]:
    """Words in lower case: letters, digits and underscores, with one apostrophe inside; other punctuation separates.

    >>> tokens("The heart isn't  enlarged. No T-spine.")
    ['the', 'heart', "isn't", 'enlarged', 'no', 't', 'spine']
    """
    return _WORD.findall(text.strip().lower())


def rouge_tokens(text: str) -> list[str]:
    """Runs of a-z and 0-9 in lower case, as rouge-score splits without a stemmer.

    >>> rouge_tokens("It isn't ÖD 3.5cm")
    ['it', 'isn', 't', 'd', '3', '5cm']
    """
    return re.findall("[a-z0-9]+", text.lower())


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table in one whole number (Crochemore et al. 2001).

    >>> common_subsequence("the heart is normal".split(), "heart size is normal".split())
    3
    """
    places: dict[str, int] = {}
    for k, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << k
    whole = row = (1 << len(one)) - 1
    for word in other:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & whole
    return len(one) - row.bit_count()


def bleu_counts(reference: Sequence[str], hypothesis: Sequence[str]) -> list[int]:
    """Matches and guesses of 1- to 4-grams and both lengths, in the order of `BLEU_COLUMNS`; a match counts as often as the reference
    has it.

    >>> bleu_counts("a b c d".split(), "a b b".split())
    [2, 1, 0, 0, 3, 2, 1, 0, 3, 4]
    """
    match, guess = [], []
    for n in range(1, 5):
        of_reference, of_hypothesis = (
            Counter(tuple(words[k : k + n]) for k in range(len(words) - n + 1)) for words in (reference, hypothesis)
        )
        match.append(sum(min(count, of_reference[gram]) for gram, count in of_hypothesis.items()))
        guess.append(max(0, len(hypothesis) - n + 1))
    return [*match, *guess, len(hypothesis), len(reference)]


def columns(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, list[float]]:
    """Every column of `COLUMNS`, one number per report."""
    rows = []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        wanted, got = tokens(reference), tokens(hypothesis)
        precision, recall = _shares(rouge_tokens(reference), rouge_tokens(hypothesis))
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        precision, recall = _shares(wanted, got)
        coco = (1 + _BETA2) * precision * recall / (recall + _BETA2 * precision) if precision else 0.0
        rows.append([f1, coco, *bleu_counts(wanted, got)])
    return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))


def _shares(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[float, float]:
    """Longest common subsequence over the words of the hypothesis, and over those of the reference."""
    if not reference or not hypothesis:
        return 0.0, 0.0
    common = common_subsequence(reference, hypothesis)
    return common / len(hypothesis), common / len(reference)
