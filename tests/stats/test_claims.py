"""The paper's claims: recomputed numbers pinned by hand arithmetic on the printed tables, and a page that is fresh."""

import shutil
from pathlib import Path

import pytest

from stats.claims import FAILS, HOLDS, OPEN, PUBLISHED, claims, main, page
from stats.errors import SpecError
from stats.published import Published

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
    """Each row is complete, its verdict is one of three, and all three occur."""
    assert {claim.verdict for claim in found.values()} == {HOLDS, FAILS, OPEN}
    assert all(claim.where and claim.recomputed and claim.why for claim in found.values())


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
    assert claim.recomputed == f"{total / 6:.2f}" and claim.verdict == verdict
    if seventh:
        assert seventh == f"{7 * printed - total:.1f}" and f"class at {seventh} " in claim.why


def test_gains_by_hand(found):
    """19.2 - 15.6, 63.9 - 59.4, 89.6 - 84.8 and their like are what the table says, and each verdict follows."""
    assert one(found, "Above I-JEPA").recomputed == "LO +3.6, CM +2.3, PL-T +5.4, AE +10.7, PF +4.9, PE +3.9"
    assert (one(found, "PF: +4.5").recomputed, one(found, "PF: +4.5").verdict) == ("published +4.5, reproduced +6.7", HOLDS)
    assert (one(found, "Ribs: +4.8").recomputed, one(found, "Ribs: +4.8").verdict) == ("published +4.3, reproduced +4.8", HOLDS)
    assert one(found, "against one row of it").verdict == FAILS
    iu = one(found, "IU-Xray: +1.7")
    assert iu.recomputed == "over RAD-DINO*: +2.1, +0.9, +1.2; over I-JEPA: +1.7, +0.7, +1.3" and iu.verdict == FAILS
    margin = one(found, "margin over RAD-DINO")
    assert margin.recomputed.startswith(f"{(330.9 - 303.2) / 6:.1f} ") and margin.verdict == FAILS


def test_consistently_outperforms_does_not_hold(found):
    """RadJEPA is third in CM and fourth in PE; the encoders before it are named."""
    claim = one(found, "Consistently outperforms")
    assert claim.verdict == FAILS and "CM rank 3, behind MRM 79.7, CheXzero 74.4" in claim.recomputed and "PE rank 4" in claim.recomputed


def test_controls_by_hand(found):
    """The control is nowhere below RAD-DINO's control, and below I-JEPA in three columns of MIMIC-CXR."""
    assert one(found, "outperforms RAD-DINO_control").recomputed == "8 of 8 columns"
    below = one(found, "RadJEPA_control", "outperforms I-JEPA")
    assert below.verdict == FAILS and below.recomputed.endswith("ROUGE-L −0.1, MIMIC RG_ER −0.1, MIMIC Macro-F1-14 −0.2")


def test_tokens_by_hand(found):
    """224 / 14 = 16 gives 256 tokens; 1369 = 37² would need 518 pixels; 224 / 32 = 7 gives the printed 49."""
    claim = one(found, "RadJEPA sees")
    assert (claim.recomputed, claim.verdict) == ("256", FAILS) and "1369 = 37² would need 518 pixels" in claim.why
    assert one(found, "CheXzero sees").verdict == HOLDS and one(found, "BiomedCLIP sees").recomputed == "196"
    assert one(found, "BioViL sees").verdict == OPEN and "no multiple of 14" in one(found, "CLIP@336 sees").why


def test_sums_and_marks_by_hand(found):
    """Table 1 adds up, 635086 / 114278 is 5.56, 0.2 x 26684 is 5336.8, and Table 6 has 16 + 1 + 2 marks."""
    assert one(found, "Total images").recomputed == f"{41620 + 224316 + 300491 + 112120 + 160817:,}"
    assert one(found, "6:1").recomputed.startswith(f"{635086 / (204278 - 90000):.2f}:1") and one(found, "RSNA test").recomputed == "5,336.8"
    assert one(found, "16 of 19").recomputed == "16 ✓✓ + 1 ✓ + 2 ✗ = 19"
    assert one(found, "marks fit", "best other").recomputed == "19 of 19"
    assert one(found, "marks fit", "RAD-DINO*").recomputed == "18 of 19; not VinDr-CXR CM +4.2"


def test_a_changed_number_changes_the_verdict(tmp_path):
    """With PE of RadJEPA printed as 80.0 the claims that rest on it turn, so no verdict is written down in advance."""
    shutil.copytree(PUBLISHED, tmp_path / "p")
    table = tmp_path / "p/table3_classification.csv"
    table.write_text(table.read_text().replace("PE,Pleural Effusion,AUPRC,74.4", "PE,Pleural Effusion,AUPRC,80.0"))
    found = {claim.claim: claim for claim in claims(Published(tmp_path / "p"))}
    assert "PE" not in one(found, "Consistently outperforms").recomputed and one(found, "Agg. of RadJEPA").verdict == FAILS
    assert one(found, "marks fit", "best other").verdict == FAILS


def test_command_line_writes_the_page_and_names_what_is_missing(tmp_path):
    """The page is written where it is asked for; a folder without the tables is a named error."""
    main(["--out", str(tmp_path / "c.md")])
    assert (tmp_path / "c.md").read_text(encoding="utf-8").startswith("# The paper's own claims")
    with pytest.raises(SpecError):
        Published(tmp_path)
    with pytest.raises(SystemExit, match="SpecError"):
        main(["--out", str(tmp_path / "c.md"), "--published", str(tmp_path)])
