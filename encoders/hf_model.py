"""Any vision model that transformers knows, as "hf:<owner>/<name>": network, weights and preprocessing from its hub repository."""

import dataclasses
import functools
import inspect
import json
import re
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

from radbench.artifact import Absent
from radbench.encoder import Card, Encoder, Features, Option, one_grid, ready
from radbench.errors import ConfigError, WeightsError
from radbench.image import normalise, resize, resize_shortest
from radbench.weights import chosen, looks_like, read_tensors

WHERE, PROCESSOR = "encoders/hf_model.py", "preprocessor_config.json"
WEIGHTS = "model.safetensors|model.safetensors.index.json|pytorch_model.bin|pytorch_model.bin.index.json"  # whole, or an index of shards
POOLINGS = {"pooler": "the model's own pooled output", "cls": "first token of its final output", "mean": "mean of its final map"}
RESAMPLE = {1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}  # Pillow's numbers
#: the processor of a tiny ViT with random weights, which stands in where no model is named
STAND_IN = {"size": {"height": 64, "width": 64}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
#: parts of names of what a file may hold besides the image tower: text and its numbers, projections, heads, decoders, tables
UNUSED = ("text_model", "text_encoder", "text_decoder", "text_projection", "language_model", "language_projection", "visual_projection",
          "logit_scale", "logit_bias", "pooler", "classifier", "cls_classifier", "distillation_classifier", "lm_head", "head", "heads",
          "decoder", "mask_token", "position_ids", "relative_position_index", "num_batches_tracked")  # fmt: skip


#: processors that resize, crop and normalise as their file says and do nothing of their own besides
PLAIN = ("", "ViT", "DeiT", "Beit", "CLIP", "ChineseCLIP", "Bit", "Siglip", "Blip", "MobileNetV1", "MobileNetV2", "MobileViT", "Pvt",
         "Segformer", "DINOv3ViT", "ConvNext")  # fmt: skip
#: of these a single number is the shortest side and not both sides of a square
SHORTEST = ("CLIP", "ChineseCLIP", "Bit", "MobileNetV1", "MobileNetV2", "MobileViT", "ConvNext")
#: settings of others that change the picture
RULES = ("do_pad", "do_convert_grayscale", "do_flip_channel_order", "offset", "keep_aspect_ratio", "rescale_offset", "include_top")


#: types of networks whose tokens are no grid of the image, and why
UNFIT = {"vit_mae": "shuffles and leaves out patches at random", "yolos": "has detection tokens behind its patches"}


class Said(BaseModel):
    """What is read of preprocessor_config.json, in the types that transformers writes."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    image_processor_type: str | None = None
    feature_extractor_type: str | None = None
    size: dict[str, PositiveInt | None] | PositiveInt | None = None
    crop_size: dict[str, PositiveInt] | PositiveInt | None = None
    crop_pct: PositiveFloat | None = None
    resample: int | None = None
    rescale_factor: PositiveFloat = 1 / 255
    image_mean: list[float] | float | None = None
    image_std: list[PositiveFloat] | PositiveFloat | None = None
    do_resize: bool = True
    do_center_crop: bool | None = False
    do_rescale: bool = True
    do_normalize: bool = True


class Preparation(NamedTuple):
    """What preprocessor_config.json asks for: resize, filter, crop, factor on [0, 1], mean, std, share of the side that the crop keeps."""

    size: dict[str, int]
    interpolation: str
    crop: dict[str, int]
    factor: float
    mean: float | list[float]
    std: float | list[float]
    kept: float


class HfModel(Encoder):
    generic = True
    card = Card(
        title="Hugging Face model", architecture="see the title", image_size=None, patch=None, dim=None, params=None,
        files=("config.json", PROCESSOR, WEIGHTS), weights="hf:<owner>/<name>", how_to_get="name a model: hf:<owner>/<name>",
        pooling=POOLINGS["pooler"], pretrained_on=("unknown",), licence="that of the model", citation="that of the model",
        notes="network and preprocessing are those of the repository's config.json and preprocessor_config.json; every parameter that is "
        "used has to be in its weight file or shards, and what else is in there has to be a text tower, a projection, a head or a decoder; "
        "taps are four blocks at equal distances before the final norm, or the last four stages on the third's grid; what the model was "
        "pretrained on is not known here unless the configuration says it, so overlaps with test data are not marked",
    )  # fmt: skip
    options = {
        "model": Option("", in_title=False, why="<owner>/<name>; without one a tiny random ViT stands in, for checks"),
        "pooling": Option("pooler", tuple(POOLINGS), why="where a checkpoint has no pooler, loading says so: then cls or mean"),
        "image_size": Option(0, why="0 is the processor's; another side takes the place of its, and positions are interpolated"),
        "field": Option(None, kind=float, in_title=False, why="share of the side that the processor's crop keeps: segmentation asks"),
        "pretrained_on": Option([], in_title=False, why="data set names, as in `sources` of an index: results on these get a mark"),
        "ignore": Option([], in_title=False, why="further parts of names of tensors that the file may hold and the network does not use"),
        "trust_remote_code": Option(None, kind=bool, in_title=False, why="true runs Python code of the repository; nothing else does"),
    }

    @classmethod
    def card_for(cls, options):
        model = options["model"]
        card = dataclasses.replace(cls.card, pooling=POOLINGS[options["pooling"]], field=options["field"] or 1.0,
                                   pretrained_on=tuple(options["pretrained_on"]) or cls.card.pretrained_on)  # fmt: skip
        how = f"python -m radbench.weights hf:{model} downloads it from huggingface.co/{model}"
        return dataclasses.replace(card, title=model, weights=f"hf:{model}", how_to_get=how) if model else card

    @property
    def _folder(self):
        """Where config.json and the processor are: beside a weight file that is given by its own path."""
        return self.weights if self.weights is None or self.weights.is_dir() else self.weights.parent

    def load(self, device):
        from transformers import AutoModel, ViTConfig

        if self.weights is not None:
            self.net = ready(self._released(self.options["trust_remote_code"] is True), device)
        elif self.options["model"]:
            raise Absent(f"its architecture is in its files: {self.card.how_to_get}")
        else:
            tiny = ViTConfig(hidden_size=48, num_hidden_layers=4, num_attention_heads=3, intermediate_size=96, image_size=64, patch_size=8)
            self.net = ready(AutoModel.from_config(tiny), device)
        self._try_one_image(device)

    def _released(self, trust: bool):
        """The network of config.json, filled from exactly the file that was given or is in the folder."""
        import torch
        from transformers import AutoConfig, AutoModel

        file = chosen(self.weights, WEIGHTS) if self.weights.is_dir() else self.weights
        code = {"trust_remote_code": trust, "local_files_only": True}
        try:
            config = AutoConfig.from_pretrained(self._folder, **code)
            config = getattr(config, "vision_config", config)  # of a model of images and text, the image tower
            if config.model_type in UNFIT:
                raise ConfigError(self._folder / "config.json", f"{config.model_type} {UNFIT[config.model_type]}",
                                  fix="write a wrapper: docs/adding-an-encoder.md")  # fmt: skip
            with torch.device("meta"):
                kind = type(AutoModel.from_config(config, trust_remote_code=trust))
            state = self._tensors(file)
            net, info = kind.from_pretrained(None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True,
                                             ignore_mismatched_sizes=True)  # fmt: skip
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            remote, got = "trust_remote_code" in str(error), f"{type(error).__name__}: {error}".split("\n")[0]
            what = "needs code from its repository" if remote else "cannot be loaded"
            fix = "option trust_remote_code: true, if you trust its owner" if remote else self.card.how_to_get
            raise WeightsError(self._folder, what, got=got, fix=fix) from None
        self._hold_against(file, info, looks_like(state))
        with torch.no_grad():
            for name in info["missing_keys"]:  # a pooler that is not asked for: nothing is left to chance
                net.get_parameter(name).zero_()
        return net

    def _tensors(self, file) -> dict:
        """The content of the weight file, which has to be tensors by name."""
        content = read_tensors(file, self.card.how_to_get)
        if isinstance(content, dict) and all(hasattr(value, "shape") for value in content.values()):
            return content
        looks = looks_like(content) if isinstance(content, dict) else type(content).__name__
        raise WeightsError(file, f"not the weights of a network but {looks or 'a container'}", got=sorted(map(str, content))[:6],
                           expected="a state dict", fix=self.card.how_to_get)  # fmt: skip

    def _hold_against(self, file, info: dict[str, Any], looks: str) -> None:
        """Refuse a file whose tensors have other shapes than the network of config.json, or that lacks some, or that holds more."""
        other = [f"{name} is {tuple(found)} and not {tuple(wanted)}" for name, found, wanted in sorted(info["mismatched_keys"])]
        if other:
            raise WeightsError(file, "not the weights of this network", got="; ".join(other[:4]), fix=self.card.how_to_get)
        missing = sorted(info["missing_keys"])
        only = all("pooler." in key for key in missing)
        if missing and (self.options["pooling"] == "pooler" or not only):
            what = f"not the weights of this network but {looks}: " if looks else ""
            raise WeightsError(file, f"{what}parameters are not in the file", got=missing[:4],
                               fix="option pooling: cls or mean" if only else self.card.how_to_get)  # fmt: skip
        known = {*UNUSED, *self.options["ignore"]}
        more = sorted(key for key in info["unexpected_keys"] if not known & set(key.split(".")))
        if more:
            raise WeightsError(file, f"has {len(more)} tensors that the network in config.json does not", got=more[:4],
                               expected=f"nothing more than {', '.join(UNUSED)}",
                               fix="the config.json of this file; or, if they are not of the image tower, option ignore")  # fmt: skip

    def _try_one_image(self, device) -> None:
        """One grey image through the network: a side that it does not take is named now, and not in the middle of a run."""
        import torch

        image = torch.from_numpy(np.array(self.preprocess(np.full((64, 64), 0.5, np.float32))))[None].to(device)
        channels = getattr(self.net.config, "num_channels", image.shape[1])
        if isinstance(channels, int) and channels != image.shape[1]:
            raise ConfigError(self._folder / PROCESSOR, "image_mean has not one number for each channel of the network",
                              got=image.shape[1], expected=channels)  # fmt: skip
        side, patch = image.shape[-1], getattr(self.net.config, "patch_size", 1)
        if isinstance(patch, int) and side % patch:
            raise ConfigError(f"{WHERE}: option image_size", "no whole number of patches, so that a rim would not be seen", got=side,
                              expected=f"{side // patch * patch} or {(side // patch + 1) * patch}")  # fmt: skip
        try:
            with torch.inference_mode():
                self._forward(image)
        except TypeError as error:
            raise ConfigError(WHERE, f"{self.options['model']} takes something besides the image", got=str(error),
                              fix="write a wrapper: docs/adding-an-encoder.md") from None  # fmt: skip
        except (ValueError, RuntimeError) as error:
            wanted = getattr(self.net.config, "image_size", None)
            asked = self.options["image_size"]
            where = f"{WHERE}: option image_size" if asked else self._folder / PROCESSOR
            fix = f"remove image_size, or set it to {wanted}" if asked else f"option image_size: {wanted}"
            raise ConfigError(where, "the network does not take an input of this side",
                              got=f"{side} ({type(error).__name__}: {error})".split("\n")[0],
                              expected=wanted or "see config.json", fix=fix) from None  # fmt: skip

        try:
            with torch.inference_mode():
                self.encode(image)
        except (AttributeError, IndexError) as error:
            raise ConfigError(WHERE, f"{self.options['model']} returns neither tokens nor a feature map", got=str(error),
                              fix="write a wrapper: docs/adding-an-encoder.md") from None  # fmt: skip

    def _forward(self, images, **more):
        """The network's output; positions are interpolated where another side was asked for and the network can."""
        can = self.options["image_size"] and "interpolate_pos_encoding" in inspect.signature(self.net.forward).parameters
        return self.net(images, **more, **({"interpolate_pos_encoding": True} if can else {}))

    @functools.cached_property
    def _processor(self) -> Preparation:
        file = self._folder / PROCESSOR if self.weights is not None else None
        try:
            said = Said.model_validate(STAND_IN if file is None else json.loads(file.read_text()))
        except ValidationError as error:
            wrong = error.errors()[0]
            what = f"{wrong['loc'][0] if wrong['loc'] else 'the whole'}: {wrong['msg']}"
            raise WeightsError(file, "is not what transformers writes", got=f"{wrong['input']!r}"[:60], expected=what,
                               fix=self.card.how_to_get) from None  # fmt: skip
        except (OSError, ValueError, RecursionError) as error:
            raise WeightsError(file, "cannot be read", got=f"{error}".split("\n")[0], fix=self.card.how_to_get) from None
        whole_kind = said.image_processor_type or said.feature_extractor_type or ""
        kind = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", whole_kind)
        size, crop = _sides(said.size), _sides(said.crop_size) if said.do_center_crop else {}
        if isinstance(said.size, int) and kind in SHORTEST:
            size = {"shortest_edge": said.size}
        if kind == "ConvNext" and "shortest_edge" in size:  # these crop below 384 and squash from there on
            side = size["shortest_edge"]
            size, crop = (_sides(side), {}) if side >= 384 else ({"shortest_edge": int(side / (said.crop_pct or 0.875))}, _sides(side))
        refused = [] if kind in PLAIN else [f"processor {whole_kind}, which has rules of its own"]
        refused += [key for key in RULES if said.model_extra.get(key)]
        refused += ["crop_pct"] if said.crop_pct and kind != "ConvNext" else []
        refused += ["a size of one number without the processor's class"] if isinstance(said.size, int) and crop and not kind else []
        square, shortest = {"height", "width"}, {"shortest_edge"}
        fits = size.keys() == square or size.keys() == shortest and crop
        if not said.do_resize or not fits or crop.keys() not in (set(), square):
            refused.append(f"size {said.size}, crop_size {said.crop_size}")
        refused += [] if said.resample in RESAMPLE else [f"resample {said.resample}"]
        mean, std = (said.image_mean, said.image_std) if said.do_normalize else (0.0, 1.0)
        if mean is None or std is None or np.size(mean) != np.size(std):
            refused.append(f"image_mean {mean} and image_std {std}")
        if refused:
            raise ConfigError(
                file, f"asks for what is not served here: {', '.join(refused)}", fix="write a wrapper: docs/adding-an-encoder.md"
            )
        factor = said.rescale_factor * 255 if said.do_rescale else 255.0
        kept = crop["height"] / size.get("shortest_edge", size.get("height")) if crop else 1.0
        if side := self.options["image_size"]:  # in place of the processor's, with the same share of the image
            ratio = side / (crop or size)["height"]
            size, crop = ({name: round(length * ratio) for name, length in sides.items()} for sides in (size, crop))
        return Preparation(size, RESAMPLE[said.resample], crop, factor, mean, std, kept)

    def preprocess(self, image):
        size, interpolation, crop, factor, mean, std, _ = self._processor
        if "height" in size:
            small = resize(image, size["height"], size["width"], interpolation)
        else:
            small = resize_shortest(image, size["shortest_edge"], interpolation)
        if crop:  # transformers rounds an odd margin down, torchvision does not
            top, left = (small.shape[0] - crop["height"]) // 2, (small.shape[1] - crop["width"]) // 2
            if min(top, left) < 0:
                raise ConfigError(self._folder / PROCESSOR, "the crop is larger than the resized image", got=crop, expected=size)
            small = small[top : top + crop["height"], left : left + crop["width"]]
        return normalise(small.clip(0, 1) * factor, mean, std, 3 if plain_number(mean) else len(mean))

    def encode(self, images):
        out = self._forward(images)
        patches, prefix = self._grid(out.last_hidden_state, images)
        pooling = self.options["pooling"]
        if pooling == "pooler" and getattr(out, "pooler_output", None) is None:
            raise ConfigError(WHERE, f"{self.options['model']} has no pooled output", expected="pooling: cls or mean")
        if pooling == "cls" and not prefix:
            raise ConfigError(WHERE, f"{self.options['model']} has no class token", expected="pooling: pooler or mean")
        image = {
            "pooler": lambda: out.pooler_output.flatten(1),
            "cls": lambda: out.last_hidden_state[:, 0],
            "mean": lambda: patches.mean((1, 2)),
        }
        return Features(image=image[pooling](), patches=patches)

    def _grid(self, state, images):
        """Tokens or a feature map as (B, gh, gw, C), and the number of tokens before the patches."""
        if state.ndim == 4:
            last = state.shape[1] == state.shape[2] != state.shape[3]  # channels last: a square grid in front
            return (state if last else state.permute(0, 2, 3, 1)), 0
        patch = getattr(self.net.config, "patch_size", None)
        sides = [length // patch for length in images.shape[2:]] if isinstance(patch, int) else [0, 0]
        prefix = state.shape[1] - sides[0] * sides[1]
        if not sides[0] or not 0 <= prefix <= 16:  # a network of several stages: its last grid is coarser
            sides, prefix = [round(state.shape[1] ** 0.5)] * 2, 0
        if prefix + sides[0] * sides[1] != state.shape[1]:
            raise ConfigError(WHERE, f"{self.options['model']}: the tokens are no grid", got=state.shape[1], fix="write a wrapper")
        return state[:, prefix:].unflatten(1, sides), prefix

    def encode_levels(self, images):
        kept = self._processor.kept
        if abs(kept - self.card.field) > 1e-6:
            raise ConfigError(WHERE, f"the processor of {self.options['model']} keeps {kept} of the side", fix=f"option field: {kept}")
        out = self._forward(images, output_hidden_states=True)
        states = getattr(out, "reshaped_hidden_states", None) or getattr(out, "hidden_states", None) or ()
        maps = self._before_merging(images)
        try:
            maps = maps or [self._grid(state, images)[0].permute(0, 3, 1, 2) for state in states]
        except (AttributeError, ConfigError):
            maps = []
        grids = [part.shape[2:] for part in maps]
        if len(maps) > 4 and len(set(grids)) == 1:  # a ViT; maps[k] leaves block k, counted from 1
            taps = [number * (len(maps) - 1) // 4 for number in (1, 2, 3, 4)]
        else:  # what leaves the last block on each grid; the first state is what comes before any block
            taps = [place for place, grid in enumerate(grids) if grid not in grids[place + 1 :]][-4:]
        if len(taps) < 4 or taps[0] == 0 and len(maps) > 4:
            raise ConfigError(WHERE, f"{self.options['model']} cannot be tapped in four places", got=[tuple(grid) for grid in grids],
                              expected="equal grids, or four from fine to coarse", fix="leave segmentation out")  # fmt: skip
        return one_grid([maps[place] for place in taps])

    def _before_merging(self, images):
        """Of a Swin or FocalNet the maps (B, C, g, g) that leave the last block of each stage: its hidden states come after the merging
        of patches that ends a stage. Of other networks nothing."""
        stages = [
            part for part in self.net.modules() if hasattr(part, "downsample") and (hasattr(part, "blocks") or hasattr(part, "layers"))
        ]
        if len(stages) != 4:
            return []
        found = []
        lasts = [(getattr(stage, "blocks", None) or stage.layers)[-1] for stage in stages]
        hooks = [last.register_forward_hook(lambda _, given, out: found.append(out)) for last in lasts]
        try:
            self._forward(images)
        finally:
            for hook in hooks:
                hook.remove()
        tokens = [out[0] if isinstance(out, tuple) else out for out in found]
        return [state.transpose(1, 2).unflatten(2, (round(state.shape[1] ** 0.5),) * 2) for state in tokens]


def _sides(said: dict[str, int | None] | int | None) -> dict[str, int]:
    """Sides by name; a number alone is both sides of a square."""
    square = {"height": said, "width": said}
    return {name: length for name, length in (said if isinstance(said, dict) else square).items() if length}


def plain_number(value) -> bool:
    return isinstance(value, int | float)
