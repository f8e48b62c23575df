"""The paper's claims: recomputed numbers pinned by hand arithmetic on the printed tables, and a page that is fresh."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from stats.claims import PUBLISHED, claims, main, page
from stats.detectable import CORRELATIONS, Noise, simulate
from stats.errors import SpecError
from stats.printed import CONTRADICTS, FAILS, HOLDS, OPEN, VERDICTS
from stats.published import Published
from stats.ranking import auroc

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found():
    return {claim.claim: claim for claim in claims(Published(PUBLISHED))}


def one(found, *words):
    """The only claim that contains all the words."""
    hits = [claim for text, claim in found.items() if all(word in text for word in words)]
    assert len(hits) == 1, [claim.claim for claim in hits]
    return hits[0]


def test_the_page_is_fresh():
    """docs/claims.md is what `python -m stats.claims` writes today."""
    assert (ROOT / "docs/claims.md").read_text(encoding="utf-8") == page(Published(PUBLISHED))


def test_every_claim_has_a_verdict_and_a_reason(found):
    """Each row is complete and of one line, no two claim the same, its verdict is one of four, and all four occur."""
    assert {claim.verdict for claim in found.values()} == set(VERDICTS)
    assert all(claim.where and claim.says and claim.why for claim in found.values())
    assert not any("\n" in text for claim in found.values() for text in vars(claim).values())
    assert len(found) == len(claims(Published(PUBLISHED)))


@pytest.mark.parametrize(
    ("row", "total", "printed", "verdict", "seventh"),
    [  # the six printed classes of Table 3, added by hand
        ("RAD-DINO", 14.9 + 69.9 + 36.6 + 44.6 + 59.4 + 77.8, 52.8, FAILS, "66.4"),
        ("MRM", 12.2 + 79.7 + 35.8 + 47.7 + 47.1 + 77.2, 51.3, FAILS, "59.4"),
        ("CLIP@224", 9.7 + 42.6 + 18.8 + 30.0 + 24.1 + 21.8, 23.8, FAILS, "19.6"),
        ("RadJEPA", 19.2 + 72.6 + 42.2 + 58.6 + 63.9 + 74.4, 55.2, HOLDS, ""),
        ("RAD-DINO*", 14.2 + 68.4 + 35.8 + 48.5 + 57.2 + 74.9, 49.8, HOLDS, ""),
    ],
)
def test_aggregates_by_hand(found, row, total, printed, verdict, seventh):
    """The mean of six and the seventh class that the printed Agg. implies are those of hand arithmetic."""
    claim = one(found, f"Agg. of {row} is")
    assert claim.says == f"{total / 6:.2f}" and claim.verdict == verdict
    if seventh:
        assert seventh == f"{7 * printed - total:.1f}" and f"class at {seventh} " in claim.why


def test_gains_by_hand(found):
    """19.2 - 15.6, 63.9 - 59.4, 89.6 - 84.8 and their like are what the table says, and each verdict follows."""
    assert one(found, "Above I-JEPA").says == "LO +3.6, CM +2.3, PL-T +5.4, AE +10.7, PF +4.9, PE +3.9"
    assert (one(found, "PF: +4.5").says, one(found, "PF: +4.5").verdict) == ("published +4.5, reproduced +6.7", HOLDS)
    assert (one(found, "Ribs: +4.8").says, one(found, "Ribs: +4.8").verdict) == ("published +4.3, reproduced +4.8", HOLDS)
    assert one(found, "against one row of it").verdict == FAILS
    iu = one(found, "IU-Xray: +1.7")
    assert iu.says == "over RAD-DINO*: +2.1, +0.9, +1.2; over I-JEPA: +1.7, +0.7, +1.3" and iu.verdict == FAILS
    assert iu.why == "RG_ER: the gap to RAD-DINO*; ROUGE-L and Macro-F1-14: the gap to I-JEPA"
    assert "published row" in one(found, "PF: +4.5").why and "reproduced row" in one(found, "Ribs: +4.8").why
    assert one(found, "Dice gains").why.startswith("true of lung zones and ribs")
    assert one(found, "upper bound").why.startswith("met in lungs; exceeded in lung zones and ribs")
    margin = one(found, "margin over RAD-DINO")
    assert margin.says.startswith(f"{(330.9 - 303.2) / 6:.1f} ") and margin.verdict == FAILS


def test_consistently_outperforms_does_not_hold(found):
    """RadJEPA is third in CM and fourth in PE; the encoders before it are named."""
    claim = one(found, "Consistently outperforms")
    assert claim.verdict == FAILS and "CM rank 3, behind MRM 79.7, CheXzero 74.4" in claim.says and "PE rank 4" in claim.says


def test_controls_by_hand(found):
    """The control is nowhere below RAD-DINO's control, and below I-JEPA in three columns of MIMIC-CXR."""
    assert one(found, "outperforms RAD-DINO_control").says == "8 of 8 columns"
    below = one(found, "RadJEPA_control", "outperforms I-JEPA")
    assert below.verdict == FAILS and below.says.endswith("ROUGE-L −0.1, MIMIC RG_ER −0.1, MIMIC Macro-F1-14 −0.2")


def test_copied_rows_by_hand(found):
    """Six rows are no mean of six; RadJEPA would tie RAD-DINO's 52.8 with 7 x 52.8 - 330.9 = 38.7 in the class that is not printed."""
    copied = one(found, "run by the authors")
    assert copied.says.endswith("CLIP@224, CLIP@336, BioViL-T, CheXzero, MRM and RAD-DINO") and copied.verdict == FAILS
    assert copied.why.endswith("BiomedCLIP fits both")
    seven = one(found, "mean of seven")
    assert f"{7 * 52.8 - 330.9:.1f} in" in seven.says and seven.verdict == OPEN


def test_tokens_by_hand(found):
    """224 / 14 = 16 gives 256 tokens; 1369 = 37² would need 518 pixels; 224 / 32 = 7 gives the printed 49; 14 x 32 = 448."""
    claim = one(found, "RadJEPA sees")
    assert (claim.says, claim.verdict) == ("256", FAILS) and "1369 = 37² would need 518 pixels" in claim.why
    assert one(found, "CheXzero sees").verdict == HOLDS and one(found, "BiomedCLIP sees").says == "196"
    assert "no multiple of 14; 576 = 24² would need 336 pixels" in one(found, "CLIP@336 sees").why
    assert one(found, "BioViL sees").verdict == FAILS and "196 = 14² would need 448 pixels" in one(found, "BioViL sees").why
    assert one(found, "lower input resolution").verdict == CONTRADICTS


def test_networks_by_closed_form(found):
    """UPerNet has 39,337,728 + 513 an output on 4 x 768 and 56.1 M on ViT-H's 4 x 1280; CheXzero's 151 M are both of CLIP's towers."""
    ours, theirs = one(found, "RadJEPA: UPerNet"), one(found, "I-JEPA: UPerNet")
    assert ours.says == f"4 × 768: {39_337_728 + 2 * 513:,} to {39_337_728 + 20 * 513:,}" and ours.verdict == HOLDS
    assert theirs.says.startswith("4 × 1280: 56,1") and theirs.verdict == FAILS
    assert one(found, "Linear decoders").says == "768 + 1 = 769, 2,048 + 1 = 2,049"
    parameters = one(found, "named vision transformers")
    assert parameters.says.startswith("9 of 10") and "CheXzero: 87.5 M, printed 151 M" in parameters.says
    assert parameters.why.endswith("151.3 M") and "85.7 M" in one(found, "Substantially smaller").why
    adapter = one(found, "adapter")
    assert adapter.verdict == CONTRADICTS and "19,931,136" in adapter.why and "768 → 4096" in adapter.why


def test_who_is_compared(found):
    """DINO-v2 is in neither Table 3 nor 4, three encoders share UPerNet, BioViL has two names, ViT-H/14 at 448 was not released."""
    missing = one(found, "compared in every task").says.split("; ")
    assert missing[0].startswith("not in Table 3: DINO-v2") and "DINO-v2" in missing[1] and missing[2] == "not in Table 5: MRM"
    assert one(found, "identical decoder").says.startswith("UPerNet for RAD-DINO, I-JEPA and RadJEPA; Linear only for BioViL-T")
    assert one(found, "One name").verdict == CONTRADICTS
    assert one(found, "released ViT-H/14").says == "at 448 pixels in Table 2: not released, at 224 pixels in Table 5: released"
    assert one(found, "over 839,000").verdict == FAILS and one(found, "Fine-tuned").verdict == CONTRADICTS


@pytest.mark.parametrize(
    ("words", "says", "why"),
    [
        (("BRAX", "images"), "40,967 images", f"{41_620 - 40_967:,} more"),
        (("BRAX", "frontal"), "24,959 studies", "as many images as studies"),
        (("CheXpert", "lateral"), "32,419 of", "668 more, all test images"),
        (("MIMIC-CXR", "subjects"), "65,379 subjects", f"{188_546 - 65_379:,} more"),
        (("ChestX-ray14", "subjects"), "30,805 subjects", "ChestX-ray8"),
        (("PadChest", "images"), "160,861 images", "44 fewer"),
    ],
)
def test_cells_that_the_owners_contradict(found, words, says, why):
    """Six cells of Table 1 are not what the owners of the data count, though its sums hold."""
    claim = one(found, *words, ":")
    assert claim.says.startswith(says) and why in claim.why and claim.verdict == FAILS


def test_data_and_splits_by_hand(found):
    """No image is left to validate on, 7,250 exceed 2,991, 3 of 1,141 are missing, RSNA is part of ChestX-ray14."""
    ribs, chest = (one(found, f"VinDr-{name}: checkpoints") for name in ("RibCXR", "CXR"))
    assert ribs.says.startswith("196 + 49 leave 0 of 245") and ribs.verdict == CONTRADICTS
    assert chest.says.startswith("15,000 + 3,000 leave 0") and chest.verdict == OPEN
    assert one(found, "official split").says == "7,250 of the 2,991 that there are" and one(found, "official split").verdict == FAILS
    assert one(found, "1,138").says == "1,141; 3 are missing" and "boxes" in one(found, "six zones are annotated").says
    external = one(found, "external")
    assert external.says.startswith("RSNA-Pneumonia is drawn from ChestX-ray14") and "VinDr-CXR, VinDr-RibCXR and IU-Xray" in external.why
    assert one(found, "26,684 subjects").verdict == FAILS and "668 for testing" in one(found, "224,316").why
    assert one(found, "LLaVA-1.5").says.startswith("epochs 3 instead of 1") and one(found, "compute nodes").verdict == OPEN


@pytest.mark.parametrize(
    ("words", "one_place", "other"),
    [
        ("Linear probe: one head", "softmax cross-entropy (§3.2)", "sigmoid, binary cross-entropy (§6.1.2)"),
        ("kind of repeat", "5-fold", "five random seeds"),
        ("with their spread", "mean ± std", "one number a cell"),
        ("Segmentation: softmax", "pixel softmax", "20 ribs"),
        ("Pre-training loss", "squared L2", "Meta I-JEPA"),
        ("Pre-training regions", "two non-overlapping", "Meta I-JEPA"),
        ("no data augmentation", "no data augmentation", "Meta I-JEPA"),
        ("target encoder", "stop-gradient", "moving average"),
        ("PL-T is one", "pulmonary lesions", "Pleural Thickening"),
    ],
)
def test_texts_against_each_other(found, words, one_place, other):
    """Both places stand in the row, and the verdict is that they contradict each other."""
    claim = one(found, words)
    first, second = claim.says.split("; ", 1) if words != "with their spread" else claim.says.rsplit("; ", 1)
    assert one_place in first and other in second and claim.verdict == CONTRADICTS


@pytest.mark.parametrize(
    ("title", "errors", "z", "verdict"),
    [  # computed independently: 400 draws of a binormal model that another program made
        ("LO", (4.1, 2.8, 2.2), (0.9, 1.3, 1.6), OPEN),
        ("PL-T", (3.7, 2.7, 2.0), (1.5, 2.0, 2.7), OPEN),
        ("AE", (3.4, 2.4, 1.8), (3.0, 4.2, 5.8), HOLDS),
        ("PF", (3.3, 2.3, 1.7), (1.4, 2.0, 2.7), OPEN),
        ("RSNA-Pneumonia AUPRC", (1.3, 0.9, 0.6), (1.0, 1.5, 2.2), OPEN),
        ("RSNA-Pneumonia AUROC", (0.6, 0.35, 0.26), (0.3, 0.6, 0.8), FAILS),
    ],
)
def test_detectable_differences(found, title, errors, z, verdict):
    """Standard errors and z of each classification ✓✓ are those of an independent simulation within its noise, with the same verdict."""
    claim = one(found, "✓✓ for", title, "over")
    ours = [[float(number) for number in part.split(",")] for part in re.findall(r"(?:error|z) ((?:[\d.]+(?:, )?){3})", claim.says)]
    assert ours[0] == pytest.approx(errors, rel=0.17) and ours[1] == pytest.approx(z, rel=0.15, abs=0.11)
    assert claim.verdict == verdict and f"correlates by {', '.join(map(str, CORRELATIONS))}" in claim.says


def test_correlation_that_is_needed(found):
    """LO's ✓✓ needs noise correlated by 0.9 or more, RSNA's AUROC by more than 0.95; so not every ✓✓ is credible."""
    titles = ("LO", "RSNA-Pneumonia AUROC")
    lung, rsna = (float(re.search(r"correlation of ([\d.]+)", one(found, "✓✓ for", title, "over").why)[1]) for title in titles)
    assert 0.88 <= lung <= 0.94 and 0.95 < rsna < 1
    every = one(found, "single-tailed")
    assert every.verdict == FAILS and every.says.endswith("RSNA-Pneumonia AUROC") and "z > 2.79" in every.why
    assert one(found, "10 differences").verdict == OPEN


def test_noise_against_draws():
    """The standard error of a difference of AUROCs is the standard deviation over test sets drawn from the same model."""
    target, generator = np.arange(400) < 100, np.random.default_rng(1)
    shift, found = 2**0.5 * norm.ppf(0.8) * target, []
    for _ in range(400):
        shared, own = generator.standard_normal((2, target.size))
        found.append(auroc(target, shift + shared)[0] - auroc(target, shift + 0.8 * shared + 0.6 * own)[0])
    assert simulate("auroc", 80.0, 80.0, 100, 400).errors[1] == pytest.approx(100 * np.std(found), rel=0.12)


def test_needed_correlation_by_hand():
    """Variance 2 (1 - r) reaches a tenth at r = 0.95; what is equal needs noise without end."""
    assert Noise((1.0, 0.4**0.5, 0.2**0.5)).needed(1.6449 * 0.1**0.5) == pytest.approx(0.95, abs=0.001)
    assert Noise((1.0, 0.9, 0.8)).needed(0.0) == 1.0


def test_sums_and_marks_by_hand(found):
    """Table 1 adds up, 635086 / 114278 is 5.56, 0.2 x 26684 is 5336.8, and Table 6 has 16 + 1 + 2 marks."""
    assert one(found, "Total images").says == f"{41620 + 224316 + 300491 + 112120 + 160817:,}"
    assert one(found, "6:1").says.startswith(f"{635086 / (204278 - 90000):.2f}:1") and one(found, "RSNA test").says == "5,336.8"
    assert one(found, "16 of 19").says == "16 ✓✓ + 1 ✓ + 2 ✗ = 19"
    assert one(found, "marks fit", "best other").says == "19 of 19"
    assert one(found, "marks fit", "RAD-DINO*").says == "18 of 19; not VinDr-CXR CM +4.2"


def test_a_changed_number_changes_the_verdict(tmp_path):
    """With other scores, splits and architectures printed, the claims that rest on them turn: these verdicts are not written down."""
    shutil.copytree(PUBLISHED, tmp_path / "p")
    table = tmp_path / "p/table3_classification.csv"
    table.write_text(table.read_text().replace("PE,Pleural Effusion,AUPRC,74.4", "PE,Pleural Effusion,AUPRC,80.0"))
    splits = tmp_path / "p/splits.csv"
    splits.write_text(splits.read_text().replace("val,7250,", "val,2500,").replace("train+val,196,", "train+val,180,"))
    encoders = tmp_path / "p/table2_encoders.csv"
    encoders.write_text(encoders.read_text().replace('"Assran et al., 2023a",architecture,ViT-H/14', "Assran,architecture,ViT-B/14"))
    found = {claim.claim: claim for claim in claims(Published(tmp_path / "p"))}
    assert one(found, "official split").verdict == HOLDS and one(found, "RibCXR: checkpoints").verdict == HOLDS
    assert one(found, "I-JEPA: UPerNet").verdict == HOLDS and one(found, "released ViT-B/14").verdict == FAILS
    assert "PE" not in one(found, "Consistently outperforms").says and one(found, "Agg. of RadJEPA").verdict == FAILS
    assert one(found, "marks fit", "best other").verdict == FAILS


def test_command_line_writes_the_page_and_names_what_is_missing(tmp_path):
    """The page is written where it is asked for; a folder without the tables is a named error."""
    main(["--out", str(tmp_path / "c.md")])
    assert (tmp_path / "c.md").read_text(encoding="utf-8").startswith("# The paper's own claims")
    with pytest.raises(SpecError):
        Published(tmp_path)
    with pytest.raises(SystemExit, match="SpecError"):
        main(["--out", str(tmp_path / "c.md"), "--published", str(tmp_path)])
