"""The phantom keeps its word: same arguments same bytes, exact masks, findings where they belong, true reports."""

import csv
import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radbench.datasets import phantom
from radbench.datasets.phantom import Finding, ImageFacts, Patient
from radbench.errors import ConfigError

SITES = {"A": 0.6, "B": 0.4}
SIX = ("Lung Opacity", "Cardiomegaly", "Pleural thickening", "Aortic enlargement", "Pulmonary fibrosis",
       "Pleural effusion")  # fmt: skip
Rendered = list[tuple[ImageFacts, np.ndarray, dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def people() -> list[Patient]:
    """Facts of 600 patients, nothing drawn."""
    return [phantom.draw_patient(index, 5, SITES) for index in range(600)]


@pytest.fixture(scope="module")
def rendered(people: list[Patient]) -> Rendered:
    """About 100 images of 60 patients."""
    facts = [facts for patient in people[:60] for _, facts in phantom.image_facts(patient)]
    return [(each, *phantom.render(each, 128)) for each in facts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    phantom.generate(root, patients=8, seed=1, size=64, sites=SITES)
    return root


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Files


def test_bytes_do_not_depend_on_workers(folder: Path, tmp_path: Path) -> None:
    """The same arguments write the same files, byte for byte, with one worker and with two."""
    phantom.generate(tmp_path, patients=8, seed=1, size=64, sites=SITES, workers=2)
    assert digests(tmp_path) == digests(folder)
    assert len(digests(folder)) > 8 * 4


def test_a_longer_run_begins_with_the_shorter_one(folder: Path, tmp_path: Path) -> None:
    """Patient k is the same patient however many are asked for, and with or without masks and reports."""
    phantom.generate(tmp_path, patients=3, seed=1, size=64, sites=SITES, masks=False, reports=False)
    assert {path.name for path in tmp_path.iterdir()} == {"images", "metadata.csv"}
    full, short = digests(folder), digests(tmp_path)
    assert all(full[name] == digest for name, digest in short.items() if name != "metadata.csv")


def test_another_seed_draws_other_patients(folder: Path, tmp_path: Path) -> None:
    """Another seed changes every image."""
    phantom.generate(tmp_path, patients=8, seed=2, size=64, sites=SITES)
    first = {digest for name, digest in digests(folder).items() if name.startswith("images")}
    second = {digest for name, digest in digests(tmp_path).items() if name.startswith("images")}
    assert len(first) == len(table(folder / "metadata.csv"))
    assert not first & second


def test_metadata_has_the_columns_of_the_tidy_folder(folder: Path) -> None:
    """metadata.csv names every image file once, with known columns, views, sites and labels of 1 or 0, and no split."""
    rows = table(folder / "metadata.csv")
    assert list(rows[0]) == ["image", "subject_id", "study_id", "view", "sex", "age", "site", "mask", *SIX]
    assert sorted(row["image"] for row in rows) == sorted(path.name for path in (folder / "images").iterdir())
    assert {row["view"] for row in rows} <= {"PA", "AP"}
    assert {row["sex"] for row in rows} <= {"F", "M"}
    assert {row["site"] for row in rows} <= set(SITES)
    assert {row[label] for row in rows for label in SIX} == {"0", "1"}
    assert {row["mask"] for row in rows} == {""}
    assert len({row["subject_id"] for row in rows}) == 8
    assert {row["study_id"] for row in rows} == {row["study_id"] for row in table(folder / "reports.csv")}


def test_mask_files_decode_to_what_was_rendered(folder: Path) -> None:
    """The 28 rows of structures.csv, read as the format says, give back the rendered masks of every image."""
    rows = table(folder / "structures.csv")
    assert len(rows) == len({row["structure"] for row in rows}) == 28
    checked = 0
    for index in range(8):
        for _, facts in phantom.image_facts(phantom.draw_patient(index, 1, SITES)):
            _, masks = phantom.render(facts, 64)
            for row in rows:
                stored = np.asarray(Image.open(folder / "masks" / row["mask_file"].replace("{stem}", facts.stem)))
                assert np.array_equal((stored >> int(row["bit"])) & 1 == 1, masks[row["structure"]]), row["structure"]
                checked += 1
    assert checked == 28 * len(table(folder / "metadata.csv"))


def test_scanners_write_their_own_bit_depth(folder: Path) -> None:
    """Site A stores 8 bits, site B 16 bits that fill the range, both with the asked height and a nearby width."""
    for row in table(folder / "metadata.csv"):
        pixels = np.asarray(Image.open(folder / "images" / row["image"]))
        assert pixels.dtype == (np.uint8 if row["site"] == "A" else np.uint16)
        assert pixels.shape[0] == 64
        assert 0.83 <= pixels.shape[1] / 64 <= 1.07
        assert pixels.max() > 0.6 * np.iinfo(pixels.dtype).max


def test_unknown_site_is_refused(tmp_path: Path) -> None:
    """A site without a scanner is an error, not a silent default, and nothing is written."""
    with pytest.raises(ConfigError, match="scanners"):
        phantom.generate(tmp_path, patients=1, seed=0, sites={"C": 1.0})
    assert not list(tmp_path.iterdir())


# Facts


def test_prevalences_are_the_declared_ones(people: list[Patient]) -> None:
    """Among 600 first studies each label occurs as often as declared, within 3.5 binomial standard deviations."""
    for label, declared in phantom.PREVALENCE.items():
        found = np.mean([label in patient.studies[0].findings for patient in people])
        # Site B sees slightly sicker patients: allow for its share on the upper side.
        spread = 3.5 * np.sqrt(declared * (1 - declared) / len(people))
        assert declared - spread < found < declared + 0.02 + spread, label


def test_effusion_goes_with_cardiomegaly_and_findings_with_age(people: list[Patient]) -> None:
    """Effusion is commoner with cardiomegaly than without, and patients with findings are older."""
    heart = np.array(["Cardiomegaly" in patient.studies[0].findings for patient in people])
    fluid = np.array(["Pleural effusion" in patient.studies[0].findings for patient in people])
    ages = np.array([patient.age for patient in people])
    ill = np.array([bool(patient.studies[0].findings) for patient in people])
    assert fluid[heart].mean() > 1.5 * fluid[~heart].mean()
    assert ages[ill].mean() > ages[~ill].mean() + 2


def test_patients_have_one_to_three_images_of_one_anatomy(people: list[Patient]) -> None:
    """A patient has 1 to 3 images, 1.6 on average, and chronic findings stay from study to study."""
    counts = [sum(len(study.images) for study in patient.studies) for patient in people]
    assert set(counts) == {1, 2, 3}
    assert 1.45 < np.mean(counts) < 1.75
    for label in ("Cardiomegaly", "Aortic enlargement", "Pulmonary fibrosis", "Pleural thickening"):
        assert all(len({label in study.findings for study in patient.studies}) == 1 for patient in people)


def test_cardiothoracic_ratio_tells_cardiomegaly_apart_but_not_at_the_border(people: list[Patient]) -> None:
    """At full breath PA the ratio is above 0.5 exactly when the label says so; as taken, the two groups overlap."""
    ideal: dict[bool, list[float]] = {True: [], False: []}
    taken: dict[bool, list[float]] = {True: [], False: []}
    for patient in people:
        for _, facts in phantom.image_facts(patient):
            positive = "Cardiomegaly" in facts.findings
            taken[positive].append(phantom.cardiothoracic_ratio(facts))
            standard = dataclasses.replace(facts.acquisition, view="PA", breath=1.0)
            ideal[positive].append(phantom.cardiothoracic_ratio(dataclasses.replace(facts, acquisition=standard)))
    assert min(ideal[True]) > 0.5 > max(ideal[False])
    assert np.mean(taken[True]) > np.mean(taken[False]) + 0.08
    assert min(taken[True]) < max(taken[False])


# Masks


def test_left_and_right_are_the_patients(rendered: Rendered) -> None:
    """The patient's left lung and ribs lie at larger columns than the right ones, and the heart leans left."""
    for _, image, masks in rendered:
        columns = np.arange(image.shape[1])
        centre = {name: (mask.sum(0) * columns).sum() / mask.sum() for name, mask in masks.items() if mask.any()}
        assert centre["lung_left"] > centre["lung_right"] + 0.2 * image.shape[1]
        assert centre["rib_left_05"] > centre["rib_right_05"]
    left, right = (sum(int(masks[f"lung_{side}"].sum()) for *_, masks in rendered) for side in ("left", "right"))
    assert left < right


def test_zones_partition_each_lung(rendered: Rendered) -> None:
    """Upper, mid and lower zone are disjoint, together are exactly the lung, and lie in that order."""
    for _, _, masks in rendered:
        for side in ("left", "right"):
            zones = [masks[f"zone_{side}_{name}"] for name in ("upper", "mid", "lower")]
            assert np.array_equal(np.sum(zones, axis=0), masks[f"lung_{side}"].astype(int))
            heights = [np.nonzero(zone)[0].mean() for zone in zones]
            assert heights == sorted(heights)


def test_ribs_are_complete_and_in_order(rendered: Rendered) -> None:
    """In at least 99 % of images all 20 ribs are there and follow each other downwards on each side."""
    complete = 0
    for _, _, masks in rendered:
        good = True
        for side in ("left", "right"):
            ribs = [masks[f"rib_{side}_{number:02d}"] for number in range(1, 11)]
            good &= all(rib.sum() > 20 for rib in ribs)
            heights = [np.nonzero(rib)[0].mean() for rib in ribs if rib.any()]
            good &= heights == sorted(heights)
        complete += good
    assert complete >= 0.99 * len(rendered)


def test_lungs_are_darker_than_what_lies_between_them(rendered: Rendered) -> None:
    """In every image the lungs are darker than the mediastinum between them: white is dense."""
    for facts, image, masks in rendered:
        lungs = masks["lung_left"] | masks["lung_right"]
        between = np.zeros_like(lungs)
        for row in np.flatnonzero(masks["lung_left"].any(1) & masks["lung_right"].any(1)):
            right = np.flatnonzero(masks["lung_right"][row])[-1]
            between[row, right + 2 : np.flatnonzero(masks["lung_left"][row])[0] - 1] = True
        if "Pleural effusion" not in facts.findings:
            assert image[lungs].mean() < image[between].mean() - 0.1, facts.stem


# Findings


@pytest.fixture(scope="module")
def healthy(people: list[Patient]) -> ImageFacts:
    """One straight PA image without findings or devices."""
    facts = next(facts for patient in people for _, facts in phantom.image_facts(patient)
                 if not facts.findings and facts.site == "A" and facts.acquisition.view == "PA")  # fmt: skip
    straight = dataclasses.replace(facts.acquisition, tilt=0.0, yaw=0.0, devices=(), marker="", collimation=None)
    return dataclasses.replace(facts, acquisition=straight)


def whiter(healthy: ImageFacts, label: str, finding: Finding) -> tuple[np.ndarray, dict, dict]:
    """How much the finding whitens each pixel, and the masks without and with it."""
    before, masks = phantom.render(healthy, 192)
    after, masks_after = phantom.render(dataclasses.replace(healthy, findings={label: finding}), 192)
    return after - before, masks, masks_after


@pytest.mark.parametrize("label", SIX)
def test_a_finding_changes_the_image_and_rendering_is_pure(healthy: ImageFacts, label: str) -> None:
    """A severe finding changes the image more than a mild one, and rendering twice gives the same image."""
    places = {"Lung Opacity": (("left", "mid"),), "Pleural thickening": (("left", "upper"),),
              "Pleural effusion": (("left", ""),)}.get(label, ())  # fmt: skip
    change = [np.abs(whiter(healthy, label, Finding(severity, places))[0]).mean() for severity in (0.0, 0.3, 0.95)]
    again = np.abs(whiter(healthy, label, Finding(0.95, places))[0]).mean()
    assert 0 < change[1] < change[2] == again


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("zone", ["upper", "mid", "lower"])
def test_opacity_is_in_its_zone(healthy: ImageFacts, side: str, zone: str) -> None:
    """A lung opacity whitens the zone it names most of all six."""
    change, masks, _ = whiter(healthy, "Lung Opacity", Finding(0.8, ((side, zone),)))
    by_zone = {name: change[mask].mean() for name, mask in masks.items() if name.startswith("zone")}
    assert max(by_zone, key=by_zone.get) == f"zone_{side}_{zone}"
    assert by_zone[f"zone_{side}_{zone}"] > 0.02


@pytest.mark.parametrize("side", ["left", "right"])
def test_effusion_is_at_the_bottom_of_its_side(healthy: ImageFacts, side: str) -> None:
    """An effusion whitens the lower zone of its side, and leaves the upper zone and the other lung nearly alone."""
    other = "right" if side == "left" else "left"
    change, masks, _ = whiter(healthy, "Pleural effusion", Finding(0.7, ((side, ""),)))
    lower = change[masks[f"zone_{side}_lower"]].mean()
    assert lower > 0.07
    assert lower > 5 * np.abs(change[masks[f"zone_{side}_upper"]]).mean()
    assert lower > 5 * np.abs(change[masks[f"lung_{other}"]]).mean()


@pytest.mark.parametrize("level", ["upper", "mid", "lower"])
def test_pleural_thickening_hugs_the_wall(healthy: ImageFacts, level: str) -> None:
    """Pleural thickening whitens the outer rim of its zone more than the rest of that lung and the other lung."""
    change, masks, _ = whiter(healthy, "Pleural thickening", Finding(0.9, (("left", level),)))
    lung, zone = masks["lung_left"], masks[f"zone_left_{level}"]
    outermost = lung.shape[1] - 1 - np.argmax(lung[:, ::-1], axis=1)
    rim = zone & (np.arange(lung.shape[1])[None] > outermost[:, None] - 8)
    assert change[rim].mean() > 0.05
    assert change[rim].mean() > 4 * np.abs(change[lung & ~zone]).mean()
    assert change[rim].mean() > 5 * np.abs(change[masks["lung_right"]]).mean()


def test_fibrosis_is_basal_and_rough(healthy: ImageFacts) -> None:
    """Fibrosis roughens the lower zones more than the upper ones, on both sides, and raises the domes."""
    change, masks, after = whiter(healthy, "Pulmonary fibrosis", Finding(0.9))
    for side in ("left", "right"):
        lower, upper = masks[f"zone_{side}_lower"] & after[f"lung_{side}"], masks[f"zone_{side}_upper"]
        assert change[lower].std() > 2.5 * change[upper].std()
        assert after[f"lung_{side}"].sum() < masks[f"lung_{side}"].sum()


def test_large_heart_covers_lung_beside_the_heart(healthy: ImageFacts) -> None:
    """Cardiomegaly takes lung of the lower half next to the midline and whitens what it takes."""
    change, masks, after = whiter(healthy, "Cardiomegaly", Finding(0.8))
    covered = masks["lung_left"] & ~after["lung_left"]
    assert covered.sum() > 0.1 * masks["lung_left"].sum()
    assert covered[masks["zone_left_upper"]].mean() < 0.05
    assert change[covered].mean() > 0.1
    assert change[covered].mean() > 6 * np.abs(change[masks["zone_right_upper"]]).mean()


def test_large_aorta_bulges_at_the_left_upper_mediastinum(healthy: ImageFacts) -> None:
    """Aortic enlargement whitens the medial part of the left upper and mid lung, not the lateral lung."""
    change, masks, after = whiter(healthy, "Aortic enlargement", Finding(0.8))
    knob = masks["lung_left"] & ~after["lung_left"]
    assert knob.sum() > 30
    assert not (knob & masks["zone_left_lower"]).any()
    assert change[knob].mean() > 0.1
    assert change[knob].mean() > 8 * np.abs(change[masks["zone_right_lower"]]).mean()


def test_brightness_is_not_the_answer(people: list[Patient]) -> None:
    """Mean grey of an image ranks positives and negatives of no label better than 0.65 or worse than 0.35 (AUROC)."""
    first = [next(phantom.image_facts(patient))[1] for patient in people[:250]]
    grey = np.array([phantom.render(facts, 48, masks=False)[0].mean() for facts in first])
    for label in SIX:
        positive = np.array([label in facts.findings for facts in first])
        auroc = np.mean(grey[positive][:, None] > grey[~positive][None])
        assert 0.35 < auroc < 0.65, label


# Reports

TERMS = {
    "Lung Opacity": r"opacity|consolidation",
    "Cardiomegaly": r"cardiomegaly|heart|cardiac|cardiomediastinal",
    "Pleural thickening": r"pleural thickening",
    "Aortic enlargement": r"aort",
    "Pulmonary fibrosis": r"fibrosis|reticular",
    "Pleural effusion": r"effusion",
}
DENIED = r"\b(no|not|normal)\b"


def stated(text: str) -> dict[str, list[str]]:
    """The sentences that assert each finding."""
    sentences = [sentence for sentence in re.split(r"\.\s*", text.lower()) if not re.search(DENIED, sentence)]
    return {label: [sentence for sentence in sentences if re.search(term, sentence)] for label, term in TERMS.items()}


def test_reports_assert_exactly_the_positive_labels(people: list[Patient]) -> None:
    """Over 300 studies, a report asserts a finding once if its label is 1 and never if it is 0, with the right side."""
    studies = [(study, phantom.report(patient, study)) for patient in people[:250] for study in patient.studies]
    assert len(studies) >= 300
    for study, text in studies:
        for label, sentences in stated(text).items():
            assert len(sentences) == (label in study.findings), (label, text)
            if sentences and label in ("Lung Opacity", "Pleural thickening", "Pleural effusion"):
                sides = {side for side, _ in study.findings[label].places}
                words = sentences[0].replace("bilateral", "left right").replace("both", "left right")
                assert {side for side in ("left", "right") if side in words} == sides, text


def test_reports_have_the_declared_size_and_vocabulary(people: list[Patient]) -> None:
    """Reports have 2 to 6 sentences and about 25 to 60 words, from a vocabulary of 150 to 250 words."""
    texts = [phantom.report(patient, study) for patient in people for study in patient.studies]
    lengths = np.array([len(text.split()) for text in texts])
    sentences = np.array([text.count(".") for text in texts])
    assert sentences.min() >= 2
    assert sentences.max() <= 6
    assert lengths.min() >= 20
    assert lengths.max() <= 60
    assert np.mean(lengths < 25) < 0.02
    assert 150 <= len({word for text in texts for word in re.findall(r"[a-z]+", text.lower())}) <= 250
    assert len(set(texts)) > 0.95 * len(texts)
