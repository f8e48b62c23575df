"""Masks follow I-JEPA's rule, and cover the whole grid."""

import numpy as np
import pytest

from radbench.jepa.masks import MaskProtocol, block_size, draw_masks


@pytest.mark.parametrize("grid", [7, 8, 14, 16, 37])
def test_targets_are_blocks_inside_the_grid(grid):
    """Every target is a full rectangle of the one size of its batch."""
    _, targets = draw_masks(32, grid, MaskProtocol(), np.random.default_rng(0))
    rows, cols = targets // grid, targets % grid
    heights, widths = np.ptp(rows, axis=2) + 1, np.ptp(cols, axis=2) + 1
    assert (heights * widths == targets.shape[2]).all() and len(np.unique(heights)) == len(np.unique(widths)) == 1
    assert targets.min() >= 0 and targets.max() < grid * grid


@pytest.mark.parametrize("grid", [8, 14, 16, 37])
def test_context_and_targets_are_disjoint(grid):
    """No context holds a patch of its own image's targets, and each has more than ten patches, none twice."""
    for seed in range(20):
        context, targets = draw_masks(16, grid, MaskProtocol(), np.random.default_rng(seed))
        assert context.shape[1] > 10
        for kept, blocks in zip(context, targets, strict=True):
            assert not set(kept) & set(blocks.ravel()) and len(set(kept)) == len(kept) and (np.diff(kept) > 0).all()


def test_block_areas_follow_the_protocol():
    """Areas lie in 15-20 percent and aspect ratios in 0.75-1.5, up to rounding to whole patches."""
    sizes = [block_size(100, (0.15, 0.2), (0.75, 1.5), np.random.default_rng(seed)) for seed in range(200)]
    areas, ratios = np.array([rows * cols for rows, cols in sizes]) / 1e4, np.array([rows / cols for rows, cols in sizes])
    assert 0.145 <= areas.min() < 0.155 and 0.195 < areas.max() <= 0.205
    assert 0.73 <= ratios.min() < 0.8 and 1.4 < ratios.max() <= 1.52


def test_every_patch_is_drawn_in_context_and_targets():
    """The last row and column are drawn too (the reference code never does), and the bottom is kept as often as the top."""
    grid = 16
    seen, kept = np.zeros(grid * grid), np.zeros(grid * grid)
    random = np.random.default_rng(0)
    for _ in range(60):
        context, targets = draw_masks(64, grid, MaskProtocol(), random)
        np.add.at(seen, targets.ravel(), 1)
        np.add.at(kept, context.ravel(), 1)
    assert (seen > 0).all() and (kept > 0).all()
    halves = kept.reshape(grid, grid)
    assert halves[:8].sum() / halves[8:].sum() == pytest.approx(1.0, abs=0.05)


def test_a_tiny_grid_still_gives_a_context():
    """Where four blocks can cover the grid, the context takes patches back rather than being empty."""
    context, _ = draw_masks(64, 5, MaskProtocol(), np.random.default_rng(1))
    assert context.shape[1] > 10


def test_masks_are_a_function_of_the_generator():
    """The same seed gives the same masks, another seed other ones."""
    draw = [draw_masks(8, 16, MaskProtocol(), np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draw[0][1], draw[1][1])
    np.testing.assert_array_equal(draw[0][0], draw[1][0])
    assert not np.array_equal(draw[0][1], draw[2][1])
