"""Lets `import torchvision` succeed beside a CPU build of torch.

The wheel of torchvision on the registries is linked against CUDA. Beside a CPU torch its compiled operators do not
load and `import torchvision` dies with "operator torchvision::nms does not exist", taking timm and open_clip with
it. The guard declares the two operators that torchvision registers shapes for; they stay without an implementation,
so a call of `nms` is a clear RuntimeError. radbench never calls them (images are read with Pillow, pydicom).

It costs nothing until torchvision is imported, and does nothing where the compiled operators load.
See docs/decisions/0003-torchvision-guard.md.
"""

import importlib.abc
import importlib.util
import pathlib
import sys


class _Guard(importlib.abc.MetaPathFinder):
    done = False
    library = None  # kept alive: torch forgets the declarations when the Library object dies

    def find_spec(self, name, path=None, target=None):
        if name != "torchvision" or _Guard.done:
            return None
        _Guard.done = True
        spec = importlib.util.find_spec("torchvision")
        if spec is None or spec.origin is None:
            return None
        import torch

        if torch.version.cuda is None and torch.version.hip is None:
            try:
                torch.ops.load_library(str(pathlib.Path(spec.origin).with_name("_C.so")))
            except OSError:
                _Guard.library = torch.library.Library("torchvision", "DEF")
                for operator in ("nms", "qnms"):
                    _Guard.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None


def install() -> None:
    """Put the guard first among the import finders; a second call changes nothing."""
    if not any(isinstance(finder, _Guard) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Guard())
