"""Ranks against scipy, Demšar's table and what resamples must say of ties."""

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, rankdata

from stats.ranks import critical_difference, nemenyi, rank_intervals


def test_nemenyi_is_demsars_table():
    """The critical values are those of Demšar 2006, table 5, at 5 and 10 %."""
    printed = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
    assert {k: nemenyi(k) for k in printed} == pytest.approx(printed, abs=1.1e-3)
    assert [nemenyi(k, 0.1) for k in (2, 5, 10)] == pytest.approx([1.645, 2.459, 2.920], abs=1.1e-3)


def test_friedman_is_scipys_and_the_critical_difference_demsars():
    """With 4 encoders on 14 columns the critical difference is the 1.25 of Demšar's worked example, and Friedman's p is scipy's."""
    table = np.round(np.random.default_rng(4).normal(size=(14, 4)) + [0, 0.5, 0.2, 0.9], 1)  # one decimal: ties
    found = critical_difference(table)
    assert round(found.critical, 2) == 1.25
    assert found.p_friedman == pytest.approx(friedmanchisquare(*table.T).pvalue, rel=1e-9)
    np.testing.assert_allclose(found.mean_ranks, np.mean([rankdata(-row) for row in table], axis=0), rtol=1e-12)


def test_groups_are_maximal_runs_within_the_critical_difference():
    """Every group spans at most the critical difference, none lies inside another, and lower-is-better columns count reversed."""
    random = np.random.default_rng(0)
    table = random.normal(size=(30, 6)) + np.arange(6) * 0.35
    found = critical_difference(table)
    for group in found.groups:
        assert np.ptp(found.mean_ranks[list(group)]) <= found.critical
        assert not any(set(group) < set(other) for other in found.groups)
    reverse = critical_difference(-table, lower_is_better=True)
    np.testing.assert_array_equal(reverse.mean_ranks, found.mean_ranks)
    assert critical_difference(np.ones((4, 3))).p_friedman == 1.0


def test_rank_interval_of_a_clear_winner_and_of_twins():
    """A winner in every resample has rank 1 to 1; two equal encoders share ranks and the chance to be best."""
    samples = np.random.default_rng(1).normal(size=(1, 500))
    found = rank_intervals(np.array([0.9, 0.5, 0.5]), np.vstack([samples + 99, samples, samples]))
    assert (found[0].rank, found[0].low, found[0].high, found[0].best) == (1, 1, 1, 1)
    assert (found[1].rank, found[1].low, found[1].high, found[1].best) == (2.5, 2.5, 2.5, 0)
    twins = rank_intervals(np.array([0.5, 0.5]), np.vstack([samples, samples]))
    assert [one.best for one in twins] == [0.5, 0.5]


def test_lower_is_better_turns_the_order():
    """Where less is better the smallest value has rank 1, and a resample with a gap is left out."""
    samples = np.array([[0.1, 0.1, np.nan], [0.2, 0.2, 0.0]])
    found = rank_intervals(np.array([0.1, 0.2]), samples, lower_is_better=True)
    assert [one.rank for one in found] == [1, 2] and found[0].best == 1
