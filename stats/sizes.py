"""Claims about the networks: parameters by closed form, tokens, decoders, the adapter, and who is in which table."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .printed import CONTRADICTS, HOLDS, OPEN, Claim, Print, listed, verdict
from .published import same_model

#: (blocks, width) of the vision transformers: Dosovitskiy et al. 2021, Table 1.
SHAPES = {"B": (12, 768), "L": (24, 1024), "H": (32, 1280)}
#: (size, patch, pixels) that I-JEPA's owners released: facebookresearch/ijepa.
IJEPA = {("H", 14, 224), ("H", 16, 448), ("g", 16, 224)}
#: Pixels a side per cell of a ResNet-50's last map: He et al. 2016.
STRIDE = 32
#: Width of Vicuna-7B, which is LLaMA-7B's: Touvron et al. 2023, Table 2.
VICUNA = 4096
#: Structures per column of Table 4, from the text: left and right lung, six zones, twenty ribs.
STRUCTURES = {"Lungs": 2, "Lung zones": 6, "Ribs": 20}


def claims(at: Print) -> Iterator[Claim]:
    """Tables 2, 4 and 5, as far as they tell of networks."""
    for check in (_encoders, _tables, _releases, _tokens, _decoders, _adapter):
        yield from check(at)


def vit_parameters(depth: int, width: int, patch: int, side: int) -> int:
    """Parameters of a plain vision transformer with a class token and a learnt position per token (Dosovitskiy et al. 2021).

    12 d^2 + 13 d per block (attention 4 d^2 + 4 d, perceptron of width 4 d 8 d^2 + 5 d, two norms 4 d), patches 3 p^2 d + d,
    positions (n + 1) d for n = (side / p)^2 tokens, class token d, last norm 2 d.

    >>> vit_parameters(12, 768, 16, 224)  # ViT-B/16 of timm without a classifier
    85798656
    """
    positions = (side // patch) ** 2 + 1
    return depth * (12 * width**2 + 13 * width) + (3 * patch**2 + 1) * width + positions * width + width + 2 * width


def clip_text_parameters(depth: int = 12, width: int = 512, words: int = 49_408, length: int = 77, image_width: int = 768) -> int:
    """Parameters of what CLIP has beside its image tower (Radford et al. 2021; ViT-B): text transformer, two projections, temperature.

    The whole of the released ViT-B/32 has 151,277,313 parameters, its image tower without projection 87,456,000.

    >>> clip_text_parameters() + 87456000
    151277313
    """
    blocks = depth * (12 * width**2 + 13 * width) + 2 * width
    return blocks + (words + length) * width + width * width + image_width * width + 1


def upernet_parameters(width: int, outputs: int, channels: int = 512) -> int:
    """Parameters of UPerNet on four maps of ``width`` (Xiao et al. 2018; sizes of mmsegmentation), the rescaler of plain ViTs included.

    Pyramid pooling to 1, 2, 3 and 6 cells, three lateral and three output convolutions and two 3 x 3 fusions, each with batch norm and
    without bias; transposed 2 x 2 convolutions make the maps x 4 (two, with one batch norm) and x 2 (one); one linear classifier.

    >>> upernet_parameters(768, 0), upernet_parameters(768, 1) - upernet_parameters(768, 0)
    (39337728, 513)
    """
    c = channels

    def convolution(inputs: int, kernel: int) -> int:
        return kernel**2 * inputs * c + 2 * c

    head = 7 * convolution(width, 1) + convolution(width + 4 * c, 3) + 3 * convolution(c, 3) + convolution(4 * c, 3)
    rescaler = 3 * (4 * width**2 + width) + 2 * width
    return head + rescaler + outputs * (c + 1)


def projector_parameters(width: int, out: int = VICUNA) -> int:
    """Parameters of LLaVA-1.5's projector, two linear layers with biases: width -> out -> out (Liu et al. 2024).

    >>> projector_parameters(768)
    19931136
    """
    return (width + 1) * out + (out + 1) * out


def _vit(text: str) -> tuple[str, int] | None:
    """(size, patch) of ``ViT-B/14``; None for another network."""
    found = re.fullmatch(r"ViT-(\w)/(\d+)", text)
    return (found[1], int(found[2])) if found else None


def _millions(count: float) -> str:
    return f"{count / 1e6:.1f} M"


# ---------------------------------------------------------------- Table 2


def _counted(at: Print) -> dict[str, int]:
    """Parameters of each encoder of Table 2 whose shape is known, from the printed architecture and input size."""
    counted = {}
    for model in dict.fromkeys(model for model, _ in at.fact):
        vit = _vit(at.fact[model, "architecture"]["value_text"])
        if vit and vit[0] in SHAPES:
            counted[model] = vit_parameters(*SHAPES[vit[0]], vit[1], int(at.fact[model, "resolution_px"]["value_numeric"]))
    return counted


def _unit(text: str) -> float:
    """One unit of the last digit of ``0.6 B`` or ``86 M``."""
    number, letter = text.split()
    return {"M": 1e6, "B": 1e9}[letter] / 10 ** len(number.partition(".")[2])


def _encoders(at: Print) -> Iterator[Claim]:
    ours, theirs = (float(at.fact[name, "images"]["value_numeric"]) for name in ("RadJEPA", "RAD-DINO"))
    larger = "RadJEPA" if ours > theirs else "RAD-DINO"
    apart = f"the printed sizes are equal to {100 * abs(ours - theirs) / theirs:.1f} %, and {larger}'s is the larger"
    yield Claim("Better than RAD-DINO with fewer training images", "text; Table 2", f"{ours:,.0f} against {theirs:,.0f}",
                verdict(ours < theirs), apart)  # fmt: skip
    many = [name for (name, key), row in at.fact.items() if key == "images" and float(row["value_numeric"]) >= 839_000
            and "CXR" in at.fact[name, "training_dataset"]["value_text"]]  # fmt: skip
    yield Claim("The best models so far were trained on over 839,000 images", "abstract and introduction; Table 2",
                f"on as many radiographs: {listed(many) if many else 'none'}; RAD-DINO on {theirs:,.0f}",
                verdict(any(not name.startswith("RadJEPA") for name in many)), f"{ours:,.0f} is RadJEPA's own size")  # fmt: skip
    counted = _counted(at)
    printed = {name: float(at.fact[name, "parameters"]["value_numeric"]) for name in counted}
    pair = ("RadJEPA", "RAD-DINO")
    shape = {name: at.fact[name, "architecture"]["value_text"] for name in pair}
    sides = {name: at.fact[name, "resolution_px"]["value_numeric"] for name in pair}
    same = "the same network" if len(set(shape.values())) == 1 else "two networks"
    yield Claim("Substantially smaller than the best other encoders", "text; Table 2",
                " against ".join(f"{name} {printed[name] / 1e6:.0f} M ({shape[name]})" for name in pair),
                verdict(printed["RadJEPA"] < 0.9 * printed["RAD-DINO"]),
                f"{same}: " + " and ".join(f"{_millions(counted[name])} with positions for {sides[name]} px" for name in pair))  # fmt: skip
    wrong = [name for name in counted if abs(counted[name] - printed[name]) > _unit(at.fact[name, "parameters"]["value_text"])]
    yield Claim("Parameters are those of the named vision transformers", "Table 2",
                f"{len(counted) - len(wrong)} of {len(counted)} to one unit of the last digit"
                + "".join(f"; {name}: {_millions(counted[name])}, printed {at.fact[name, 'parameters']['value_text']}" for name in wrong),
                verdict(not wrong), "by closed form" + "".join(
                    f"; {name} with CLIP's text tower: {_millions(counted[name] + clip_text_parameters())}" for name in wrong))  # fmt: skip


def _tables(at: Print) -> Iterator[Claim]:
    models = {2: {name for name, _ in at.fact}, 5: {row["encoder"] for row in at.published.tokens}}
    models |= {n: {s.model for s in at.published.scores if s.table == n and s.decoder != "Unet"} for n in (3, 4)}
    with_t, without = ([n for n in sorted(models) if name in models[n]] for name in ("BioViL-T", "BioViL"))
    side = _side_of(at, "BioViL") * STRIDE
    yield Claim("One name means one encoder: BioViL", "Tables 2 to 5",
                f"BioViL in Tables {listed(without)}, BioViL-T in {listed(with_t)}", CONTRADICTS if with_t and without else HOLDS,
                f"two released models; the printed tokens fit the {side} pixels to which BioViL-T crops")  # fmt: skip
    absent = {n: [name for name in dict.fromkeys(name for name, _ in at.fact) if not any(same_model(other, name) for other in models[n])]
              for n in (3, 4, 5)}  # fmt: skip
    yield Claim("Every encoder of Table 2 is compared in every task", "Tables 2 to 5",
                "; ".join(f"not in Table {n}: {listed(names)}" for n, names in absent.items() if names) or "all are",
                verdict(not any(absent.values())), "an encoder that is left out cannot be outperformed")  # fmt: skip
    sides = {name: row["value_numeric"] for (name, key), row in at.fact.items() if key == "resolution_px"}
    printed = {row["encoder"]: row["input_res"].split("x")[0] for row in at.published.tokens}
    differs = [f"{name}: {sides[name]} and {side}" for name, side in printed.items() if sides.get(name, side) != side]
    yield Claim("Input sizes of Tables 2 and 5 agree", "Tables 2 and 5", "; ".join(differs) or "all equal",
                CONTRADICTS if differs else HOLDS, "pixels a side, Table 2 first")  # fmt: skip


def _side_of(at: Print, encoder: str) -> int:
    """Cells a side of an encoder's printed tokens."""
    return round(next(int(row["n_tokens"]) for row in at.published.tokens if row["encoder"] == encoder) ** 0.5)


def _releases(at: Print) -> Iterator[Claim]:
    size, patch = _vit(at.fact["I-JEPA", "architecture"]["value_text"])
    table5 = next(row["input_res"] for row in at.published.tokens if row["encoder"] == "I-JEPA").split("x")[0]
    sides = {"Table 2": int(at.fact["I-JEPA", "resolution_px"]["value_numeric"]), "Table 5": int(table5)}
    word = {place: "released" if (size, patch, side) in IJEPA else "not released" for place, side in sides.items()}
    yield Claim(f"I-JEPA is the released ViT-{size}/{patch}", "Tables 2 and 5",
                ", ".join(f"at {side} pixels in {place}: {word[place]}" for place, side in sides.items()),
                verdict("not released" not in word.values()),
                "released: " + ", ".join(f"{s}/{p} at {x}" for s, p, x in sorted(IJEPA)))  # fmt: skip
    ours = _vit(at.fact["RadJEPA", "architecture"]["value_text"])[0]
    yield Claim("Fine-tuned from I-JEPA", "README of the released code; text",
                "README: fine-tuned from I-JEPA; text: pre-training on unlabelled radiographs, its initial weights not named",
                CONTRADICTS if ours not in {s for s, _, _ in IJEPA} else OPEN,
                f"I-JEPA was released as ViT-{listed(sorted({s for s, _, _ in IJEPA}))}, RadJEPA is a ViT-{ours}")  # fmt: skip


# ---------------------------------------------------------------- Table 5


def _tokens(at: Print) -> Iterator[Claim]:
    """Tokens are (side / patch) squared; the patch is the number after the slash of Table 2's architecture, or the stride of a ResNet."""
    fact = {name: row["value_text"] for (name, key), row in at.fact.items() if key == "architecture"}
    for row in dict.fromkeys((r["encoder"], r["input_res"], r["n_tokens"]) for r in at.published.tokens):
        encoder, side, tokens = row[0], int(row[1].split("x")[0]), int(row[2])
        architecture = next(text for model, text in fact.items() if same_model(model, encoder))
        vit = _vit(architecture)
        patch = vit[1] if vit else STRIDE
        why = f"({side} / {patch})², {architecture} of Table 2"
        root, fits = round(tokens**0.5), side % patch == 0 and (side // patch) ** 2 == tokens
        if side % patch:
            why += f"; {side} is no multiple of {patch}"
        if not fits and root**2 == tokens:
            why += f"; {tokens} = {root}² would need {root * patch} pixels"
        says = f"{side} / {patch} = {side / patch:.2f}" if side % patch else str((side // patch) ** 2)
        yield Claim(f"{encoder} sees {tokens} tokens at {side} pixels", "Table 5", says, verdict(fits), why)
    side, tokens = ({row["encoder"]: row[key].split("x")[0] for row in at.published.tokens} for key in ("input_res", "n_tokens"))
    wrong = tokens["RadJEPA"] == tokens["RAD-DINO"] and side["RadJEPA"] != side["RAD-DINO"]
    yield Claim("RadJEPA needs a lower input resolution than RAD-DINO", "text; Table 5",
                f"{side['RadJEPA']} against {side['RAD-DINO']} pixels, but {tokens['RadJEPA']} against {tokens['RAD-DINO']} tokens",
                CONTRADICTS if wrong else verdict(int(side["RadJEPA"]) < int(side["RAD-DINO"])),
                f"both have patches of {_vit(fact['RadJEPA'])[1]} pixels: as many tokens mean the same input")  # fmt: skip


# ---------------------------------------------------------------- Table 4


def _decoders(at: Print) -> Iterator[Claim]:
    rows = {(row["encoder"], row["decoder"]): row for row in at.decoders}
    linear = sorted({(int(row["n_features"]), int(row["decoder_params"])) for (_, kind), row in rows.items() if kind == "Linear"})
    yield Claim(f"Linear decoders have {listed(f'{count:,}' for _, count in linear)} parameters", "Table 4",
                ", ".join(f"{width:,} + 1 = {width + 1:,}" for width, _ in linear),
                verdict(all(width + 1 == count for width, count in linear)),
                f"one output channel, so per structure and not for the {listed(STRUCTURES.values())} of a task")  # fmt: skip
    for (encoder, kind), row in rows.items():
        if kind != "UPerNet":
            continue
        depths, width = map(int, row["n_features"].split("x"))
        size = _vit(at.fact[encoder, "architecture"]["value_text"])[0]
        own = SHAPES[size][1]
        counts = [upernet_parameters(own, outputs) for outputs in STRUCTURES.values()]
        right = own == width and all(_millions(count) == row["decoder_params_text"] for count in counts)
        yield Claim(f"{encoder}: UPerNet on {depths} × {width} features has {row['decoder_params_text']}", "Table 4",
                    f"{depths} × {own}: {min(counts):,} to {max(counts):,}", verdict(right),
                    f"closed form: {upernet_parameters(own, 0):,} and {upernet_parameters(own, 1) - upernet_parameters(own, 0)} an output; "
                    f"ViT-{size} is {own} wide")  # fmt: skip
    kinds: dict[str, list[str]] = {}
    for encoder, kind in rows:
        if kind != "Unet":
            kinds.setdefault(encoder, []).append(kind)
    without = [encoder for encoder, found in kinds.items() if "UPerNet" not in found]
    yield Claim("Encoders are compared under identical decoder configurations", "text; Table 4",
                f"UPerNet for {listed(encoder for encoder in kinds if encoder not in without)}"
                + (f"; Linear only for {listed(without)}" if without else ""), verdict(not without),
                "a linear decoder is not UPerNet, and I-JEPA's is larger (above)")  # fmt: skip


def _adapter(at: Print) -> Iterator[Claim]:
    width = SHAPES[_vit(at.fact["RadJEPA", "architecture"]["value_text"])[0]][1]
    two_layers = projector_parameters(width)
    yield Claim("The adapter is residual, v + λW₂σ(W₁v), and a two-layer projector", "text",
                f"the sum has the {width:,} numbers of v; the language model takes {VICUNA:,}",
                CONTRADICTS if width != VICUNA else HOLDS,
                f"{width} → {VICUNA} cannot add v; LLaVA-1.5's projector ({two_layers:,} parameters) does not")  # fmt: skip
