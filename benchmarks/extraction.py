"""Feature extraction beside the usual way, in one run: decodes, milliseconds per image, share of the matrix rate.

    python benchmarks/extraction.py [--images 8] [--encoders 13] [--repeats 5] [--side 2048]

The usual way: for each encoder a torch DataLoader that opens each JPEG with Pillow, converts it to RGB, resizes, and a
float32 forward pass under no_grad. Ours: each file is decoded once into the store; each encoder reads the store.
Process CPU time on one thread, the two ways interleaved, medians. The matrix rate is torch.mm's in the same run, at the
shapes of the network. Pictures are synthetic and square; 2,800 pixels are as many as MIMIC-CXR-JPG's 2544 x 3056.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from encoders.rad_dino import RadDino  # noqa: E402
from radbench import extract, image, index  # noqa: E402
from radbench.store import Index  # noqa: E402

STORED = (1024, 512)  # max_side of the configuration: 1024 serves every encoder, 512 those of 224 pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--encoders", type=int, default=13)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", type=int, default=2048)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)  # numpy's BLAS
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_folder(root / "data", arguments.images, arguments.side)
        reading(root, arguments)
        resizing(arguments)
        forward(root, arguments)


def write_folder(root: Path, count: int, side: int) -> None:
    """A tidy folder of JPEGs with the smoothness and the grain of a radiograph."""
    (root / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray((255 * random.random((32, 32))).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        grain = random.normal(0, 6, (side, side))
        Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)).save(root / "images" / f"{number}.jpg", quality=90)
    rows = "".join(f"{number}.jpg,p{number},{('train', 'val', 'test')[number % 3]}\n" for number in range(count))
    (root / "metadata.csv").write_text(f"image,subject_id,split\n{rows}")


def cpu(call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def reading(root: Path, arguments: argparse.Namespace) -> None:
    """Decode and resize for several encoders: decodes counted, CPU milliseconds per image over all encoders."""
    files = sorted((root / "data" / "images").iterdir())
    opened: list[str] = []
    real = Image.open

    def counted(file, *args, **options):
        opened.append(str(file))
        return real(file, *args, **options)

    usual_loader = loader(files)

    def usual() -> None:
        for _ in range(arguments.encoders):
            for _ in usual_loader:
                pass

    def build(side: int, number: int) -> Index:
        spec = index.Spec("folder", root=str(root / "data"), max_side=side)
        index.build_index("data", spec, root / f"results{side}-{number}")
        return Index(root / f"results{side}-{number}" / "index" / "data")

    def passes(store: Index) -> None:
        for _ in range(arguments.encoders):
            for row in range(len(store)):
                image.normalise(image.resize(store.image(row), 224, 224, "bicubic"), 0.5, 0.25)

    def decodes(call) -> int:
        opened.clear()
        with mock.patch.object(Image, "open", counted):
            call()
        return len(opened)

    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(arguments.repeats):
        seconds.setdefault(("usual", 0), []).append(cpu(usual))
        for side in STORED:
            seconds.setdefault(("whole", side), []).append(cpu(lambda side=side, number=number: passes(build(side, number))))
            store = Index(root / f"results{side}-{number}" / "index" / "data")
            seconds.setdefault(("read", side), []).append(cpu(lambda store=store: passes(store)))
    took = {name: 1000 * statistics.median(of) / len(files) for name, of in seconds.items()}
    one = took["usual", 0]
    print(f"{arguments.encoders} encoders, {len(files)} images of {arguments.side} px, decode and resize to 224")
    print("CPU ms per image over all encoders")
    print(f"usual {one:7.1f} ms, {decodes(usual)} decodes")
    for side in STORED:
        whole, read = took["whole", side], took["read", side]
        once, each = whole - read, read / arguments.encoders
        count = decodes(lambda side=side: passes(build(side, arguments.repeats)))
        print(f"ours, max_side {side}: {whole:.1f} ms, {count} decodes;  ratio {one / whole:.1f}")
        print(
            f"  of which {once:.1f} ms once, for the store (ratio {one / once:.1f}), then {each:.2f} ms per encoder, to read it and resize"
        )
        print(f"  an encoder that joins later: {one / arguments.encoders / each:.1f} times cheaper")


def loader(files: list[Path]) -> torch.utils.data.DataLoader:
    """What everybody writes: Pillow, RGB, torchvision's transforms, a DataLoader; in this process, so that its CPU time is counted."""
    from torchvision import transforms

    usual = transforms.Compose([
        transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])  # fmt: skip

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, place):
            with Image.open(files[place]) as picture:
                return usual(picture.convert("RGB"))

    return torch.utils.data.DataLoader(Pictures(), batch_size=16)


def resizing(arguments: argparse.Namespace) -> None:
    """One antialiased bicubic resize of a float picture: Pillow's mode F, torch's, and ours, which must be Pillow's to 1e-6."""
    for old, new in ((1024, 224), (1024, 518), (2048, 1024)):
        picture = np.random.default_rng(0).random((old, old), dtype=np.float32)
        tensor = torch.from_numpy(picture)[None, None]
        ways = {
            "Pillow": lambda p=picture, n=new: np.asarray(Image.fromarray(p).resize((n, n), Image.Resampling.BICUBIC)),
            "torch": lambda t=tensor, n=new: torch.nn.functional.interpolate(t, (n, n), mode="bicubic", antialias=True),
            "ours": lambda p=picture, n=new: image.resize(p, n, n, "bicubic"),
        }
        np.testing.assert_allclose(ways["ours"](), ways["Pillow"](), rtol=0, atol=1e-6)
        seconds = {name: [] for name in ways}
        for _ in range(4 * arguments.repeats):
            for name, call in ways.items():
                seconds[name].append(cpu(call))
        print(f"resize {old} to {new}, ms: " + ", ".join(f"{name} {1000 * statistics.median(one):.2f}" for name, one in seconds.items()))


def forward(root: Path, arguments: argparse.Namespace) -> None:
    """A ViT-B/14 at 224: extraction against DataLoader, PIL and float32, and against the machine's own matrix rate."""
    torch.manual_seed(0)
    encoder = RadDino(None, {"image_size": 224})
    encoder.load("cpu")
    store = Index(root / f"results{STORED[0]}-0" / "index" / "data")
    rows = np.arange(len(store))
    files = sorted((root / "data" / "images").iterdir())

    class Files(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, number):
            with Image.open(files[number]) as picture:
                small = picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
            return torch.from_numpy(np.asarray(small, dtype=np.float32).transpose(2, 0, 1) / 255 - 0.5)

    def usual() -> None:
        with torch.no_grad():
            for batch in torch.utils.data.DataLoader(Files(), batch_size=8):
                encoder.vit(batch).last_hidden_state[:, 0].numpy()

    def ours() -> None:
        for part in extract.forward(encoder, store, rows, "cpu", "image"):
            part.numpy()

    def ours_compiled() -> None:
        encoder.encode = fast
        ours()
        del encoder.encode

    fast = extract.compiled(encoder.encode)
    ours()
    ours_compiled()  # the first pass compiles
    seconds: dict[str, list[float]] = {"usual": [], "ours": [], "compiled": []}
    rates = []
    for _ in range(arguments.repeats):
        rates.append(matrix_rate())
        seconds["usual"].append(cpu(usual))
        seconds["ours"].append(cpu(ours))
        seconds["compiled"].append(cpu(ours_compiled))
    gflop = vit_gflop(257, 768, 12, 14)
    one, other, third = (statistics.median(seconds[name]) / len(files) for name in ("usual", "ours", "compiled"))
    limit = gflop / statistics.median(rates)
    print(f"ViT-B/14 at 224, {gflop:.1f} GFLOP per image; torch.mm {statistics.median(rates):.0f} GFLOP/s at its shapes, one thread")
    for title, value in (("usual", one), ("ours", other), ("ours, RADBENCH_COMPILE=1", third)):
        print(f"  {title:26} {value:.3f} s per image; the usual over it {one / value:.2f}; over the matrix limit {value / limit:.2f}")


def matrix_rate(tokens: int = 8 * 257, width: int = 768, seconds: float = 1.0) -> float:
    """GFLOP/s of the feed-forward product of a block, the largest one."""
    left, right = torch.randn(tokens, width), torch.randn(width, 4 * width)
    torch.mm(left, right)
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        torch.mm(left, right)
        count += 1
    return 2 * tokens * width * 4 * width * count / (time.process_time() - start) / 1e9


def vit_gflop(tokens: int, width: int, depth: int, patch: int) -> float:
    """Multiplications and additions of a forward pass: products of the blocks, attention, patch embedding."""
    return (depth * (24 * tokens * width**2 + 4 * tokens**2 * width) + 2 * tokens * width * 3 * patch**2) / 1e9


if __name__ == "__main__":
    main()
