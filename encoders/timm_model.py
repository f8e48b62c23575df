"""Any image model of timm, as "timm:<architecture>.<tag>": its weights from the hub repository timm/<architecture>.<tag>."""

import dataclasses
import functools
import sys

from radbench.encoder import Card, Encoder, Features, Option, one_grid, ready
from radbench.errors import ConfigError, did_you_mean
from radbench.image import FILTERS, center_crop, normalise, resize, resize_shortest
from radbench.weights import load_strict

WHERE = "encoders/timm_model.py"
POOLINGS = {"head": "as the model pools for its classifier", "cls": "first token of its final output", "mean": "mean of its final map"}


class TimmModel(Encoder):
    generic = True
    card = Card(
        title="timm model", architecture="see the title", image_size=None, patch=None, dim=None, params=None, files=("model.safetensors",),
        pooling=POOLINGS["head"], pretrained_on=("unknown",), licence="that of the model", citation="that of the model",
        notes="normalisation and filter are those of timm's configuration of the model; taps are four blocks at equal distances before "
        "the final norm, or the last four stages on the third's grid (finer ones averaged, coarser ones repeated); what the model was "
        "pretrained on is not known here unless the configuration says it, so overlaps with test data are not marked",
    )  # fmt: skip
    options = {
        "model": Option("test_vit2.r160_in1k", why="a tiny one, for checks"),
        "pooling": Option("head", tuple(POOLINGS), why="what the model's own classifier is given"),
        "image_size": Option(0, why="0 is the model's own"),
        "crop": Option(1.0, why="share of the side that is kept: timm's crop_pct (0.875 to 0.95) suits photographs, here it cuts lungs"),
        "pretrained_on": Option([], why="data set names, as in `sources` of an index: results on these get a mark"),
    }

    @classmethod
    def card_for(cls, options):
        model = options["model"]
        return dataclasses.replace(
            cls.card, title=model, weights=f"hf:timm/{model}", pooling=POOLINGS[options["pooling"]], field=options["crop"],
            pretrained_on=tuple(options["pretrained_on"]) or cls.card.pretrained_on,
            how_to_get=f"python -m radbench.weights timm:{model} downloads it from huggingface.co/timm/{model}; the name needs its tag, "
            "as timm.list_pretrained() writes it",
        )  # fmt: skip

    def load(self, device):
        import timm

        name, known = self.options["model"], timm.list_models()
        architecture, _, tag = name.partition(".")
        if architecture not in known:
            fix = did_you_mean(architecture, known) or "timm.list_models() lists them"
            raise ConfigError(WHERE, f"timm {timm.__version__} has no such model", got=name, fix=fix)
        tagged = timm.list_pretrained(f"{architecture}.*")
        if tag and name not in tagged:
            raise ConfigError(WHERE, f"{architecture} has no such tag", got=tag, expected=tagged, fix=did_you_mean(name, tagged))
        size = self.options["image_size"]
        try:
            self.net = timm.create_model(name, **({"img_size": size} if size else {}))
        except TypeError:  # a convolutional network takes any side
            self.net = timm.create_model(name)
        if self.weights is not None:
            convert = getattr(sys.modules[type(self.net).__module__], "checkpoint_filter_fn", lambda state, model: state)
            select = functools.partial(_apply, convert, self.net)  # timm's own: old names, positions for another side
            load_strict(self.net, self.weights, "model.safetensors", select=select, fix=self.card.how_to_get)
        ready(self.net, device)

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
        if pooling == "cls" and not (out.ndim == 3 and getattr(self.net, "num_prefix_tokens", 0)):
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
        if side * side != tokens.shape[1]:
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
