"""Report text: one normalisation, one tokenizer named in the result, and per-report statistics from the field's own packages.

Corpus BLEU is not a mean over reports, so each report carries the counts that it is made of (n-gram matches, n-grams,
lengths) as pycocoevalcap computes them; stats/ adds them up, for the whole set and for each bootstrap resample.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

WORD = re.compile(r"\w+(?:'\w+)?")


def normalise(text: str) -> str:
    """Lower case, white space collapsed. De-identification marks (`___`, `xxxx`) are kept.

    >>> normalise(" The heart  is Normal.\\n")
    'the heart is normal.'
    """
    return re.sub(r"\s+", " ", text).strip().lower()


def tokenizer_name() -> str:
    """ "ptb" (Stanford's PTBTokenizer, as in pycocoevalcap) where Java is present, else "words". Scores under the two differ."""
    return "ptb" if shutil.which("java") else "words"


def tokenize(texts: list[str], tokenizer: str) -> list[str]:
    """Normalised texts as tokens joined by single spaces, punctuation dropped.

    >>> tokenize(["the heart is normal. no pleural effusion."], "words")
    ['the heart is normal no pleural effusion']
    """
    if tokenizer == "words":
        return [" ".join(WORD.findall(text)) for text in texts]
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as handle:  # the package writes into site-packages
        handle.write("\n".join(texts))
        handle.flush()
        command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", handle.name]
        output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    lines = output.split("\n")[: len(texts)]  # the package's own list: it drops commas, and keeps -lrb- for "("
    return [" ".join(word for word in line.rstrip().split(" ") if word not in ptbtokenizer.PUNCTUATIONS) for line in lines]


def statistics(references: list[str], hypotheses: list[str], tokenizer: str) -> dict[str, np.ndarray]:
    """Per-report columns of predictions.parquet: rouge_l, rouge_l_coco, bleu_match_n, bleu_guess_n, hyp_len, ref_len."""
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test
    from pycocoevalcap.rouge.rouge import Rouge
    from rouge_score.rouge_scorer import RougeScorer

    both = tokenize([*references, *hypotheses], tokenizer)
    reference_tokens, hypothesis_tokens = both[: len(references)], both[len(references) :]
    coco, scorer = Rouge(), RougeScorer(["rougeL"], use_stemmer=False)
    columns: dict[str, list] = {name: [] for name in ("rouge_l", "rouge_l_coco", "hyp_len", "ref_len")}
    columns |= {f"bleu_{kind}_{n}": [] for kind in ("match", "guess") for n in (1, 2, 3, 4)}
    for reference, hypothesis, wanted, got in zip(references, hypotheses, reference_tokens, hypothesis_tokens, strict=True):
        columns["rouge_l"].append(scorer.score(reference, hypothesis)["rougeL"].fmeasure)
        columns["rouge_l_coco"].append(float(coco.calc_score([got], [wanted])) if got and wanted else 0.0)
        counts = cook_test(got, cook_refs([wanted]))
        columns["hyp_len"].append(counts["testlen"])
        lengths = counts["reflen"]
        columns["ref_len"].append(
            min(lengths, key=lambda length: abs(length - counts["testlen"])) if isinstance(lengths, list) else lengths
        )
        for n in range(4):
            columns[f"bleu_match_{n + 1}"].append(counts["correct"][n])
            columns[f"bleu_guess_{n + 1}"].append(counts["guess"][n])
    return {name: np.array(values) for name, values in columns.items()}
