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
    """Length of the longest common subsequence: words in one order, not necessarily side by side.

    A row of the table in one whole number (Crochemore, Iliopoulos, Pinzon and Reid 2001, Information Processing Letters 80:279-285).

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
    """Matches and guesses of 1- to 4-grams and both lengths in words, in the order of `BLEU_COLUMNS`.

    match_n = sum over n-grams of the hypothesis of min(its count there, its count in the reference), guess_n = n-grams of the
    hypothesis: the terms of the modified precision (Papineni et al. 2002, section 2.1).

    >>> bleu_counts("a b c d".split(), "a b b".split())  # the second b finds no partner
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
    """Every column of `COLUMNS`, one number per report.

    ROUGE-L (Lin 2004, Text Summarization Branches Out, 74-81) is F = (1 + b^2) P R / (R + b^2 P), fractions, with P and R the longest
    common subsequence over the words of the hypothesis and of the reference: ``rouge_l`` with b = 1 on :func:`rouge_tokens`,
    ``rouge_l_coco`` with b = 1.2 on :func:`tokens`. 0 where nothing is shared.

    Args:
        references, hypotheses: n >= 1 texts each.

    Raises:
        ValueError: not as many of the one as of the other, or none.

    >>> found = columns(["the heart is normal"], ["heart is normal"])  # P = 1, R = 3/4
    >>> [[round(v, 4) for v in found[name]] for name in ("rouge_l", "rouge_l_coco", "hyp_len")]  # 6/7; 2.44 * 0.75 / 2.19
    [[0.8571], [0.8356], [3]]
    """
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
