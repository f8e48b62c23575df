"""Frozen patch features -> two-layer projector -> causal language model, as in LLaVA-1.5.

The prompt is the paper's: image tokens, then "Provide a description of the findings in the radiology image." Vicuna
wraps it in its conversation template. `tiny` is a Llama of the same class with a tokenizer trained on the training
reports: it makes every line of the code run on two cores, and says so in the tables.
"""

import dataclasses
import json
from pathlib import Path

import torch
from torch import nn

from radbench import artifact, weights
from radbench.errors import ConfigError, WeightsError
from radbench.protocol import LANGUAGE_MODEL, check_fields

PROMPT = "Provide a description of the findings in the radiology image."
VICUNA_SYSTEM = ("A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
                 "detailed, and polite answers to the human's questions.")  # fmt: skip
IGNORED = -100  # the label of tokens that carry no loss


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The benchmark's constants (RadJEPA, section 6.1.4; LLaVA-1.5 stage 2 where it is silent)."""

    language_model: str = LANGUAGE_MODEL  # a hub name or folder, or "tiny"
    epochs: int = 3
    lr: float = 2e-5
    warmup_share: float = 0.03
    batch: int = 128
    max_new_tokens: int = 150
    tiny_width: int = 256
    tiny_layers: int = 4
    tiny_vocabulary: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "tasks.report_generation protocol", above_0=("lr",), at_least={
            "epochs": 1, "batch": 1, "max_new_tokens": 1, "warmup_share": 0, "tiny_width": 4, "tiny_layers": 1, "tiny_vocabulary": 257,
            "seed": 0})  # fmt: skip


class Reporter(nn.Module):
    """Projector and language model. `before` and `after` are the token ids around the image tokens."""

    def __init__(self, feature_width: int, language_model: nn.Module, tokenizer, template: tuple[str, str]):
        super().__init__()
        width = language_model.config.hidden_size
        self.projector = nn.Sequential(nn.Linear(feature_width, width), nn.GELU(), nn.Linear(width, width))
        self.language_model, self.tokenizer = language_model, tokenizer
        self.before = [tokenizer.bos_token_id, *self._ids(template[0])]
        self.after = self._ids(template[1])

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def _prompt(self, patches: torch.Tensor) -> torch.Tensor:
        """patches (B, gh, gw, C) -> embeddings (B, L, width) of the prompt."""
        embed, device = self.language_model.get_input_embeddings(), patches.device
        image = self.projector(patches.flatten(1, 2)).to(embed.weight.dtype)
        parts = [
            embed(torch.tensor(ids, dtype=torch.long, device=device)).expand(len(patches), -1, -1) for ids in (self.before, self.after)
        ]
        return torch.cat([parts[0], image, parts[1]], dim=1)

    def loss(self, patches: torch.Tensor, reports: list[str]) -> tuple[torch.Tensor, int]:
        """Summed cross-entropy of the report tokens (and the end token), and how many there are."""
        prompt, device = self._prompt(patches), patches.device
        answers = [[*self._ids(report), self.tokenizer.eos_token_id] for report in reports]
        longest = max(map(len, answers))
        labels = torch.full((len(answers), longest), IGNORED, dtype=torch.long, device=device)
        for row, answer in enumerate(answers):
            labels[row, : len(answer)] = torch.tensor(answer, device=device)
        known = labels != IGNORED
        text = self.language_model.get_input_embeddings()(labels.clamp_min(0))
        mask = torch.cat([torch.ones(prompt.shape[:2], dtype=torch.long, device=device), known.long()], dim=1)
        output = self.language_model(inputs_embeds=torch.cat([prompt, text], dim=1), attention_mask=mask, use_cache=False)
        logits = output.logits[:, prompt.shape[1] - 1 : -1].float()
        total = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return total, int(known.sum())

    @torch.inference_mode()
    def write(self, patches: torch.Tensor, max_new_tokens: int) -> list[str]:
        """Greedy reports for patches (B, gh, gw, C)."""
        prompt = self._prompt(patches)
        mask = torch.ones(prompt.shape[:2], dtype=torch.long, device=patches.device)
        ids = self.language_model.generate(
            inputs_embeds=prompt, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1,
            pad_token_id=self.tokenizer.pad_token_id, eos_token_id=self.tokenizer.eos_token_id,
            bos_token_id=self.tokenizer.bos_token_id,
        )  # fmt: skip
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


def build(protocol: Protocol, feature_width: int, reports: list[str], device: str) -> Reporter:
    """An untrained reporter: random projector (seeded), and the language model as released or (tiny) random.

    Raises:
        artifact.Absent: the language model's weights are not present; the message says how to get them.
    """
    torch.manual_seed(protocol.seed)
    if protocol.language_model == "tiny":
        tokenizer = train_tokenizer([*reports, PROMPT], protocol.tiny_vocabulary)
        return Reporter(feature_width, tiny_llama(protocol, len(tokenizer)), tokenizer, ("", PROMPT)).to(device)
    tokenizer, model = _released(protocol.language_model, device)
    template = (f"{VICUNA_SYSTEM} USER: ", f"\n{PROMPT} ASSISTANT:")
    return Reporter(feature_width, model, tokenizer, template).to(device)


def weights_fingerprint(protocol: Protocol) -> dict[str, str]:
    """For content keys: the commit of a hub model in the cache, or the hash of each weight file of a folder."""
    name = protocol.language_model
    if name == "tiny":
        return {}
    if Path(name).is_dir():
        return {
            path.name: artifact.file_hash(path)
            for path in sorted(Path(name).iterdir())
            if path.suffix in (".safetensors", ".bin", ".json", ".model")
        }
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        raise ConfigError("tasks.report_generation.protocol.language_model", "is no folder here and no name on the hub", got=name,
                          expected="a folder, <owner>/<name>, or tiny", fix="mend the path") from None  # fmt: skip
    return {"commit": Path(found).parent.name} if isinstance(found, str) else {}


def train_tokenizer(texts: list[str], size: int):
    """A byte-level BPE tokenizer trained on these texts; the same texts give the same tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def tiny_llama(protocol: Protocol, vocabulary: int):
    """A randomly initialised Llama of `tiny_layers` layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    width = protocol.tiny_width
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=protocol.tiny_layers,
        num_attention_heads=4, max_position_embeddings=2048, pad_token_id=0, bos_token_id=1, eos_token_id=2))  # fmt: skip


def _released(name: str, device: str):
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    # float32 master weights; a GPU computes in bfloat16 by autocast
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True)
        model, found = AutoModelForCausalLM.from_pretrained(name, local_files_only=True, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        downloaded = weights.hub_cache() / f"models--{name.replace('/', '--')}"
        if not Path(name).exists() and any(downloaded.glob("blobs/*.incomplete")):
            raise artifact.Absent(f"weights not present: language model {name} is here in part; `hf download {name}` goes on") from None
        if Path(name).exists() or downloaded.is_dir():
            place, said = name if Path(name).exists() else downloaded, str(error).partition("\n")[0]
            raise WeightsError(name, f"not a causal language model that transformers can read ({said})",
                               fix=f"delete {place} and get it again (hub names: hf download {name})") from None  # fmt: skip
        raise artifact.Absent(f"weights not present: language model {name}; get it with `hf download {name}`") from None
    if found["missing_keys"]:  # the library fills them with random numbers
        raise WeightsError(name, f"lacks {len(found['missing_keys'])} tensors of its network", got=sorted(found["missing_keys"])[:3],
                           fix=f"get it again (hub names: hf download {name})")  # fmt: skip
    # Vicuna's own settings ask for sampling, which is not done here, and are such as transformers refuses to save
    model.generation_config = GenerationConfig.from_model_config(model.config)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    if device.startswith("cuda"):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return tokenizer, model


def save(reporter: Reporter, folder: Path, feature_width: int, protocol: Protocol) -> None:
    """Write projector, language model and tokenizer as safetensors and JSON."""
    from safetensors.torch import save_file

    save_file({name: value.detach().cpu().contiguous() for name, value in reporter.projector.state_dict().items()},
              folder / "projector.safetensors")  # fmt: skip
    reporter.language_model.save_pretrained(folder / "language_model")
    reporter.tokenizer.save_pretrained(folder / "language_model")
    artifact.write_json(folder / "reporter.json", {"feature_width": feature_width, "language_model": protocol.language_model})


def load(folder: Path, device: str) -> Reporter:
    """Read what `save` wrote."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    facts = json.loads((folder / "reporter.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder / "language_model", local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder / "language_model", local_files_only=True, dtype=torch.float32)
    template = ("", PROMPT) if facts["language_model"] == "tiny" else (f"{VICUNA_SYSTEM} USER: ", f"\n{PROMPT} ASSISTANT:")
    reporter = Reporter(facts["feature_width"], model, tokenizer, template)
    reporter.projector.load_state_dict(load_file(folder / "projector.safetensors"))
    return reporter.to(device).eval()
