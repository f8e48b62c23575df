"""Clinical metrics of reports: CheXbert's 14 labels and RadGraph's RG_ER. Their weights are not free to ship.

Without the weights the columns are left out and the tables say "not computed"; nothing is approximated under the same
name. Where they are looked for (below $RADBENCH_WEIGHTS, default `weights/`):

    chexbert/chexbert.pth                    from the hub repository StanfordAIMI/RRG_scorers
    chexbert/bert-base-uncased/              config.json, vocab.txt, tokenizer_config.json of that BERT
    radgraph/radgraph-xl/                    the unpacked archive radgraph-xl.tar.gz of the same repository

CheXbert is loaded by our own labeller (Smit et al., 2020): the package f1chexbert fails beside current transformers and
scikit-learn in four places, and labels one report at a time; a test holds ours equal to the patched package.
RadGraph (Jain et al., 2021) is the package `radgraph`, reward level "partial", model named, both texts lower case.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from radbench.artifact import file_hash
from radbench.errors import WeightsError
from radbench.weights import load_strict, weights_folder

HEADS = ("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
         "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices", "No Finding")  # fmt: skip
MAX_TOKENS, BATCH = 512, 32
RADGRAPH_MODEL = "radgraph-xl"
HOW = {
    "f1_14": "CheXbert weights not present: put chexbert.pth of StanfordAIMI/RRG_scorers and a bert-base-uncased folder "
    "into weights/chexbert/",
    "rg_er": "RadGraph weights not present: unpack radgraph-xl.tar.gz of StanfordAIMI/RRG_scorers into weights/radgraph/radgraph-xl/",
}


def present() -> dict[str, Path]:
    """The clinical models whose weights are here."""
    root = weights_folder()
    wanted = {"f1_14": root / "chexbert" / "chexbert.pth", "rg_er": root / "radgraph" / RADGRAPH_MODEL / "weights.th"}
    return {name: path for name, path in wanted.items() if path.is_file()}


def fingerprint(models: dict[str, Path]) -> dict[str, dict[str, str]]:
    """For content keys: hashes of what a model's columns depend on, its weights and the configuration and vocabulary below their folder."""
    found = {}
    for name, path in models.items():
        beside = (file for file in path.parent.rglob("*") if file.is_file() and file.suffix in (".json", ".txt", ".jsonnet"))
        found[name] = {file.relative_to(path.parent).as_posix(): file_hash(file) for file in sorted({path, *beside})}
    return found


def score(
    references: list[str], hypotheses: list[str], models: dict[str, Path], device: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Prediction columns of the models that are present, and for the others the reason why there are none."""
    columns: dict[str, np.ndarray] = {}
    if "f1_14" in models:
        labeller = CheXbert(models["f1_14"]).to(device).eval()
        for side, texts in (("ref", references), ("hyp", hypotheses)):
            labels = labeller.label(texts)
            columns |= {f"chexbert_{side}_{head}": labels[:, head] for head in range(len(HEADS))}
    if "rg_er" in models:
        columns["rg_er"] = radgraph_partial(references, hypotheses, models["rg_er"].parent.parent, device)
    return columns, {name: reason for name, reason in HOW.items() if name not in models}


class CheXbert(nn.Module):
    """BERT-base with 13 heads of four classes (blank, positive, negative, uncertain) and one of two (No Finding)."""

    def __init__(self, weights: Path):
        super().__init__()
        from transformers import AutoTokenizer, BertConfig, BertModel

        bert = weights.parent / "bert-base-uncased"
        about = {"expected": "config.json, vocab.txt, tokenizer_config.json", "fix": "copy them from the hub's bert-base-uncased"}
        if not (bert / "config.json").is_file():
            raise WeightsError(bert, "no BERT configuration beside chexbert.pth", **about)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(bert, local_files_only=True)
            self.bert = BertModel(BertConfig.from_pretrained(bert))
        except Exception as error:  # whatever transformers and tokenizers raise for a damaged file
            raise WeightsError(bert, f"not a BERT that transformers can read ({_first_line(error)})", **about) from None
        if len(self.tokenizer) != self.bert.config.vocab_size:
            raise WeightsError(bert, "vocab.txt is of another BERT than config.json", got=f"{len(self.tokenizer):,} words",
                               **about | {"expected": f"{self.bert.config.vocab_size:,}"})  # fmt: skip
        width = self.bert.config.hidden_size
        self.linear_heads = nn.ModuleList([nn.Linear(width, 4) for _ in HEADS[:-1]] + [nn.Linear(width, 2)])

        def select(saved: dict) -> dict:
            state = {name.removeprefix("module."): value for name, value in saved.get("model_state_dict", saved).items()}
            return {name: value for name, value in state.items() if not name.endswith("position_ids")}  # a buffer of older transformers

        load_strict(self, weights, weights.name, select=select, fix="get chexbert.pth of StanfordAIMI/RRG_scorers again")

    @torch.inference_mode()
    def label(self, texts: list[str]) -> np.ndarray:
        """int8 (N, 14): 0 blank, 1 positive, 2 negative, 3 uncertain; for No Finding 0 and 1 only."""
        device = self.linear_heads[0].weight.device
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # similar lengths together
        out = np.zeros((len(texts), len(HEADS)), dtype=np.int8)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            batch = self.tokenizer([" ".join(texts[place].split()) for place in places], padding=True, truncation=True,
                                   max_length=MAX_TOKENS, return_tensors="pt").to(device)  # fmt: skip
            state = self.bert(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state[:, 0]
            out[places] = torch.stack([head(state).argmax(dim=1) for head in self.linear_heads], dim=1).cpu().numpy()
        return out


def radgraph_partial(references: list[str], hypotheses: list[str], folder: Path, device: str) -> np.ndarray:
    """RG_ER per report: the package's reward level "partial"; 0 where either side is empty. On the GPU of the stage, or on the CPU."""
    from transformers import PreTrainedTokenizerBase

    if not hasattr(PreTrainedTokenizerBase, "encode_plus"):  # gone in transformers 5; radgraph 0.1.18 calls both
        PreTrainedTokenizerBase.encode_plus = PreTrainedTokenizerBase.__call__
    if not hasattr(PreTrainedTokenizerBase, "build_inputs_with_special_tokens"):
        PreTrainedTokenizerBase.build_inputs_with_special_tokens = lambda self, first, second=None: [
            self.cls_token_id, *first, self.sep_token_id]  # fmt: skip
    from radgraph import F1RadGraph

    rewards = np.zeros(len(references))
    filled = [place for place, texts in enumerate(zip(references, hypotheses, strict=True)) if all(texts)]
    if not filled:  # the package fails on nothing but empty reports
        return rewards
    gpu = torch.device(device).index or 0 if device.startswith("cuda") else -1  # by itself the package takes the first GPU
    try:
        scorer = F1RadGraph(reward_level="partial", model_type=RADGRAPH_MODEL, model_cache_dir=str(folder), cuda=gpu)
    except Exception as error:  # whatever the package, its allennlp or transformers raise for a damaged file or a BERT that is not here
        raise WeightsError(folder / RADGRAPH_MODEL, f"the package radgraph cannot load it ({_first_line(error)})",
                           fix="unpack radgraph-xl.tar.gz again; the BERT that its config.json names must be in the hub cache "
                               "(hf download <model_name>)") from None  # fmt: skip
    _, per_report, _, _ = scorer(refs=[references[place].lower() for place in filled], hyps=[hypotheses[place].lower() for place in filled])
    rewards[filled] = per_report
    return rewards


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
