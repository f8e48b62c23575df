"""Is this the same picture? Two steps that survive another container, size, compression and grey curve.

A difference hash asks, in a 17 x 16 reduction, whether each cell is brighter than its left neighbour: 256 bits. Frontal
radiographs resemble each other, so the hash only proposes pairs, and the rank correlation of 64 x 64 reductions decides.
On 2,445 real radiographs, of three million pairs of different images some hundred are proposed and none has a correlation
above 0.95; copies that were scaled to a quarter, compressed at quality 30 to 80 and given another gamma differ in at most 24
bits and have 0.99 or more (tests/radbench/test_similarity.py).
"""

import numpy as np
from scipy.stats import rankdata

from .image import resize
from .parallel import in_parallel

BITS = 256
NEAR = 24  # bits; at most so many differ between copies of one picture
SAME = 0.98  # rank correlation of 64 x 64 reductions, from which on two pictures are copies
SIDE = 64  # of the reduction that is ranked
WORDS = (0, 2, 1, 3)  # of 64 bits; the first two differ most between radiographs, and leave 0.4 % of the pairs for the others to judge
ROWS, COLS = 64, 4096  # hashes compared at once: what a core's cache holds


def dhash(pixels: np.ndarray) -> bytes:
    """32 bytes of a grey picture (H, W) of any depth."""
    values = resize(pixels, 16, 17, "box")
    return np.packbits(values[:, 1:] > values[:, :-1]).tobytes()


def fingerprint(pixels: np.ndarray) -> np.ndarray:
    """(4096,) uint16: twice the ranks of a 64 x 64 reduction, ties at their mean. None is 0."""
    return np.rint(2 * rankdata(resize(pixels, SIDE, SIDE, "box"))).astype(np.uint16)


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n,) rank correlations of fingerprints (n, 4096), row by row; 0 for a picture without any contrast."""
    sides = []
    for prints in (one, other):
        ranks = prints - np.float32(SIDE**2 + 1)  # twice the mean of all ranks
        sides.append(ranks / np.maximum(np.sqrt(np.einsum("ij,ij->i", ranks, ranks)), np.float32(1e-6))[:, None])
    return np.einsum("ij,ij->i", *sides)


def unpack(hashes: list[str]) -> np.ndarray:
    """Hexadecimal texts -> (n, 32) uint8."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(-1, BITS // 8)


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Number of differing bits of rows (n, 32) uint8."""
    return np.bitwise_count(one ^ other).sum(axis=1, dtype=np.int64)


def near_pairs(one: np.ndarray, other: np.ndarray | None = None, limit: int = NEAR, workers: int = 1) -> np.ndarray:
    """(pairs, 3), sorted: row in ``one``, row in ``other`` and distance, of all pairs at most ``limit`` bits apart.

    Without ``other`` the pairs (i, j), i < j, within ``one``. Every pair is compared: radiographs are so alike that an index over parts of
    the hash leaves all of them, and costs sixty times as much (docs/performance.md).
    """
    within = other is None
    left = [np.ascontiguousarray(np.ascontiguousarray(one).view(np.uint64)[:, word]) for word in WORDS]
    right = left if within else [np.ascontiguousarray(np.ascontiguousarray(other).view(np.uint64)[:, word]) for word in WORDS]

    def stripe(top: int) -> list[np.ndarray]:
        found = []
        for start in range(top if within else 0, len(right[0]), COLS):
            far = np.zeros((len(left[0][top : top + ROWS]), len(right[0][start : start + COLS])), dtype=np.uint8)
            for word in (0, 1):
                far += np.bitwise_count(left[word][top : top + ROWS, None] ^ right[word][None, start : start + COLS])
            places = np.flatnonzero(far <= limit)
            rows, cols = np.divmod(places, far.shape[1])
            bits, rows, cols = far.ravel()[places].astype(np.int64), rows + top, cols + start
            for word in (2, 3):
                bits += np.bitwise_count(left[word][rows] ^ right[word][cols])
            kept = (bits <= limit) & ((rows < cols) | (not within))
            found.append(np.stack([rows[kept], cols[kept], bits[kept]], axis=1))
        return found

    found = [part for parts in in_parallel(stripe, range(0, len(one), ROWS), workers) for part in parts]
    pairs = np.concatenate([np.empty((0, 3), dtype=np.int64), *found])
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
