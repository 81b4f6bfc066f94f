"""The table of results: its page, which cells are measured or skipped, and the contents of a result."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.parser import build_parser
from pipeline.condense.manifest import new_record
from pipeline.config.parsing import with_settings
from pipeline.config.presets import PRESETS
from pipeline.evaluate.results import NetworkScore, row_of, write_rows
from pipeline.evaluate.rows import request_of
from pipeline.formats.condensed_reader import read_manifest
from pipeline.formats.confusion_matrix import Confusion
from pipeline.formats.run_folder import RunFolder
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.runs import placement_of, small_config
from tests.reproduce import __main__ as tool
from tests.reproduce import measure
from tests.reproduce.cells import CELLS, PUBLISHED, Cell, OutOfTimeError
from tests.reproduce.page import PAGE, page, results

SMALL = Cell(
    name="small",
    preset="digits_ipc1",
    architectures=("convnet1",),
    sets=("condensed", "random"),
    seeds=2,
    trajectories=3,
)


def test_the_page_is_generated_from_the_files() -> None:
    assert PAGE.read_text() == page(results()), "run python -m tests.reproduce --page"


@pytest.mark.parametrize("path", sorted(measure.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_records_how_to_reproduce_it(path: Path) -> None:
    held = json.loads(path.read_text())
    assert held["cell"] == path.stem
    assert held["preset"] in PRESETS
    assert set(held["commit"]) == set(held["hardware"]) == {"condensed", "evaluated"}
    assert held["schedule"]["iterations"] > 0
    for row in held["rows"]:
        assert row["epoch"] == "last"
        assert row["seeds"] == list(range(len(row["seeds"])))
        assert len(row.get("accuracies", row["seeds"])) == len(row["seeds"])
    assert not re.search(r'"[^"]*(/tmp|/home|/root|/work)', path.read_text())
    for command in held["commands"]:
        build_parser().parse_args(command.split()[3:])


def test_cells_can_be_configured() -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    for cell in CELLS:
        config = measure.config_of(cell, None)
        assert f"ipc{config.condense.images_per_class}" in cell.name
        published = (config.condense.iterations, config.evaluate.epochs) == (10_000, None)
        assert published == (cell.comparable and not cell.preset.startswith("digits"))
    assert {preset for preset, _ in PUBLISHED} <= set(PRESETS)


def small_run(out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished and evaluated run of the small digits, whose configuration the small cell is made to use."""
    config = small_config(iterations=2)
    cache = condensed_run(config, out)
    RunFolder.at(out).write_record(new_record(config, cache, placement_of(config)))
    seal = read_manifest(str(out / "condensed"))["checksum"]
    for name, right in (("condensed", 3), ("random", 2), ("class_mean", 1)):
        line = [right, 4 - right]
        score = NetworkScore(
            accuracy=25.0 * right,
            confusion=Confusion.of([line, line[::-1]]),
            best=None,
            precision="float32",
            compiled=False,
            device="a device",
        )
        dm = with_settings(config, ["evaluate.protocol=dm"])
        for protocol, commit in ((config, "of the rows"), (dm, "of another protocol")):
            request = request_of(protocol, name, "convnet1", classes=4, origins={"condensed_set": seal})
            both = {seed: replace(score, commit=commit) for seed in (0, 1)}
            write_rows(RunFolder.at(out), [row_of(request, both, images_per_class=1)])
    monkeypatch.setattr(measure, "config_of", lambda cell, data: config)
    return out


def test_a_matching_run_is_reused_and_another_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run(tmp_path / "runs" / "a", monkeypatch)
    assert measure.reusable_run(SMALL, None, tmp_path / "runs") == run
    assert measure.reusable_run(SMALL, None, run) == run
    assert measure.reusable_run(SMALL, None, None) is None
    for other in ("seed=1", "condense.iterations=3", "data.classes=0,1,2", "evaluate.epochs=6"):
        monkeypatch.setattr(
            measure, "config_of", lambda cell, data, other=other: with_settings(small_config(iterations=2), [other])
        )
        assert measure.reusable_run(SMALL, None, tmp_path / "runs") is None
    monkeypatch.setattr(measure, "config_of", lambda cell, data: small_config("evaluate.seeds=9", iterations=2))
    assert measure.reusable_run(SMALL, None, tmp_path / "runs") == run  # the cell decides how it is evaluated


def test_a_cell_is_condensed_evaluated_and_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run(tmp_path / "work" / "small", monkeypatch)
    commands: list[list[str]] = []
    monkeypatch.setattr(measure, "pipeline", lambda arguments, ends: commands.append(list(arguments)))
    found = measure.run(SMALL, data=None, work=tmp_path / "work", runs=None, ends=time.monotonic() + 60)
    assert [one[0] for one in commands] == ["condense", "pretrain", "evaluate"]
    assert commands[1][1:] == ["--config", f"{run}/config.json", "--out", str(run), "--set", "pretrain.trajectories=3"]
    assert commands[2] == [
        "evaluate",
        str(run),
        "--architectures",
        "convnet1",
        "--sets",
        "condensed,random",
        "--seeds",
        "2",
    ]
    assert [row["set"] for row in found["rows"]] == ["condensed", "random"]
    assert (found["commit"]["evaluated"], found["hardware"]["evaluated"]) == ("of the rows", "a device")
    assert len(found["scores"]) == 1
    assert found["scores"][0]["ior"] == pytest.approx(0.25)
    assert str(tmp_path) not in json.dumps(found)
    measure.write(found, tmp_path)
    assert json.loads((tmp_path / "small.json").read_text()) == found
    shown = page([found])
    assert "| convnet1 | condensed | 75.0 ± 0.0 | 75.0 to 75.0 | 2 | 5 |  |" in shown
    assert "| convnet1 | 0.250 |  |  |" in shown
    commands.clear()
    measure.run(SMALL, data=None, work=tmp_path / "elsewhere", runs=run, ends=time.monotonic() + 60)
    assert [one[0] for one in commands] == ["pretrain", "evaluate"]  # the reused run is already condensed


def test_the_published_figure_has_its_own_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "set": "condensed",
        "protocol": "idc",
        "architecture": "convnet3",
        "mean": 44.0,
        "std": 1.0,
        "seeds": [0, 1],
        "epochs": 1000,
    }
    one: dict[str, Any] = {"cell": "cifar10_ipc1", "preset": "cifar10_ipc1", "commands": [], "rows": [row]}
    one |= {"schedule": {"iterations": 10}, "commit": {"condensed": "a" * 40, "evaluated": None}}
    one |= {"hardware": {"condensed": "x", "evaluated": "y"}}
    assert "| convnet3 | condensed | 44.0 ± 1.0 |  | 2 | 1000 | 45.3 |" in page([one])
    assert "| [cifar10_ipc1](#cifar10_ipc1) | 10 | 1000 | 44.0 ± 1.0 |  |  |  |  |  |  | 45.3 |" in page([one])
    assert "45.3" not in page([{**one, "comparable": False}])


def test_the_overview_has_every_cell_with_the_network_that_condensed() -> None:
    shown = page(results())
    overview, *sections = shown.split("\n## ")[1:]
    rows = [line.split(" | ") for line in overview.splitlines() if line.startswith("| [")]
    assert [re.findall(r"\[(\w+)\]", row[0])[0] for row in rows] == [one.splitlines()[0] for one in sections]
    digits = next(row for row in rows if "[digits_ipc10]" in row[0])
    assert digits[1:5] == ["60", "100", "99.1 ± 0.4", "95.7 ± 0.5"]
    assert digits[9] == "98.9 ± 0.5"  # the whole set, under its own schedule


def test_results_follow_the_order_of_the_cells(tmp_path: Path) -> None:
    for name in ("early_one", "digits_ipc10", "digits_ipc5", "digits_ipc1"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"cell": name}))
    assert [one["cell"] for one in results(tmp_path)] == ["digits_ipc1", "digits_ipc5", "digits_ipc10", "early_one"]


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Replaces ``python -m pipeline`` by a program with the given Python code."""
    program = folder / "program"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "$PROGRAM"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PROGRAM", code)
    monkeypatch.setattr(sys, "executable", str(program))


def test_a_command_is_stopped_when_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = tmp_path / "stopped"
    stand_in(
        tmp_path,
        monkeypatch,
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        f"    pathlib.Path({str(stopped)!r}).write_text('saved')\n"
        "    sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "time.sleep(60)\n",
    )
    with pytest.raises(OutOfTimeError):
        measure.pipeline(["run"], time.monotonic() + 8)
    assert stopped.read_text() == "saved"
    with pytest.raises(OutOfTimeError):
        measure.pipeline(["run"], time.monotonic())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_stops_the_command_too(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stopped = tmp_path / "stopped"
    stand_in(
        tmp_path,
        monkeypatch,
        "import os, pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(1)\n"
        f"    pathlib.Path({str(stopped)!r}).write_text('saved')\n"
        "    sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"os.kill(os.getppid(), {int(number)})\n"
        "time.sleep(60)\n",
    )
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["reproduce", "digits_ipc1", "--work", str(tmp_path)])
    assert tool.main() == 130
    assert stopped.read_text() == "saved"  # before the tool has ended
    assert "digits_ipc1: interrupted; the same command resumes it" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--fresh"])
    assert tool.main() == 130
    assert "interrupted; the same command without --fresh resumes it" in capsys.readouterr().out


def test_cells_with_a_result_and_without_data_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(tool, "write_page", lambda: None)
    measured: list[str] = []

    def run(cell: Cell, **_: Any) -> dict[str, Any]:
        measured.append(cell.name)
        if cell.name == "digits_ipc10":
            raise OutOfTimeError
        return {"cell": cell.name}

    monkeypatch.setattr(measure, "run", run)
    monkeypatch.setattr(measure, "write", lambda found: (tmp_path / f"{found['cell']}.json").write_text("{}"))
    monkeypatch.delenv("M3D_DATA", raising=False)
    (tmp_path / "digits_ipc1.json").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["reproduce", "digits_ipc1", "mnist_ipc1", "digits_ipc5"])
    assert tool.main() == 0
    printed = capsys.readouterr().out
    assert measured == ["digits_ipc5"]
    assert "mnist_ipc1: skipped, needs the folder mnist" in printed
    assert "2 of 3 cells have a result" in printed
    monkeypatch.setattr(sys, "argv", ["reproduce", "digits_ipc10"])
    assert tool.main() == 0
    printed = capsys.readouterr().out
    assert "digits_ipc10: unfinished" in printed
    assert "0 of 1 cells have a result" in printed
    old = tmp_path / "work" / "digits_ipc1" / "config.json"
    old.parent.mkdir(parents=True)
    old.touch()
    monkeypatch.setattr(sys, "argv", ["reproduce", "--fresh", "digits_ipc1", "--work", str(tmp_path / "work")])
    assert tool.main() == 0
    assert measured[-1] == "digits_ipc1"
    assert not old.exists(), "the old run would count as finished"
    monkeypatch.setattr(sys, "argv", ["reproduce", "--fresh", "--runs", str(tmp_path)])
    assert tool.main() == 2
    (tmp_path / "digits_ipc5.json").write_text("{}")
    capsys.readouterr()

    def late(cell: Cell, **_: Any) -> dict[str, Any]:
        raise OutOfTimeError

    monkeypatch.setattr(measure, "run", late)
    monkeypatch.setattr(sys, "argv", ["reproduce", "--fresh", "digits_ipc1", "digits_ipc5"])
    assert tool.main() == 0
    assert (
        "without --fresh resumes it\n0 of 2" in capsys.readouterr().out
    )  # a cell that was not reached has lost its old result too
    monkeypatch.setattr(sys, "argv", ["reproduce", "--runs", str(tmp_path / "absent")])
    assert tool.main() == 2

    def broken(cell: Cell, **_: Any) -> dict[str, Any]:
        raise subprocess.CalledProcessError(2, ["x"])

    monkeypatch.setattr(measure, "run", broken)
    monkeypatch.setattr(sys, "argv", ["reproduce", "digits_ipc5", "digits_ipc10", "--fresh"])
    capsys.readouterr()
    assert tool.main() == 1
    assert "digits_ipc10: failed, exit code 2" in capsys.readouterr().out  # the second cell was tried, too
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "config.json").write_text("{")
    monkeypatch.undo()
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "none")
    monkeypatch.setattr(sys, "argv", ["reproduce", "digits_ipc10", "--runs", str(tmp_path / "runs")])
    assert tool.main() == 2
    assert f"digits_ipc10: {tmp_path / 'runs' / 'config.json'}" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["reproduce", "digits_ipc2"])
    assert tool.main() == 2
