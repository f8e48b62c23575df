"""What the audit of copies costs: comparing all hashes with all, and the fingerprints of the pairs that are proposed.

    python benchmarks/overlap.py --root path/to/tidy/folder --copies 8 --repeats 3

Hashes of real radiographs, repeated with 2 % of their bits flipped, are compared with each other on one thread.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from radbench.datasets.folder import Options, records  # noqa: E402
from radbench.image import decode  # noqa: E402
from radbench.similarity import BITS, dhash, fingerprint, near_pairs  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, type=Path)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    files = [record.path for record in records(arguments.root, Options())]
    pictures = [decode(path).pixels for path in files[:100]]
    start = time.perf_counter()
    for pixels in pictures:
        fingerprint(pixels)
    each = (time.perf_counter() - start) / len(pictures)
    hashes = np.stack([np.frombuffer(dhash(decode(path).pixels), dtype=np.uint8) for path in files])
    flipped = np.random.default_rng(0).random((arguments.copies * len(hashes), BITS)) < 0.02
    hashes = np.tile(hashes, (arguments.copies, 1)) ^ np.packbits(flipped, axis=1)
    seconds = []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        found = near_pairs(hashes)
        seconds.append(time.perf_counter() - start)
    pairs, median = len(hashes) * (len(hashes) - 1) // 2, statistics.median(seconds)
    print(f"{len(hashes):,} hashes, {pairs:.3g} pairs: {median:.2f} s, {median / pairs * 1e9:.2f} ns a pair; {len(found):,} proposed")
    print(f"a fingerprint of a picture of {np.mean([pixels.size for pixels in pictures]) / 1e6:.2f} million pixels: {each * 1000:.2f} ms")


if __name__ == "__main__":
    main()
