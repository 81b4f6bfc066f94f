"""How fast images are ingested: ``python -m tests.benchmarks.ingest [--json] [--data FOLDER_OR_TAR] [--images 12000]``.

It compares ``prepare`` with a bare loop on every core that reads, decodes and resizes the same files with the same
decoder and keeps nothing. Both take turns. The files are those of ``--data``, repeated under other names until there
are enough; without ``--data`` they are synthetic JPEGs of 500 x 375 px. Ray starts before the measurement.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from pipeline.config import presets
from pipeline.config.parsing import with_settings
from pipeline.config.run_config import RunConfig
from pipeline.data.decode_image import pixels
from pipeline.data.prepare import prepare
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime import session
from tests.pipeline.support.images import encoded, smooth

CLASSES = 20
SIDE = 128


def main() -> None:
    """Prints the figures as JSON or as a line of text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", help="folder or tar file of images")
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    # What prepare prints goes to stderr, so that stdout has the figures only.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        figures = measure(args.data, args.images, args.rounds, Path(folder))
    if args.json:
        print(json.dumps(figures))
    else:
        print(
            f"prepare: {figures['prepare_per_s']:.0f} images a second, the bare loop {figures['bare_per_s']:.0f}: "
            f"{100 * figures['prepare_over_bare']:.0f} %; at most {figures['worker_peak_mib']:.0f} MiB in a worker"
        )


def measure(data: str | None, images: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Images per second of both (medians), their ratio, and the peak memory of the largest worker."""
    source = _files(data, folder / "originals")
    paths = _repeated(source, images, folder / "images")
    config = with_settings(
        presets.preset("cifar10_ipc1"),
        [f"data.path={json.dumps(str(folder / 'images'))}", "data.source=image_folder", f"data.image_size={SIDE}"],
    )
    session.start(config.resources)
    _prepared_s(config, folder / "warm", 0)  # starts the workers
    cores = len(os.sched_getaffinity(0))
    shares = [[str(path) for path in paths[i::cores]] for i in range(cores)]
    bare, ours, peak = [], [], 0.0
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_decode, [share[:5] for share in shares]))
        for turn in range(1, rounds + 1):
            began = time.perf_counter()
            list(pool.map(_decode, shares))
            bare.append(len(paths) / (time.perf_counter() - began))
            ours.append(len(paths) / _prepared_s(config, folder / "out", turn))
            peak = max(peak, _worker_mib())
    return {
        "cores": cores,
        "images": len(paths),
        "image_size": SIDE,
        "prepare_per_s": statistics.median(ours),
        "bare_per_s": statistics.median(bare),
        "prepare_over_bare": statistics.median(ours) / statistics.median(bare),
        "worker_peak_mib": peak,
    }


def _prepared_s(config: RunConfig, out: Path, turn: int) -> float:
    began = time.perf_counter()
    prepare(config, RunFolder.at(out / str(turn)))
    return time.perf_counter() - began


def _decode(paths: list[str]) -> int:
    return sum(pixels(Path(path).read_bytes(), SIDE, 3).size > 0 for path in paths)


def _files(data: str | None, folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    if data is None:
        for number in range(20):
            (folder / f"{number}.jpg").write_bytes(encoded(smooth(375, 500 + number), "JPEG", quality=90))
    elif Path(data).is_dir():
        folder = Path(data)
    else:
        with tarfile.open(data) as archive:
            archive.extractall(folder, filter="data")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))


def _repeated(source: list[Path], count: int, folder: Path) -> list[Path]:
    paths = []
    for number in range(count):
        split = "val" if number < 2 * CLASSES else "train"
        place = folder / split / f"class{number % CLASSES:03d}"
        place.mkdir(parents=True, exist_ok=True)
        original = source[number % len(source)]
        path = place / f"{number:07d}{original.suffix}"
        os.link(original, path) if original.stat().st_dev == folder.stat().st_dev else path.write_bytes(
            original.read_bytes()
        )
        paths.append(path)
    return paths


def _worker_mib() -> float:
    """Peak memory of the largest Ray worker."""
    workers = [child for child in psutil.Process().children(recursive=True) if "ray::" in " ".join(_command(child))]
    return max((_highest_mib(worker.pid) for worker in workers), default=0.0)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _highest_mib(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 2**10 for line in status if line.startswith("VmHWM")), 0.0)


if __name__ == "__main__":
    main()
