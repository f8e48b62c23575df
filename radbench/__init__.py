"""radbench: the harness. Encoders and tasks import only this package; see docs/ and CONTRIBUTING.md for the rooms."""

from . import torchvision_guard

torchvision_guard.install()
