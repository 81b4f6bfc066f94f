"""docs/exports.md: what its Python computes on a small run. ``tests/documentation`` runs every block."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.documentation.pages import ROOT, code_blocks
from tests.pipeline.evaluate.test_compare import finished_run

BLOCKS = [block.text for block in code_blocks(ROOT / "docs" / "exports.md", "python")]
SHORTER = {
    "range(100)": "range(2)",
    "epochs=100": "epochs=2",
    "(n, 128, 3": "(n, 8, 3",
    "(128, 128)": "(8, 8)",
    "(1, 128, 128)": "(1, 8, 8)",
}
"""What is changed, for time."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/demo, four digits at 8 px, and a photo."""
    folder = tmp_path_factory.mktemp("docs")
    finished_run(folder / "runs" / "demo")
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(folder / "new.jpg")
    return folder


def run(part: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the only block with a text in it leaves behind."""
    (block,) = [block for block in BLOCKS if part in block]
    for long, short in SHORTER.items():
        block = block.replace(long, short)
    monkeypatch.chdir(home)
    names: dict[str, Any] = {}
    exec(compile(block, "a block of docs/exports.md", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("part", "count"),
    [("pa.memory_map", 2), ("table()\nimages", 4), ("polars.read_ipc", 4), ("pandas.read_feather", 4)],
)
def test_readers_of_shards(part: str, count: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = run(part, home, monkeypatch)["images"]
    assert (images.shape, images.dtype) == ((count, 1, 8, 8), np.float32)
    from pipeline.formats.condensed_reader import load_condensed

    expected = load_condensed("runs/demo", decode=False, normalise=False).images.numpy()
    assert np.array_equal(images, expected[:count])


def test_duckdb_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("duckdb.sql", home, monkeypatch)["counts"] == [(label, str(label), 1) for label in range(4)]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_ray_data_reads(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = run("ray.data", home, monkeypatch)["batch"]
    assert (batch["image"].shape, batch["image"].dtype) == ((4, 1, 8, 8), np.float32)


def test_a_loop_of_plain_torch(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("DataLoader", home, monkeypatch)
    assert names["dataset"].images.shape == (16, 1, 8, 8)
    assert names["test"].classes == 4
    assert capsys.readouterr().out.startswith("test accuracy ")


def test_a_new_photo(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    chances = run("new.jpg", home, monkeypatch)["chances"]
    assert chances.shape == (4,)
    assert float(chances.sum().detach()) == pytest.approx(1)
    assert capsys.readouterr().out.count("%") == 3


def test_the_result_of_m3d_condense(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = run("save_condensed", home, monkeypatch)["dataset"]
    assert dataset.class_to_idx == {"ant": 0, "bee": 1}
    assert dataset.images.shape == (8, 3, 16, 16)
