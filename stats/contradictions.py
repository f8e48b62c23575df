"""Claims of the paper's text, beside another place of the text, the printed tables, or what the owners of the data counted.

Words of the paper stand here as they were noted from it, in short; section numbers are the paper's. The owners' counts are no
numbers of the paper: OWNERS names where each comes from.
"""

from __future__ import annotations

from collections.abc import Iterator

from .printed import CONTRADICTS, FAILS, HOLDS, OPEN, SIX, Claim, Print, listed, verdict

#: What the owners of the data say they released, and where they say it.
OWNERS = {
    ("BRAX", "images"): (40_967, "BRAX 1.1.0, PhysioNet"),
    ("BRAX", "studies"): (24_959, "BRAX 1.1.0, PhysioNet"),
    ("CheXpert", "train"): (223_414, "rows of train.csv"),
    ("CheXpert", "valid"): (234, "rows of valid.csv"),
    ("CheXpert", "test"): (668, "test images, published with CheXlocalize"),
    ("CheXpert", "lateral"): (32_387 + 32, "lateral rows of train.csv and valid.csv"),
    ("MIMIC-CXR", "subjects"): (65_379, "MIMIC-CXR 2.0.0, PhysioNet"),
    ("MIMIC-CXR", "validate"): (2_991, "mimic-cxr-2.0.0-split.csv"),
    ("MIMIC-CXR subset", "all"): (1_141, "Chest X-ray segmentation images based on MIMIC-CXR 1.0.0, PhysioNet"),
    ("ChestX-ray14", "subjects"): (30_805, "Data_Entry_2017.csv"),
    ("ChestX-ray8", "subjects"): (32_717, "Wang et al. 2017"),
    ("PadChest", "images"): (160_861, "rows of the owner's table of labels"),
    ("RSNA-Pneumonia", "images"): (26_684, "images of stage_2_train_labels.csv"),
    ("VinDr-CXR", "images"): (18_000, "Nguyen et al. 2022"),
    ("VinDr-RibCXR", "images"): (245, "Nguyen et al. 2021"),
}
#: Pre-training set that an evaluation set is taken from, by the latter's owners.
TAKEN_FROM = {"RSNA-Pneumonia": "ChestX-ray14", "MIMIC-CXR subset": "MIMIC-CXR", "MIMIC-CXR": "MIMIC-CXR"}
#: Batches in the text: task, devices, images a device, batch.
BATCHES = (("linear probe", 3, 32, 96), ("segmentation", 4, 20, 80), ("reports", 4, 32, 128))
#: Epochs, and stages before the one in which the language model is trained: the script of LLaVA-1.5 (haotian-liu/LLaVA), the paper.
LLAVA, PAPER = {"epochs": 1, "stages before": 1}, {"epochs": 3, "stages before": 0}

#: Two places of the text that exclude each other: claim, where, one place, the other, why both cannot be.
TEXTS = (
    ("Linear probe: one head and loss", "§3.2, §6.1.2", "softmax cross-entropy (§3.2)", "sigmoid, binary cross-entropy (§6.1.2)",
     f"a softmax allows an image one finding; the {len(SIX)} of VinDr-CXR occur together"),
    ("Scores are means over one kind of repeat", "§6.1.2, Table 3", "5-fold cross-validation (§6.1.2)", "five random seeds (Table 3)",
     "VinDr-CXR's test set is fixed: no folds over it"),
    ("Scores come with their spread", "§6.1.2, Tables 3 to 5", "mean ± std; medians with 95 % intervals (text, captions)",
     "one number a cell (Tables 3 to 5)", "read from the printed tables, not computed: results/published copies single numbers"),
    ("Segmentation: softmax over the structures of a task", "§3.3", "pixel softmax cross-entropy (§3.3)",
     "20 ribs, six zones (tasks)", "a softmax gives a pixel to one structure; ribs overlap, boxes of zones touch"),
    ("Pre-training loss is Meta I-JEPA's", "§1, §3.1", "squared L2 (§1, §3.1)", "follows Meta I-JEPA (text)",
     "whose code has smooth L1 on layer-normalised targets"),
    ("Pre-training regions are Meta I-JEPA's", "text", "two non-overlapping regions", "follows Meta I-JEPA",
     "whose code predicts four target blocks from one context"),
    ("Pre-training uses no data augmentation", "text", "no data augmentation", "follows Meta I-JEPA",
     "whose code crops at random (scale 0.3 to 1) and resizes"),
    ("Pre-training has one target encoder", "§1, §3.1", "the encoder itself, with stop-gradient (first equation, §1)",
     "a moving average of it (§3.1)", "two training rules"),
    ("PL-T is one finding", "§6.1.3, Table 3", "pulmonary lesions (§6.1.3)", "Pleural Thickening (caption of Table 3)",
     "the pleura is no lesion of the lung; VinDr-CXR's label is Pleural thickening"),
)  # fmt: skip


def claims(at: Print) -> Iterator[Claim]:
    """The text against itself, Table 1 and the splits against the owners."""
    for check in (_cells, _external, _splits, _training):
        yield from check(at)
    for claim, where, one, other, why in TEXTS:
        yield Claim(claim, where, f"{one}; {other}", CONTRADICTS, why)


def _owner(dataset: str, quantity: str) -> tuple[str, int, str]:
    """A count of the owners as text and number, and its source."""
    count, source = OWNERS[dataset, quantity]
    return f"{count:,}", count, source


# ---------------------------------------------------------------- Table 1


def _cells(at: Print) -> Iterator[Claim]:
    """Cells of Table 1 for which the owners say another number, or the same number of something else."""

    def cell(dataset: str, quantity: str, says: str, right: bool, why: str) -> Claim:
        return Claim(f"{dataset}: {at.count[dataset, quantity]:,} {quantity}", "Table 1", says, verdict(right), why)

    for dataset, quantity in (("BRAX", "images"), ("MIMIC-CXR", "subjects"), ("ChestX-ray14", "subjects"), ("PadChest", "images")):
        text, count, source = _owner(dataset, quantity)
        apart = at.count[dataset, quantity] - count
        why = f"{abs(apart):,} {'more' if apart > 0 else 'fewer'} than exist; {source}" if apart else source
        if dataset == "ChestX-ray14" and at.count[dataset, quantity] == OWNERS["ChestX-ray8", "subjects"][0]:
            why += "; the printed number is that of the earlier ChestX-ray8"
        yield cell(dataset, quantity, f"{text} {quantity}", not apart, why)
    studies, count, source = _owner("BRAX", "studies")
    same = at.count["BRAX", "frontal"] == count
    yield cell("BRAX", "frontal", f"{studies} studies", not same, f"as many images as studies; {source}" if same else source)
    parts = [OWNERS["CheXpert", part][0] for part in ("train", "valid", "test")]
    held_out = sum(parts) == at.count["CheXpert", "images"]
    yield Claim(f"CheXpert: {at.count['CheXpert', 'images']:,} images to pre-train on", "Table 1",
                " + ".join(f"{part:,}" for part in parts) + f" = {sum(parts):,}", verdict(held_out),
                f"{'as a count; ' * held_out}{parts[1]} are for validation, {parts[2]} for testing")  # fmt: skip
    lateral, count, source = _owner("CheXpert", "lateral")
    extra = at.count["CheXpert", "lateral"] - count
    yield cell("CheXpert", "lateral", f"{lateral} of train and valid", not extra,
               f"{extra:,} more" + (", all test images, frontal ones too" if extra == parts[2] else "") + f"; {source}")  # fmt: skip
    images, frontal = at.count["PadChest", "images"], at.count["PadChest", "frontal"]
    yield Claim(f"PadChest: {at.count['PadChest', 'lateral']:,} lateral", "Table 1",
                f"{images:,} − {frontal:,} = {images - frontal:,}", OPEN,
                "a remainder; the owner's table also has horizontal AP and costal projections, which are not lateral")  # fmt: skip


def _external(at: Print) -> Iterator[Claim]:
    trained = {name for name, _ in at.count}
    task_of = {row["dataset"]: row["task"] for row in at.published.splits}
    seen = {name: TAKEN_FROM[name] for name in task_of if TAKEN_FROM.get(name) in trained}
    probed = [name for name, task in task_of.items() if task == "linear_probe" and name in seen]
    external = listed(name for name in task_of if name not in seen)
    yield Claim("The classification benchmarks are external", "text; Table 1",
                "; ".join(f"{name} is drawn from {seen[name]}, which is in Table 1" for name in probed) or "none is in Table 1",
                verdict(not probed), f"external of all that are tested: {external}")  # fmt: skip
    text, count, source = _owner("RSNA-Pneumonia", "images")
    printed = at.size["RSNA-Pneumonia", "all"]
    yield Claim(f"RSNA has {printed:,} subjects", "text", f"{text} images", verdict(printed != count),
                f"some subjects have several images; {source}")  # fmt: skip
    text, _, _ = _owner("VinDr-CXR", "images")
    yield Claim("VinDr-CXR has 18,000 unique patients", "text", f"{text} images", OPEN, "no patient id is released")


# ---------------------------------------------------------------- splits


def _splits(at: Print) -> Iterator[Claim]:
    everyone = at.size["RSNA-Pneumonia", "all"]
    test = at.size["RSNA-Pneumonia", "test"]
    yield Claim(f"RSNA test set: 20 % of {everyone:,} are {test:,}", "text", f"{0.2 * everyone:,.1f}",
                verdict(round(0.2 * everyone) == test), "rounded")  # fmt: skip
    for dataset, says, result in (("VinDr-CXR", "how a checkpoint is chosen is not said", OPEN),
                                  ("VinDr-RibCXR", "the checkpoint is that of lowest validation loss (text)", CONTRADICTS)):  # fmt: skip
        train, test = at.size[dataset, "train+val"], at.size[dataset, "test"]
        text, count, source = _owner(dataset, "images")
        left = count - train - test
        yield Claim(f"{dataset}: checkpoints are chosen on validation images", "text",
                    f"{train:,} + {test:,} leave {left} of {text}; {says}",
                    HOLDS if left else result, f"70/15/15 elsewhere; {source}")  # fmt: skip
    text, count, source = _owner("MIMIC-CXR", "validate")
    val = at.size["MIMIC-CXR", "val"]
    yield Claim(f"Reports: the official split of MIMIC-CXR, {val:,} for validation", "text", f"{val:,} of the {text} that there are",
                verdict(val <= count), f"train and validate were divided anew; {source}" if val > count else source)  # fmt: skip
    text, count, source = _owner("MIMIC-CXR subset", "all")
    images = at.size["MIMIC-CXR subset", "all"]
    yield Claim(f"Lungs and zones: {images:,} images of the MIMIC-CXR subset", "text", f"{text}; {count - images} are missing",
                verdict(images == count), f"which ones is not said; {source}")  # fmt: skip
    yield Claim("Left and right lung and six zones are annotated", "text",
                "one mask for both lungs; zones are boxes (Chest ImaGenome)", FAILS,
                "sides and zones have to be made from boxes, and Dice of a zone partly measures its box")  # fmt: skip


# ---------------------------------------------------------------- training


def _training(at: Print) -> Iterator[Claim]:
    for task, devices, each, total in BATCHES:
        yield Claim(f"Batch of the {task}: {devices} devices of {each} are {total}", "text", str(devices * each),
                    verdict(devices * each == total), "arithmetic only")  # fmt: skip
    _, _, each, total = BATCHES[-1]
    yield Claim("Reports: trained on four A100 compute nodes", "text", f"{total} / {each} = {total / each:.0f} devices", OPEN,
                "fits nodes of one GPU; otherwise four GPUs are meant")  # fmt: skip
    differ = [f"{name} {PAPER[name]} instead of {LLAVA[name]}" for name in LLAVA if PAPER[name] != LLAVA[name]]
    yield Claim("Reports: the hyper-parameters of LLaVA-1.5", "text", "; ".join(differ) or "the same", verdict(not differ),
                "LLaVA-1.5 trains the projector alone first")  # fmt: skip
