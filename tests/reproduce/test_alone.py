"""The cells of a machine without Ray: packed images, a cell that goes on where it was cut off, and the same sets as the pipeline's."""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from m3d import Condense, Condenser, CondenseState
from pipeline.image_sets import training_set
from pipeline.presets import preset
from tests.pipeline.runs import prepared, small_config
from tests.reproduce import alone, alone_cell, pack
from tests.reproduce.cells import CELLS
from tests.reproduce.page import page
from tests.reproduce.test_reproduce import small_run

NAME = "cifar10_ipc1_seed1"


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four digits, packed in several parts."""
    monkeypatch.setattr(pack, "PART_BYTES", 16_000)
    assert pack.pack(prepared(small_config(), tmp_path), tmp_path / "parts") > 2
    return tmp_path / "parts"


def call(parts: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    folder = parts.parent
    words = ["alone", NAME, "--data", str(parts), "--work", str(folder / "work"), "--results", str(folder / "results")]
    monkeypatch.setattr(sys, "argv", [*words, "--iterations", "3", "--epochs", "2", "--commit", "abc", *options])
    return alone.main()


def test_packed_images_are_those_of_the_class_shards(parts: Path) -> None:
    cache = prepared(small_config(), parts.parent / "again")
    held = alone.load(parts)
    assert len(held.train) == 4
    for label, images in enumerate(held.train):
        torch.testing.assert_close(images, cache.train(label), rtol=0, atol=0)
    expected = cache.test_set("test")
    torch.testing.assert_close(held.test.images, expected.images, rtol=0, atol=0)
    torch.testing.assert_close(held.test.labels, expected.labels, rtol=0, atol=0)
    assert (held.test.mean, held.test.std, held.test.classes) == (expected.mean, expected.std, 4)


def test_a_cell_goes_on_where_it_was_cut_off(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results, work = parts.parent / "results", parts.parent / "work" / NAME
    assert call(parts, monkeypatch, "--minutes", "0") == 0
    assert "the same command goes on" in capsys.readouterr().out
    assert torch.load(work / "checkpoint.pt", weights_only=True)["iteration"] == 1
    steps: list[int] = []
    step = Condenser.step

    def counted(self: Condenser, state: CondenseState, **options: bool) -> Any:
        steps.append(state.iteration)
        return step(self, state, **options)

    monkeypatch.setattr(Condenser, "step", counted)
    assert call(parts, monkeypatch) == 0
    assert steps == [1, 2]
    said = capsys.readouterr().out
    assert "1 of 1 cells have a result" in said
    found = json.loads((results / f"{NAME}.json").read_text())
    assert [row["set"] for row in found["rows"]] == ["condensed", "random", "mosaic"]
    assert all(len(row["accuracies"]) == 5 for row in found["rows"])
    assert not found["comparable"]
    assert "45.3" not in page([found])  # three iterations are not the published schedule
    for path in work.glob("*.json"):
        assert len(json.loads(path.read_text())) == 5
    whole = torch.load(work / "checkpoint.pt", weights_only=True)
    # At one go, the pixels and the figures are the same.
    (results / f"{NAME}.json").unlink()
    for path in work.iterdir():
        path.unlink()
    assert call(parts, monkeypatch) == 0
    torch.testing.assert_close(
        torch.load(work / "checkpoint.pt", weights_only=True)["pixels_KSCHW"], whole["pixels_KSCHW"], rtol=0, atol=0
    )
    again = json.loads((results / f"{NAME}.json").read_text())
    assert [row["accuracies"] for row in again["rows"]] == [row["accuracies"] for row in found["rows"]]


def test_more_iterations_go_on_and_fewer_are_refused(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = parts.parent / "results" / f"{NAME}.json"
    assert call(parts, monkeypatch) == 0
    results.unlink()
    assert call(parts, monkeypatch, "--iterations", "30") == 0
    assert json.loads(results.read_text())["schedule"]["iterations"] == 30
    held = {path.name for path in (parts.parent / "work" / NAME).glob("condensed-*.json")}
    assert held == {"condensed-3-2-0.json", "condensed-30-2-0.json"}  # figures of the shorter one are not taken over
    results.unlink()
    assert call(parts, monkeypatch) == 2
    assert "is at iteration 30 already; give another --work" in capsys.readouterr().out


def test_its_settings_are_the_presets_and_its_sets_the_pipelines(parts: Path) -> None:
    given = argparse.Namespace(
        iterations=10_000, epochs=None, best_epoch=0, compile="auto", work=parts.parent / "work", commit="abc"
    )
    images = alone.load(parts)
    for cell in CELLS:
        if cell.data == "cifar10":
            task = alone.task_of(cell, images, time.monotonic(), given)
            config = preset(cell.preset)
            assert task.condense == config.condense
            assert replace(task.evaluate, seeds=config.evaluate.seeds) == config.evaluate
            assert cell.settings == (() if task.seed == 0 else (f"seed={task.seed}",))
    config = small_config("condense.images_per_class=3", "seed=1")
    cell = next(cell for cell in CELLS if cell.name == "cifar10_ipc10_seed1")
    task = replace(alone.task_of(cell, images, time.monotonic(), given), condense=Condense(images_per_class=3))
    cache = prepared(config, parts.parent / "again")
    condenser = alone_cell.condenser_of(task)
    for name in ("random", "mosaic"):
        for seed in (0, 1):
            ours = alone_cell.training_images(name, condenser.result(condenser.init()), condenser, task, seed)
            theirs = training_set(name, config, "", cache, seed)
            torch.testing.assert_close(ours, theirs)


def test_what_is_missing_is_said(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (parts / "part-1.pt").unlink()
    assert call(parts, monkeypatch) == 2
    assert "tests.reproduce.pack makes them" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["alone", "imagenet", "--data", str(parts)])
    assert alone.main() == 2
    assert "unknown cells: imagenet; there are: cifar10_ipc1," in capsys.readouterr().out


def test_it_needs_neither_ray_nor_arrow() -> None:
    code = "import sys, tests.reproduce.alone; print(*{'ray', 'pyarrow', 'pipeline', 'torchvision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == ""


def test_a_run_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(tmp_path / "run", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["pack", str(run), str(tmp_path / "parts")])
    pack.main()
    assert capsys.readouterr().out.startswith("1 parts")
    assert len(alone.load(tmp_path / "parts").train) == 4
    monkeypatch.setattr(sys, "argv", ["pack", str(tmp_path), str(tmp_path / "parts")])
    with pytest.raises(SystemExit, match="2"):
        pack.main()
