"""What can go wrong when numbers are derived; each message says where, what was got, what would be right, what to do.

StatsError
├── SidecarError        meta.json missing, unreadable or of another format
├── HashMismatch        a file is not the one its sidecar vouches for
├── PredictionsError    predictions of another task, dataset or encoder; columns missing; numbers that cannot be; some patients unnamed
├── SampleMismatch      encoders, replicates or points of a learning curve do not cover the same samples
├── TruthMismatch       the same sample has another target, reference, patient or group for another of them
├── ProtocolMismatch    cells made under different versions or protocols refuse to share a table
├── EncoderMissing      an encoder that is named (reference, control) is not among those given
├── SettingError        a setting of the command line is outside its range, or names a place that cannot be written to
└── SpecError           the description of the tables is incomplete
"""


class StatsError(Exception):
    """Root of the tree. ``str(error)`` reads ``where: got ...; expected ...; next: ...``."""

    def __init__(self, where: str, got: str, expected: str, next_step: str) -> None:
        super().__init__(f"{where}: got {got}; expected {expected}; next: {next_step}")


class SidecarError(StatsError):
    """A meta.json is missing, unreadable or of another format."""


class HashMismatch(StatsError):
    """A file is not the one its sidecar vouches for."""


class PredictionsError(StatsError):
    """A predictions file belongs elsewhere, lacks columns or some patient ids, or holds numbers that cannot be."""


class SampleMismatch(StatsError):
    """Encoders, replicates or points of a learning curve do not cover the same samples."""


class TruthMismatch(StatsError):
    """The same sample has another target, reference, patient or group for another encoder, replicate or point of a learning curve."""


class ProtocolMismatch(StatsError):
    """Cells made under different versions or protocols refuse to share a table."""


class EncoderMissing(StatsError):
    """An encoder that is named as the reference or as a control is not among those given."""


class SettingError(StatsError):
    """A setting is outside its range, or names a place that cannot be written to."""


class SpecError(StatsError):
    """The description of the tables is incomplete."""
