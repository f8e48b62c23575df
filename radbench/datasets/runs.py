"""Run-length codes of masks, as runs (first pixel, length) counted down the columns: the form of `Mask.runs`."""

from collections.abc import Sequence

from ..errors import DataError

Runs = tuple[tuple[int, int], ...]


def relative(where: object, text: str, pixels: int) -> Runs:
    """SIIM-ACR's code: pairs of (distance from the end of the last run, length); "-1" is an empty mask.

    >>> relative("row 1", "10 3 5 2", 100)
    ((10, 3), (18, 2))
    """
    if text.strip() in ("-1", ""):
        return ()
    try:
        numbers = [int(part) for part in text.split()]
    except ValueError:
        numbers = [-1]
    runs, place = [], 0
    for gap, length in zip(numbers[::2], numbers[1::2], strict=False):
        runs.append((place + gap, length))
        place += gap + length
    if len(numbers) % 2 or min(numbers) < 0 or place > pixels:
        raise DataError(where, f"not a run-length code of {pixels} pixels: {text[:40]!r}", expected="-1, or pairs of distance and length")
    return tuple(runs)


def coco(where: object, counts: str | Sequence[int], pixels: int) -> Runs:
    """COCO's code: lengths of zeros and ones by turns, as numbers, or as its text of six bits per character.

    >>> coco("m", [10, 3, 5, 2, 80], 100)
    ((10, 3), (18, 2))
    >>> coco("m", ":35O[2", 100) == coco("m", [10, 3, 5, 2, 80], 100)
    True
    """
    lengths = _unpacked(where, counts) if isinstance(counts, str) else list(counts)
    if not all(isinstance(length, int) and length >= 0 for length in lengths) or sum(lengths) > pixels:
        raise DataError(where, f"not a run-length code of {pixels} pixels", got=str(counts)[:60])
    runs, place = [], 0
    for number, length in enumerate(lengths):
        if number % 2 and length:
            runs.append((place, length))
        place += length
    return tuple(runs)


def _unpacked(where: object, text: str) -> list[int]:
    """Five bits of a number per character, least first, bit 6 says that more follow; from the third on, differences to two before."""
    lengths: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64:
            raise DataError(where, f"not COCO's run-length text: {text[:40]!r}")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    if shift:
        raise DataError(where, "COCO's run-length text is cut off")
    return lengths
