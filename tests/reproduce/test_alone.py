"""Cells on a machine without Ray: packed images, resuming an interrupted cell, and the same sets as the pipeline's."""

import argparse
import json
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from m3d import Condense, Condenser, CondenseState, Evaluate
from pipeline.config.presets import preset
from pipeline.evaluate.training_sets import training_set
from pipeline.formats.run_folder import RunFolder
from tests.pipeline.support.runs import prepared, small_config
from tests.reproduce import alone, alone_cell, alone_rows
from tests.reproduce.cells import CELLS, OutOfTimeError
from tests.reproduce.packed import load
from tests.reproduce.page import page

NAME = "cifar10_ipc1_seed1"
GIVEN = argparse.Namespace(
    iterations=10_000, epochs=None, best_epoch=0, compile="auto", work=Path("work"), commit="abc"
)

ORIGIN = alone_cell.Origin(
    commit="abc", device="a device", precision="float32", compiled=False, python="3.11", torch=str(torch.__version__)
)


def call(parts: Path, monkeypatch: pytest.MonkeyPatch, *options: str, work: str = "work") -> int:
    folder = parts.parent / work
    words = ["alone", NAME, "--data", str(parts), "--work", str(folder), "--iterations", "3", "--epochs", "2"]
    monkeypatch.setattr(sys, "argv", [*words, "--commit", "abc", *options])
    return alone.main()


def found_in(parts: Path, work: str = "work") -> dict[str, Any]:
    return json.loads((parts.parent / work / f"{NAME}.json").read_text())


def test_an_interrupted_cell_resumes(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = parts.parent / "work" / NAME
    assert call(parts, monkeypatch, "--minutes", "0") == 0
    assert "the same command resumes" in capsys.readouterr().out
    assert torch.load(work / "checkpoint.pt", weights_only=True)["iteration"] == 1
    steps: list[int] = []
    step = Condenser.step

    def counted(self: Condenser, state: CondenseState, **options: bool) -> Any:
        steps.append(state.iteration)
        return step(self, state, **options)

    monkeypatch.setattr(Condenser, "step", counted)
    assert call(parts, monkeypatch, "--commit", "def") == 0
    assert steps == [1, 2]
    assert "1 of 1 cells have a result" in capsys.readouterr().out
    found = found_in(parts)
    assert [row["set"] for row in found["rows"]] == ["condensed", "random", "mosaic"]
    assert all(len(row["accuracies"]) == 5 for row in found["rows"])
    assert found["commit"] == {"condensed": "abc, def", "evaluated": "def"}
    assert not found["comparable"]
    assert "45.3" not in page([found])  # three iterations are not the published schedule
    assert "--set condense.iterations=3 --set evaluate.epochs=2" in found["commands"][0]
    # In a single call, the pixels and the figures are the same.
    assert call(parts, monkeypatch, work="whole") == 0
    pixels = [
        torch.load(parts.parent / name / NAME / "checkpoint.pt", weights_only=True)["tensors"]["pixels_KSCHW"]
        for name in ("work", "whole")
    ]
    torch.testing.assert_close(pixels[0], pixels[1], rtol=0, atol=0)
    assert [row["accuracies"] for row in found_in(parts, "whole")["rows"]] == [
        row["accuracies"] for row in found["rows"]
    ]


def test_an_evaluation_resumes_network_by_network(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(parts, monkeypatch, "--epochs", "30") == 0
    whole = found_in(parts)
    (parts.parent / "work" / f"{NAME}.json").unlink()
    for path in (parts.parent / "work" / NAME).glob("*.json"):
        held = json.loads(path.read_text())
        path.write_text(json.dumps([{**held[0], "accuracy": 1.0}, *held[1:2]]))
    trained: list[int] = []
    trials = alone_rows.trials
    monkeypatch.setattr(
        alone_rows, "trials", lambda *a, seeds, **o: trained.append(seeds[0]) or trials(*a, seeds=seeds, **o)
    )
    assert call(parts, monkeypatch, "--epochs", "30") == 0
    assert trained == [2, 3, 4] * 3
    for row, before in zip(found_in(parts)["rows"], whole["rows"], strict=True):
        assert row["accuracies"] == [1.0, *before["accuracies"][1:]]


@pytest.mark.parametrize("every", [0, pytest.param(5, marks=pytest.mark.slow)])
def test_a_network_resumes_within_its_training(parts: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    asked = ("--epochs", "30", "--best-epoch", str(every))
    assert call(parts, monkeypatch, *asked, work="whole") == 0
    keep, load_kept, begun = alone_rows.Keeper.keep, alone_rows.Keeper.load, []

    def cut(self: alone_rows.Keeper, seed: int, epoch: int, tensors: Any) -> None:
        self.ends = time.monotonic() + (0 if (seed, epoch) == (1, 7) and not begun else 60)
        keep(self, seed, epoch, tensors)

    def noted(self: alone_rows.Keeper, seed: int) -> Any:
        held = load_kept(self, seed)
        begun.extend([] if held is None else [(seed, held[0])])
        return held

    monkeypatch.setattr(alone_rows.Keeper, "keep", cut)
    monkeypatch.setattr(alone_rows.Keeper, "load", noted)
    assert call(parts, monkeypatch, *asked) == 0
    assert call(parts, monkeypatch, *asked, "--commit", "def") == 0
    assert begun == [(1, 7)]
    found = found_in(parts)
    assert found["commit"] == {"condensed": "abc", "evaluated": "abc, def"}
    (path,) = (parts.parent / "work" / NAME).glob("condensed-*.json")
    made = [[origin["commit"] for origin in one["origins"]] for one in json.loads(path.read_text())]
    assert made == [["abc"], ["abc", "def"], ["def"], ["def"], ["def"]]
    assert found["origins"]["condensed"][0]["precision"] == "float32"
    assert found["versions"]["torch"] == torch.__version__
    for row, whole in zip(found["rows"], found_in(parts, "whole")["rows"], strict=True):
        assert row["accuracies"] == whole["accuracies"]
        assert row.get("best_epoch_compatibility") == whole.get("best_epoch_compatibility")


def test_an_unfinished_network_is_kept_when_the_time_is_over(tmp_path: Path) -> None:
    path, asked = tmp_path / "network.pt", {"weight": torch.arange(3.0)}
    kept = alone_rows.Keeper(path, time.monotonic() + 60, ORIGIN)

    def give() -> dict[str, Tensor]:
        return asked

    kept.keep(1, 5, give)
    assert not path.exists()  # not yet
    with pytest.raises(OutOfTimeError):
        alone_rows.Keeper(path, time.monotonic(), ORIGIN).keep(1, 6, give)
    held = kept.load(1)
    assert held is not None
    assert held[0] == 6
    assert torch.equal(held[1]["weight"], asked["weight"])
    assert kept.load(2) is None
    kept.finished(1)
    assert kept.load(1) is None


def test_ctrl_c_prints_one_line(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(task: alone_cell.Task) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(alone, "condense", interrupted)
    assert call(parts, monkeypatch) == 130
    assert "interrupted; the same command resumes" in capsys.readouterr().out


def test_another_precision_is_refused(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = parts.parent / "work" / NAME / "checkpoint.pt"
    assert call(parts, monkeypatch, "--minutes", "0") == 0
    held = torch.load(path, weights_only=True)
    held["origins"][0]["precision"] = "tf32"
    torch.save(held, path)
    assert call(parts, monkeypatch) == 2
    assert "is in tf32, but this machine chooses" in capsys.readouterr().out


def test_more_iterations_resume_and_fewer_are_refused(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(parts, monkeypatch) == 0
    assert call(parts, monkeypatch, "--iterations", "5") == 0
    assert found_in(parts)["schedule"]["iterations"] == 5
    held = list((parts.parent / "work" / NAME).glob("condensed-*.json"))
    assert len(held) == 2  # figures of the shorter one are not reused
    assert call(parts, monkeypatch, "--iterations", "5", "--best-epoch", "1") == 0
    assert found_in(parts)["rows"][0]["best_epoch_compatibility"]["every"] == 1
    capsys.readouterr()
    assert call(parts, monkeypatch) == 2
    assert "is already at iteration 5; give another --work" in capsys.readouterr().out


def test_settings_equal_the_presets_and_sets_equal_the_pipelines(parts: Path) -> None:
    images = load(parts)
    for cell in CELLS:
        if cell.data == "cifar10":
            task = alone.task_of(cell, images, time.monotonic(), GIVEN)
            config = preset(cell.preset)
            assert task.condense == config.condense
            shared = {field.name: getattr(config.evaluate, field.name) for field in fields(Evaluate)}
            assert replace(task.evaluate, seeds=config.evaluate.seeds) == Evaluate(**shared)
            assert (task.best_epoch, task.compile) == (config.evaluate.best_epoch, config.evaluate.compile)
            assert config.evaluate.architectures == (alone_rows.ARCHITECTURE,)
            assert cell.settings == (() if task.seed == 0 else (f"seed={task.seed}",))
            condenser = alone_cell.condenser_of(task)
            assert condenser.method == config.method
    config = small_config("condense.images_per_class=3", "seed=1")
    cell = next(cell for cell in CELLS if cell.name == "cifar10_ipc10_seed1")
    task = alone.task_of(cell, images, time.monotonic(), GIVEN)
    task = replace(task, condense=Condense(images_per_class=3))
    cache = prepared(config, parts.parent / "again")
    condenser = alone_cell.condenser_of(task)
    start = condenser.result(condenser.init())
    made = alone_cell.Made(condensed=start, start=start, seconds=0.0, origins=[])
    for name in ("random", "mosaic"):
        for seed in (0, 1):
            ours = alone_rows.training_images(name, task, made, seed)
            torch.testing.assert_close(ours, training_set(name, config, RunFolder(""), cache, seed))


def test_a_failing_compiler_is_skipped(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def fails(task: alone_cell.Task) -> None:
        if task.condense.compile == "auto":
            raise BackendCompilerFailed(lambda: None, RuntimeError("no"), None)
        raise OutOfTimeError

    monkeypatch.setattr(alone_cell, "_condensed", fails)
    assert call(parts, monkeypatch) == 0
    assert "continues without the compiler, which failed" in capsys.readouterr().out
    assert call(parts, monkeypatch, "--compile", "off") == 0
    monkeypatch.setattr(alone_cell, "_condensed", lambda task: fails(replace(task, condense=Condense())))
    assert call(parts, monkeypatch, "--compile", "on") == 2
    assert "--compile: the compiler failed (no); use --compile off" in capsys.readouterr().out


@pytest.mark.slow
def test_a_compiler_that_fails_in_an_evaluation_is_tried_once(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(parts, monkeypatch, "--epochs", "30", work="whole") == 0
    network, tried = alone_rows._network, []

    def fails(name: str, task: alone_cell.Task, made: alone_cell.Made, seed: int, kept: Path) -> alone_rows.Network:
        tried.append((name, seed, task.compile))
        if task.compile == "auto" and seed == 2:
            raise RuntimeError("operation not permitted when stream is capturing")
        return network(name, task, made, seed, kept)

    monkeypatch.setattr(alone_rows, "_network", fails)
    assert call(parts, monkeypatch, "--epochs", "30") == 0
    assert "continues without the compiler, which failed: operation not" in capsys.readouterr().out
    assert tried[:5] == [
        ("condensed", 0, "auto"),
        ("condensed", 1, "auto"),
        *(("condensed", 2, how) for how in ("auto", "off")),
        ("condensed", 3, "off"),
    ]
    assert [how for _, _, how in tried].count("auto") == 3
    assert [row["accuracies"] for row in found_in(parts)["rows"]] == [
        row["accuracies"] for row in found_in(parts, "whole")["rows"]
    ]


def test_nothing_is_compiled_when_the_time_is_over(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("m3d.Condenser.warm_up", lambda *_: pytest.fail("compiles"))
    assert call(parts, monkeypatch, "--compile", "on", "--minutes", "0") == 0
    assert "the time is over; the same command resumes" in capsys.readouterr().out


def test_an_unknown_cell_is_reported(
    parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["alone", "imagenet", "--data", str(parts), "--commit", "abc"])
    assert alone.main() == 2
    assert "unknown cells: imagenet; there are: cifar10_ipc1, cifar10_ipc1_seed1," in capsys.readouterr().out


def test_it_needs_only_pytorch(parts: Path) -> None:
    others = "ray pyarrow pipeline torchvision scipy rich pydantic safetensors sklearn PIL fsspec jaxtyping beartype"
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({others!r}.split()))\n"
        "from tests.reproduce.alone import main; sys.exit(main())"
    )
    options = ["--iterations", "2", "--epochs", "1", "--commit", "abc", "--best-epoch", "1"]
    words = [NAME, "--data", str(parts), "--work", str(parts.parent / "work"), *options]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    best = found_in(parts)["rows"][0]["best_epoch_compatibility"]
    assert (best["every"], len(best["accuracies"])) == (1, 5)
