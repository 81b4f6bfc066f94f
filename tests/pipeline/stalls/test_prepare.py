"""A worker of ``prepare`` is stopped while it decodes."""

import os
import re
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.pipeline.support.stalls import pipeline, stopped_once, worker

STALL = ("--set", "resources.stall_s=10")


def many_images(folder: Path) -> Path:
    """Two classes of 700 names for the same few images, so that decoding takes seconds."""
    for name in ("ant", "bee"):
        for split, count in (("train", 700), ("test", 2)):
            below = folder / split / name
            below.mkdir(parents=True)
            pixels = np.random.default_rng(len(name)).integers(0, 256, (320, 320, 3), np.uint8)
            Image.fromarray(pixels).save(below / "0.png")
            for i in range(1, count):
                os.link(below / "0.png", below / f"{i}.png")
    return folder


def shards(cache: Path) -> dict[str, bytes]:
    """All files of the class shards."""
    return {path.name: path.read_bytes() for path in cache.glob("*/*.*") if not path.name.startswith(".")}


@pytest.mark.long
@pytest.mark.timeout(1100)
def test_a_stopped_worker_is_replaced_and_the_shards_are_the_same(tmp_path: Path) -> None:
    settings = ("data.source=image_folder", "data.image_size=64", "data.channels=3")
    source = [word for text in settings for word in ("--set", text)]
    source += ["--preset", "cifar10_ipc1", "--data", str(many_images(tmp_path / "images"))]

    def command(name: str) -> list[str]:
        cache = ("--set", f"data.cache={tmp_path / name}")
        return ["prepare", *source, *cache, *STALL, "--out", str(tmp_path / f"{name}-out")]

    def decoding(driver: psutil.Process) -> psutil.Process | None:
        half_written = list((tmp_path / "stalled").glob("*/.*.tmp"))
        return worker("prepare")(driver) if half_written else None

    ended = stopped_once(*command("stalled"), victim=decoding, folder=tmp_path)
    assert (ended.code, ended.errors, ended.victims) == (0, "", 1)
    # 60 s if it was stopped before its first heartbeat had arrived.
    assert re.search(r"prepare: a worker was lost \(silent for (10|60) s\); its work is started again", ended.output)
    undisturbed = pipeline(*command("undisturbed"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert shards(tmp_path / "stalled") == shards(tmp_path / "undisturbed")
