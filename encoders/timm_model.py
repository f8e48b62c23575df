"""Any image model of timm, as "timm:<architecture>.<tag>": its weights from the hub repository where timm has them.

timm knows the repository of each tag, but importing it takes seconds and torch, and a card is made whenever a configuration is
read. So `repository` repeats what timm 1.0 says, and a test holds it against timm for every tag.
"""

import dataclasses
import functools
import re
import sys

import numpy as np

from radbench.encoder import Card, Encoder, Features, Option, one_grid, ready
from radbench.errors import ConfigError, did_you_mean
from radbench.image import FILTERS, center_crop, normalise, resize, resize_shortest
from radbench.weights import load_strict

WHERE, WEIGHTS = "encoders/timm_model.py", "model.safetensors|pytorch_model.bin"
#: repositories that are not timm/<name>
REPOSITORIES = {
    "davit_base_fl.msft_florence2": "microsoft/Florence-2-base", "davit_huge_fl.msft_florence2": "microsoft/Florence-2-large",
    "fastvit_mci0.apple_mclip": "apple/mobileclip_s0_timm", "fastvit_mci1.apple_mclip": "apple/mobileclip_s1_timm",
    "fastvit_mci2.apple_mclip": "apple/mobileclip_s2_timm", "vit_base_mci_224.apple_mclip": "apple/mobileclip_b_timm",
    "vit_base_mci_224.apple_mclip_lt": "apple/mobileclip_b_lt_timm", "vitamin_small_224.datacomp1b_clip": "jienengchen/ViTamin-S",
    "vitamin_small_224.datacomp1b_clip_ltt": "jienengchen/ViTamin-S-LTT", "vitamin_base_224.datacomp1b_clip": "jienengchen/ViTamin-B",
    "vitamin_base_224.datacomp1b_clip_ltt": "jienengchen/ViTamin-B-LTT",
}  # fmt: skip
#: patterns of names whose repository follows from the name
PATTERNS = (
    (r"(cspnext_.*)", r"munehiro-k/\1"), (r"(rdnet_.*)", r"naver-ai/\1"), (r"(.*_lingbot\..*)", r"belfner/\1"),
    (r"vitamin_large2_(\d+)\..*", r"jienengchen/ViTamin-L2-\1px"), (r"vitamin_large_(\d+)\..*", r"jienengchen/ViTamin-L-\1px"),
    (r"vitamin_xlarge_(\d+)\..*", r"jienengchen/ViTamin-XL-\1px"), (r"(.*_clip)_quickgelu(_.*)", r"timm/\1\2"),
)  # fmt: skip
#: names whose weights are on no hub, but at an address that timm knows
ELSEWHERE = re.compile(r"gcvit_.*|legacy_.*|.*_ijepa")
#: CLIPs that were trained with QuickGELU: under a name without it timm builds them with GELU, and every feature is a little wrong
QUICKGELU = re.compile(
    r"vit_(base_patch(16|32)|large_patch14)_clip_\d+\.openai|"
    r"vit_(base_patch(16|32)|large_patch14)_clip_224\.metaclip_(400m|2pt5b)|vit_(huge|gigantic)_patch14_clip_224\.metaclip_2pt5b|"
    r"vit_huge_patch14_clip_224\.metaclip2_worldwide|vit_base_patch32_clip_224\.laion400m_e32|"
    r"vit_large_patch14_clip_224\.dfn2b|vit_huge_patch14_clip_(224|378)\.dfn5b"
)
POOLINGS = {"head": "as the model pools for its classifier", "cls": "first token of its final output", "mean": "mean of its final map"}


class TimmModel(Encoder):
    generic = True
    card = Card(
        title="timm model", architecture="see the title", image_size=None, patch=None, dim=None, params=None, files=(WEIGHTS,),
        pooling=POOLINGS["head"], pretrained_on=("unknown",), licence="that of the model", citation="that of the model",
        notes="normalisation and filter are those of timm's configuration of the model; taps are four blocks at equal distances before "
        "the final norm, or the last four stages on the third's grid (finer ones averaged, coarser ones repeated); what the model was "
        "pretrained on is not known here unless the configuration says it, so overlaps with test data are not marked",
    )  # fmt: skip
    options = {
        "model": Option("test_vit2.r160_in1k", in_title=False, why="a tiny one, for checks"),
        "pooling": Option("head", tuple(POOLINGS), why="what the model's own classifier is given"),
        "image_size": Option(0, why="0 is the model's own"),
        "crop": Option(1.0, why="share of the side that is kept: timm's crop_pct (0.875 to 0.95) suits photographs, here it cuts lungs"),
        "pretrained_on": Option([], in_title=False, why="data set names, as in `sources` of an index: results on these get a mark"),
    }

    @classmethod
    def card_for(cls, options):
        model = full_name(options["model"])
        hub = repository(model)
        how = f"python -m radbench.weights timm:{model} downloads it from huggingface.co/{hub}" if hub else (
              f"it is on no hub: timm.models.get_pretrained_cfg('{model}').url says where; put the file into weights/ as {model}, or give "
              "its path under `weights`")  # fmt: skip
        return dataclasses.replace(
            cls.card, title=model, weights=f"hf:{hub}" if hub else f"file:{model}", files=cls.card.files if hub else (model,),
            pooling=POOLINGS[options["pooling"]], field=options["crop"], how_to_get=how,
            pretrained_on=tuple(options["pretrained_on"]) or cls.card.pretrained_on,
        )  # fmt: skip

    @classmethod
    def look_up(cls, options):
        import timm

        name, tagged = options["model"], timm.list_pretrained(f"{options['model'].partition('.')[0]}.*")
        if name not in tagged:
            raise _unknown(name, tagged)

    def load(self, device):
        import timm
        from torch import nn

        self.look_up(self.options)
        name, size = self.options["model"], self.options["image_size"]
        try:
            self.net = timm.create_model(name, **({"img_size": size} if size else {}))
        except TypeError:  # a convolutional network takes any side
            self.net = timm.create_model(name)
        # Only the classifier itself goes, for num_classes=0 also drops layers that some heads have before it
        classifiers = self.net.pretrained_cfg.get("classifier") or ()
        classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
        for part in classifiers:
            self.net.set_submodule(part, nn.Identity())
        if self.weights is not None:
            convert = getattr(sys.modules[type(self.net).__module__], "checkpoint_filter_fn", lambda state, model: state)
            select = functools.partial(_apply, convert, self.net)  # timm's own: old names, positions for another side
            ignore = tuple(f"{part}." for part in classifiers)
            load_strict(self.net, self.weights, self.card.files[0], select=select, ignore=ignore, fix=self.card.how_to_get)
        ready(self.net, device)
        self._try_one_image(device)

    def _try_one_image(self, device) -> None:
        """One grey image through the network: a side that it does not take, or does not see whole, is named now and not during a run."""
        import torch

        image = torch.from_numpy(self.preprocess(np.full((64, 64), 0.5, np.float32)))[None].to(device)
        side, patch = image.shape[-1], getattr(getattr(self.net, "patch_embed", None), "patch_size", None)
        patch = max(patch) if isinstance(patch, tuple | list) else 1
        if side % patch and getattr(self.net, "num_prefix_tokens", None) is not None:  # a ViT; others pad
            raise ConfigError(f"{WHERE}: option image_size", "no whole number of patches, so that a rim would not be seen", got=side,
                              expected=f"{side // patch * patch} or {(side // patch + 1) * patch}")  # fmt: skip
        try:
            with torch.inference_mode():
                self.encode(image)
        except (AssertionError, RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ConfigError(WHERE, f"{self.options['model']} does not take an input of this side",
                              got=f"{side} ({type(error).__name__}: {error})".split("\n")[0],
                              expected=f"{self._config['input_size'][-1]}, its own", fix="remove image_size") from None  # fmt: skip

    def preprocess(self, image):
        config = self._config
        size, interpolation = self.options["image_size"] or config["input_size"][-1], config["interpolation"]
        scale = int(size / self.options["crop"])
        squash = config["crop_mode"] == "squash"
        small = resize(image, scale, scale, interpolation) if squash else resize_shortest(image, scale, interpolation)
        return normalise(center_crop(small, size).clip(0, 1), config["mean"], config["std"], config["input_size"][0])

    @functools.cached_property
    def _config(self):
        """timm's data configuration of the model: sides, filter, mean and std."""
        from timm.data import resolve_data_config
        from timm.models import get_pretrained_cfg

        name = self.options["model"]
        found = get_pretrained_cfg(name)
        config = resolve_data_config(pretrained_cfg=found.to_dict() if found else {})
        _, rows, cols = config["input_size"]
        for what, wrong in (("an input that is not square", rows != cols), (f"the filter {config['interpolation']!r}",
                            config["interpolation"] not in FILTERS), ("padding ('border')", config["crop_mode"] == "border")):  # fmt: skip
            if wrong:
                raise ConfigError(
                    WHERE, f"{name} asks for {what}, which is not served here", fix="write a wrapper: docs/adding-an-encoder.md"
                )
        return config

    def encode(self, images):
        out = self.net.forward_features(images)
        patches = self._patches(out)
        pooling = self.options["pooling"]
        holders = (self.net, getattr(self.net, "embeds", None))  # registers are prefix tokens, too
        if pooling == "cls" and not (out.ndim == 3 and any(getattr(part, "cls_token", None) is not None for part in holders)):
            raise ConfigError(WHERE, f"{self.options['model']} has no class token", got="pooling cls", expected="head or mean")
        image = {
            "head": lambda: self.net.forward_head(out, pre_logits=True),
            "cls": lambda: out[:, 0],
            "mean": lambda: patches.mean((1, 2)),
        }
        pooled = image[pooling]()
        if pooled.ndim != 2:
            raise ConfigError(WHERE, f"{self.options['model']} does not pool", got=tuple(pooled.shape), expected="pooling: mean")
        return Features(image=pooled, patches=patches)

    def _patches(self, out):
        """Tokens without their prefix, or a feature map whichever way round, as (B, gh, gw, C)."""
        name = self.options["model"]
        if getattr(out, "ndim", 0) == 4:
            return out.permute(0, 2, 3, 1) if out.shape[1] == self.net.num_features else out
        if getattr(out, "ndim", 0) != 3:
            raise ConfigError(WHERE, f"{name} returns neither tokens nor a feature map", got=type(out).__name__, fix="write a wrapper")
        tokens = out[:, getattr(self.net, "num_prefix_tokens", 0) :]
        side = round(tokens.shape[1] ** 0.5)
        if side * side != tokens.shape[1] or side == 1:
            raise ConfigError(WHERE, f"{name}: the tokens are no square grid", got=tokens.shape[1], fix="write a wrapper")
        return tokens.unflatten(1, (side, side))

    def encode_levels(self, images):
        stages = getattr(self.net, "feature_info", None) or []
        if not hasattr(self.net, "forward_intermediates") or len(stages) < 4:
            raise ConfigError(
                WHERE, f"{self.options['model']} cannot be tapped in four places", got=len(stages), fix="leave segmentation out"
            )
        count, alike = len(stages), len({stage["reduction"] for stage in stages}) == 1
        taps = [(number + 1) * count // 4 - 1 for number in range(4)] if alike else list(range(count - 4, count))
        return one_grid(self.net.forward_intermediates(images, indices=taps, norm=False, output_fmt="NCHW", intermediates_only=True))


def _apply(convert, net, state):
    return convert(state, net)


def repository(name: str) -> str:
    """The hub repository of a model of timm, "" where its weights are on no hub.

    >>> repository("vit_large_patch14_clip_quickgelu_224.openai")
    'timm/vit_large_patch14_clip_224.openai'
    """
    if name in REPOSITORIES or ELSEWHERE.fullmatch(name):
        return REPOSITORIES.get(name, "")
    return next((re.sub(pattern, hub, name) for pattern, hub in PATTERNS if re.fullmatch(pattern, name)), f"timm/{name}")


def full_name(name: str) -> str:
    """The name, which has to have a tag: it says which weights, and so which normalisation.

    Raises:
        ConfigError: no tag, or weights that belong to the same network with QuickGELU.
    """
    if "." not in name:
        import timm

        raise _unknown(name, timm.list_pretrained(f"{name}.*"))
    if QUICKGELU.fullmatch(name):
        right = name.replace("_clip_", "_clip_quickgelu_")
        raise ConfigError(WHERE, "these weights were trained with QuickGELU, and timm builds this name with GELU", got=name, expected=right,
                          fix=f"timm:{right}")  # fmt: skip
    return name


def _unknown(name: str, tagged: list[str]) -> ConfigError:
    """What is wrong with a name that is no "<architecture>.<tag>" of timm."""
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        fix = did_you_mean(architecture, timm.list_models()) or "timm.list_models() lists them"
        return ConfigError(WHERE, f"timm {timm.__version__} has no such model", got=name, fix=fix)
    if not tag:
        default = timm.models.get_pretrained_cfg(architecture)
        fix = f"timm:{architecture}.{default.tag} is timm's default" if default and default.tag else "write a wrapper for your own weights"
        return ConfigError(WHERE, "the name lacks its tag, which says which weights", got=name, expected=tagged, fix=fix)
    return ConfigError(WHERE, f"{architecture} has no such tag", got=tag, expected=tagged, fix=did_you_mean(name, tagged))
