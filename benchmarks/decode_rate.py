"""How fast files become network input, with one worker and with two: 2048×2048, uncompressed and JPEG 2000.

    python benchmarks/decode_rate.py

Writes `benchmarks/results/decode/results.md` and `results.json`. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, SecondaryCaptureImageStorage, generate_uid

from ddad.cohorts import decode
from ddad.recipe_sections import Preprocessing

SIDE, FILES, REPEATS = 2048, 24, 3
OUT = Path(__file__).parent / "results" / "decode"


def write_radiograph(path: Path, seed: int, compressed: bool) -> None:
    """Write a smooth 12-bit image with noise, as an X-ray has it."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.random((16, 16), np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    stored = np.clip(np.asarray(coarse) * 3500 + rng.normal(0, 12, (SIDE, SIDE)) + 300, 0, 4095).astype(np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows = data.Columns = SIDE
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.WindowCenter, data.WindowWidth = 2048, 4096
    data.PixelData = stored.tobytes()
    if compressed:
        data.compress(JPEG2000Lossless)
    data.save_as(path, enforce_file_format=True)


def rate(paths: list[Path], workers: int) -> float:
    """Return images a second, the best of some repeats."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        decoded = decode(paths, Preprocessing(), workers=workers)
        seconds.append(time.perf_counter() - start)
        assert len(decoded.kept) == len(paths)
    return len(paths) / min(seconds)


def cores_to_be_had() -> float:
    """Return how much more two processes of plain arithmetic do than one: near 2 on a machine that is free."""
    script = "import time; end = time.perf_counter() + 3; n = 0\nwhile time.perf_counter() < end: n += 1\nprint(n)"

    def loops(count: int) -> int:
        running = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(count)]
        return sum(int(process.communicate()[0]) for process in running)

    return loops(2) / loops(1)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, compressed in (("uncompressed", False), ("JPEG 2000 lossless", True)):
            paths = [Path(folder) / f"{name}-{number}.dcm" for number in range(FILES)]
            for number, path in enumerate(paths):
                write_radiograph(path, number, compressed)
            one, two = rate(paths, 1), rate(paths, 2)
            rows.append({"files": name, "one_worker": one, "two_workers": two, "ratio": two / one})
    OUT.mkdir(parents=True, exist_ok=True)
    settings = {
        "side": SIDE,
        "files": FILES,
        "cores": os.cpu_count(),
        "cores_to_be_had": cores_to_be_had(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        **{package: version(package) for package in ("pydicom", "imagecodecs", "numpy", "pillow")},
    }
    (OUT / "results.json").write_text(json.dumps({"settings": settings, "rates": rows}, indent=2) + "\n")
    lines = [
        "# Decode and prepare 2048×2048 DICOM",
        "",
        "`python benchmarks/decode_rate.py`: images a second from file to network input, the best of three runs.",
        f"{settings['cores']} cores, load average {settings['load_average']:.1f} at the end.",
        "Two processes of plain arithmetic did",
        f"{settings['cores_to_be_had']:.2f} times the work of one just after: but for noise, no ratio can be higher.",
        "Only where that figure is near 2 do the ratios say whether decoding keeps two cores busy.",
        "",
        "| files | one worker | two workers | ratio |",
        "|---|---|---|---|",
        *(f"| {r['files']} | {r['one_worker']:.1f} | {r['two_workers']:.1f} | {r['ratio']:.2f} |" for r in rows),
    ]
    (OUT / "results.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
