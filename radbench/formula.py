"""Weights that are a formula: networks that are the same on every machine, and in every version of a library that draws at random."""

import hashlib

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

BLOCK = 4096  # numbers


class Repeated(TorchFunctionMode):
    """While it is active, large tensors are drawn as one block that is repeated, which saves a third of building a giant and more.

    For networks that `fill` overwrites. Initialisers that draw until a condition holds still see random numbers.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in (torch.Tensor.normal_, torch.Tensor.uniform_) or args[0].is_meta or args[0].numel() <= BLOCK:
            return func(*args, **kwargs)
        tensor = args[0]
        block = func(tensor.new_empty(BLOCK), *args[1:], **kwargs)
        return tensor.copy_(block.repeat(-(-tensor.numel() // BLOCK))[: tensor.numel()].view(tensor.shape))


def fill(module: torch.nn.Module) -> None:
    """Overwrite every floating tensor of a network by numbers that depend on its name and shape only.

    Matrices keep the size of activations (variance 1 / fan-in), scales are near 1, the rest is small.
    """
    for name, value in module.state_dict().items():
        if not value.is_floating_point() or not value.numel():
            continue
        random = np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")))
        noise = torch.from_numpy(random.standard_normal(tuple(value.shape), dtype=np.float32))
        last = name.rpartition(".")[2]
        if value.ndim >= 2 and value.shape[0] > 1:
            noise *= (value.shape[0] / value.numel()) ** 0.5
        elif last in ("weight", "gamma", "running_var"):
            noise = 1 + 0.1 * noise.tanh()
        else:
            noise *= 0.02
        value.copy_(noise)
