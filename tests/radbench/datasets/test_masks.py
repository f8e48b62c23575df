"""Masks drawn from polygons, runs and boxes, and files cut by boxes."""

import numpy as np
import pytest
from PIL import Image

from radbench.datasets import Mask, masks

SHAPE = (40, 60)
SQUARE = ((10.0, 5.0), (19.0, 5.0), (19.0, 14.0), (10.0, 14.0))


def box_of(drawn):
    rows, cols = np.nonzero(drawn)
    return cols.min(), rows.min(), cols.max(), rows.max()


def test_a_polygon_is_filled_with_its_border():
    """A square from corner pixel to corner pixel covers exactly these columns and rows."""
    drawn = masks.place(Mask("m", polygons=(SQUARE,), size=SHAPE), None, SHAPE)
    assert box_of(drawn) == (10, 5, 19, 14) and drawn.sum() == 100


def test_polygons_are_united_and_scaled_to_the_image():
    """Two polygons are both there, and coordinates of a picture twice as large land at half of them."""
    other = tuple((x + 30, y + 20) for x, y in SQUARE)
    whole = masks.place(Mask("m", polygons=(SQUARE, other), size=SHAPE), None, SHAPE)
    assert whole.sum() == 200
    small = masks.place(Mask("m", polygons=(SQUARE, other), size=(80, 120)), None, SHAPE)
    assert box_of(small)[:2] == (5, 2) and abs(small.sum() - 50) <= 16


def test_runs_count_down_the_columns():
    """A run of one column's length from pixel 40 is the second column, not the second row."""
    drawn = masks.place(Mask("m", runs=((40, 40), (85, 3)), size=SHAPE), None, SHAPE)
    assert drawn[:, 1].all() and drawn[5:8, 2].all() and drawn.sum() == 43
    half = masks.place(Mask("m", runs=((40, 80),), size=SHAPE), None, (20, 30))
    assert half[:, 1].sum() == 20 or half[:, 0].sum() == 20


def test_no_runs_is_an_empty_mask_and_a_box_alone_is_its_inside():
    """A structure that is known to be absent is drawn empty; a box clips at the picture's border."""
    assert not masks.place(Mask("m", runs=(), size=SHAPE), None, SHAPE).any()
    drawn = masks.place(Mask("m", box=(-5.0, -3.0, 10.0, 4.0), size=SHAPE), None, SHAPE)
    assert box_of(drawn) == (0, 0, 9, 3)


def test_a_file_is_cut_to_a_box_in_another_frame():
    """A box in a frame twice as large keeps the file's pixels within half its coordinates."""
    values = np.ones(SHAPE, dtype=np.uint8)
    drawn = masks.place(Mask("m", path=None, box=(20.0, 10.0, 40.0, 30.0), size=(80, 120)), values, SHAPE)
    assert box_of(drawn) == (10, 5, 19, 14) and drawn.sum() == 100


def test_connected_parts_go_to_the_nearer_side():
    """Each lung goes whole to the side whose box holds more of it, even where it leaves the box."""
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[5:35, 5:25], values[5:35, 35:55] = 1, 1
    right, left = (6.0, 6.0, 20.0, 30.0), (36.0, 6.0, 50.0, 30.0)
    sides = {"l": (left, right), "r": (right, left)}
    drawn = {name: masks.place(Mask("m", sides=pair, size=SHAPE), values, SHAPE) for name, pair in sides.items()}
    assert box_of(drawn["l"]) == (35, 5, 54, 34) and box_of(drawn["r"]) == (5, 5, 24, 34)


def test_lungs_grown_together_are_cut_between_the_boxes():
    """One part that fills both boxes is divided half-way, with no pixel in both sides and none lost."""
    values = np.zeros(SHAPE, dtype=np.uint8)
    values[5:35, 5:59] = 1
    values[5:10, 40:44] = 0
    boxes = ((5.0, 5.0, 25.0, 35.0), (35.0, 5.0, 55.0, 35.0))
    first = masks.place(Mask("m", sides=boxes, size=SHAPE), values, SHAPE)
    second = masks.place(Mask("m", sides=boxes[::-1], size=SHAPE), values, SHAPE)
    assert not (first & second).any() and (first | second).sum() == values.sum() and box_of(first)[2] == 29 and box_of(second)[0] == 30


FAULTS = {
    "not the same picture": Mask("m", polygons=(SQUARE,), size=(60, 40)),
    "mask of None": Mask("m", polygons=(SQUARE,)),
    "runs that leave": Mask("m", runs=((2390, 20),), size=SHAPE),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_mask_that_does_not_fit_is_named(reason):
    """Another aspect, no frame, or runs beyond the picture are a reason, not a drawing."""
    assert reason in masks.fault(FAULTS[reason], None, 0, SHAPE)
    assert masks.fault(Mask("m", runs=((0, 5),), size=SHAPE), None, 0, SHAPE) == ""


def test_numbers_of_palettes_and_deep_files_are_kept(tmp_path):
    """A palette's index and a 16-bit value are read as numbers, with their depth."""
    Image.fromarray(np.full(SHAPE, 3, np.uint8)).convert("P").save(tmp_path / "p.png")
    Image.fromarray(np.full(SHAPE, 4096, np.uint16)).save(tmp_path / "d.png")
    assert masks.read(tmp_path / "d.png")[0].max() == 4096 and masks.read(tmp_path / "d.png")[1] == 16
    assert masks.read(tmp_path / "p.png")[1] == 8
    assert masks.picture_size(tmp_path / "d.png") == SHAPE and masks.picture_size(tmp_path / "none.png") is None
