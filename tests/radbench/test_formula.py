"""Weights that are a formula, and networks that are built quickly because they will hold them."""

import torch

from radbench.formula import BLOCK, Repeated, fill


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(96, 192), torch.nn.LayerNorm(192), torch.nn.Linear(192, 96))


def test_filled_networks_are_equal_whatever_was_drawn():
    """Two networks of one architecture hold the same numbers after `fill`, also when one was built with repeated draws."""
    one, two = network(0), network(1)
    with Repeated():
        three = network(2)
    assert not torch.equal(one[0].weight, two[0].weight)
    for net in (one, two, three):
        fill(net)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]) and torch.equal(value, three.state_dict()[name])


def test_draws_are_repeated_and_still_random():
    """A large tensor is one random block over and over; an initialiser that rejects values comes to an end and keeps its bounds."""
    with Repeated():
        drawn = torch.empty(3, BLOCK).normal_()
        bounded = torch.nn.init.trunc_normal_(torch.empty(5, BLOCK), std=1.0, a=-1.5, b=-0.5)
    assert torch.equal(drawn[0], drawn[1]) and 0.9 < float(drawn.std()) < 1.1
    assert -1.5 <= float(bounded.min()) < float(bounded.max()) <= -0.5
