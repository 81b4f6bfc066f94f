"""Several condensed sets in one table, and condensed sets outside of their run."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from rich.console import Console

from pipeline.condense.manifest import new_record
from pipeline.evaluate import tables
from pipeline.evaluate.compare import ComparisonRow, table
from pipeline.evaluate.intervals import estimate
from pipeline.formats import confusion_matrix
from pipeline.formats.condensed_reader import load_condensed
from pipeline.formats.confusion_matrix import read_matrix
from pipeline.formats.run_folder import RunFolder
from tests.pipeline.conftest import Told
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.rows import stored_row
from tests.pipeline.support.runs import placement_of, small_config

Call = Callable[..., Told]
KEYS = [
    *("set", "architecture", "protocol", "on", "augmentation", "labels"),
    *("mean", "std", "interval95", "accuracies", "seeds", "epochs", "epoch", "flip", "training"),
    *("images_per_class", "images", "precision", "compiled", "device", "commit", "per_class", "confusion"),
    *("difference", "difference_interval95", "note"),
]
"""Keys of a row of comparison.json, in their order."""
SHORT = ("--architectures", "convnet1", "--seeds", "2", "--set", "evaluate.epochs=2")


def finished_run(out: Path, *settings: str) -> Path:
    """A complete run of the small digits, without an evaluation."""
    config = small_config(*settings, iterations=3)
    dataset = condensed_run(config, out)
    RunFolder.at(out).write_record(new_record(config, dataset, placement_of(config)))
    return out


@pytest.mark.usefixtures("ray_cluster")
def test_compare(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The path has brackets, which rich would read as markup.
    first, second = finished_run(tmp_path / "a[/b]"), finished_run(tmp_path / "b", "seed=1")
    stored = load_condensed(str(second), decode=False, normalise=False)
    torch.save([stored.images, stored.labels], tmp_path / "c.pt")
    names = (str(first), str(second / "condensed"), f"{tmp_path / 'c.pt'}:idc:factor=2")
    code, errors, printed = call("compare", *names, *SHORT, "--out", str(tmp_path / "out"))
    assert (code, errors) == (0, [])
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    rows = comparison["results"]
    assert comparison["compared_with"] == str(first)
    assert all(f"set {number}: {name}" in printed for number, name in enumerate(names, start=1))
    assert [row["set"] for row in rows] == list(names)
    assert (
        rows[1]["accuracies"] == rows[2]["accuracies"]
    )  # the same set, as a condensed set and as a file of another project
    assert rows[0]["difference"] is None
    expected = [b - a for a, b in zip(rows[0]["accuracies"], rows[1]["accuracies"], strict=True)]
    assert rows[1]["difference"] == pytest.approx(sum(expected) / 2)
    assert rows[1]["images_per_class"] == 1
    assert rows[1]["training"] == rows[0]["training"]
    assert all(list(row) == KEYS for row in rows)
    assert rows[1]["difference_interval95"] == list(estimate(expected).interval or ())
    assert rows[2]["difference"] == rows[1]["difference"]
    monkeypatch.setattr("pipeline.evaluate.scoring.results", lambda *_: pytest.fail("networks are trained again"))
    again = call("compare", *names, *SHORT, "--out", str(tmp_path / "out"))
    assert again[0] == 0
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == comparison
    assert not (first / "evaluation.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(confusion_matrix, "LISTED_CLASSES", 3)
        assert call("compare", *names, *SHORT, "--out", str(tmp_path / "out"))[0] == 0
    large = json.loads((tmp_path / "out" / "comparison.json").read_text())["results"]
    matrices = [read_matrix(row, str(tmp_path / "out" / "comparison"), "here") for row in large]
    assert [matrix.lines() if matrix else None for matrix in matrices] == [row["confusion"] for row in rows]
    assert all("confusion" not in row for row in large)


@pytest.mark.usefixtures("ray_cluster")
def test_evaluate_takes_a_condensed_set_alone_and_the_one_of_a_run(call: Call, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    code, errors, _ = call("evaluate", str(run / "condensed"), *SHORT, "--sets", "condensed,class_mean")
    assert (code, errors) == (0, [])
    inner = json.loads((run / "evaluation.json").read_text())["results"]
    assert [row["set"] for row in inner] == ["condensed", "class_mean"]

    alone = shutil.copytree(run / "condensed", tmp_path / "elsewhere")
    code, errors, _ = call("evaluate", str(alone), *SHORT, "--sets", "condensed,class_mean")
    assert (code, errors) == (0, [])
    outer = json.loads((alone / "evaluation.json").read_text())["results"]
    assert [row["accuracies"] for row in outer] == [row["accuracies"] for row in inner]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["A"], ["one set", "two or more"]),
        (["x.pt:idc", "y.pt:dc"], ["--preset"]),
        (["x.pt:idc", "y.pt:dc", "--preset", "digits_ipc1"], ["--out"]),
        (["x.pt:idc", "y.pt:dc", "--data", "/data"], ["--data", "--preset"]),
        (["A", "B", "--set", "condense.iterations=3"], ["compare accepts", "condense.iterations"]),
        (["A", "B", "--seeds", "0"], ["evaluate.seeds", "given 0"]),
        (["A", "B", "--architectures", "resnet81"], ["resnet81", "resnet18"]),
        (["A", "absent"], ["absent", "does not exist"]),
        (["A", "x.pt"], ["x.pt:idc:factor=2"]),
        (["A", "A", "--set", "evaluate.labels=soft"], ["evaluate.labels", "the sets' own labels"]),
    ],
)
def test_mistakes(call: Call, tmp_path: Path, ray_cluster: None, arguments: list[str], parts: list[str]) -> None:
    run = str(finished_run(tmp_path / "run"))
    code, errors, _ = call("compare", *[run if one in ("A", "B") else one for one in arguments])
    assert code == 2
    assert len(errors) == 1
    assert all(part in errors[0] for part in parts), errors[0]
    assert not (tmp_path / "out").exists()


def test_sets_of_other_data_are_refused(call: Call, tmp_path: Path, ray_cluster: None) -> None:
    first, second = finished_run(tmp_path / "a"), finished_run(tmp_path / "b", "data.classes=3,2,1,0")
    code, errors, _ = call("compare", str(first), str(second))
    assert code == 2
    assert "class names differ" in errors[0]


def test_sets_are_not_scored_on_images_that_they_were_made_from(call: Call, tmp_path: Path, ray_cluster: None) -> None:
    held_out = ("data.validation_fraction=0.2",)
    first, second = (
        finished_run(tmp_path / "a", *held_out),
        finished_run(tmp_path / "b", *held_out, "data.split_seed=1"),
    )
    validation = ("--set", "evaluate.on=validation")
    code, errors, _ = call("compare", str(first), str(second), *SHORT, *validation)
    assert code == 2
    assert "made with data.test_fraction=0.2, data.validation_fraction=0.2, data.split_seed=1, but" in errors[0]
    code, errors, _ = call("compare", str(first), str(second), *SHORT)
    assert code == 2  # the digits' test images are cut from the others by the same seed
    assert "made with data.test_fraction=0.2, data.split_seed=1, but" in errors[0]
    stored = load_condensed(str(second), decode=False, normalise=False)
    torch.save([stored.images, stored.labels], tmp_path / "c.pt")
    file = f"{tmp_path / 'c.pt'}:idc:factor=2"
    code, errors, _ = call("compare", str(first), file, *SHORT, *validation, "--out", str(tmp_path / "out"))
    assert (code, errors) == (0, [])
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["results"]
    assert ["images that it is scored on" in row["note"] for row in rows] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--sets", "kcenter"], ["kcenter", "k_center"]),
        (["--sets", ""], ["condensed, random"]),
        (["--data", "/data"], ["--data", "keeps its own"]),
        (["--protocol", "icd"], ["evaluate.protocol", "icd"]),
        (["--architectures", "convnet1,convnet5"], ["evaluate.architectures: convnet5 needs", "32 px"]),
    ],
)
def test_mistakes_of_evaluate(
    call: Call, tmp_path: Path, ray_cluster: None, arguments: list[str], parts: list[str]
) -> None:
    run = finished_run(tmp_path / "run")
    code, errors, _ = call("evaluate", str(run), *arguments)
    assert code == 2
    assert all(part in errors[0] for part in parts), errors[0]
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize("width", [80, 60, 200])
def test_every_row_of_the_table_can_be_told(width: int) -> None:
    """The sets are numbered in full before the table; set and architecture of a row are never cut."""
    names = ["runs/demo", f"/data/{'x' * 70}/theirs.pt:idc:factor=2", "/data/[/b]/others.pt:idc"]
    rows: list[ComparisonRow] = [
        cast(
            ComparisonRow,
            {
                **stored_row(name, 45.67, architecture=architecture, interval95=[-10.25, 99.75], std=1.5),
                **{"augmentation": "none", "labels": "soft", "images_per_class": 10.0, "seeds": [0, 1, 2]},
                **{"difference": None if name == names[0] else -12.3, "difference_interval95": [-12.3, -10.1]},
            },
        )
        for architecture in ("convnet3", "resnetap10")
        for name in names
    ]
    console = Console(width=width, file=io.StringIO(), soft_wrap=True)
    console.print(table(rows, "test"))
    lines = cast(io.StringIO, console.file).getvalue().splitlines()
    told = [line.split()[:2] for line in lines if line.split()[:1] in (["1"], ["2"], ["3"])]
    assert told == [[str(n), name] for name in ("convnet3", "resnetap10") for n in (1, 2, 3)]
    assert "…" not in "".join(lines)
    assert width < 80 or max(map(len, lines)) <= width
    assert all(part in " ".join(lines) for part in ("45.7", "-12.3", "idc, no augmentation, soft labels", "3 seeds"))


def test_off_a_terminal_a_row_is_one_line_of_80_columns_and_one_seed_has_no_deviation() -> None:
    rows = [
        cast(
            ComparisonRow,
            {
                **stored_row(name, 100.0, architecture="resnetap10", interval95=[-10.25, 100.0], std=12.5, seeds=seeds),
                **{"augmentation": "protocol", "labels": "hard", "images_per_class": 1000.0},
                **{"difference": -12.3, "difference_interval95": [-12.3, -10.1]},
            },
        )
        for name, seeds in (("a", [0, 1]), ("b", [0]))
    ]
    console = Console(width=80, file=io.StringIO(), soft_wrap=True)
    console.print(table(rows, "test"))
    lines = [line.split() for line in cast(io.StringIO, console.file).getvalue().splitlines()]
    ends = ["-10.2", "to", "100.0", "-12.3", "-12.3", "to", "-10.1"]
    assert ["1", "resnetap10", "1000", "100.0", "12.5", *ends] in lines
    assert ["2", "resnetap10", "1000", "100.0", "-", *ends] in lines


def test_the_table_of_an_evaluation_keeps_its_keys(tmp_path: Path) -> None:
    rows = [stored_row("class_mean", 4.5, architecture="resnetap10", std=1.0, augmentation="none", labels="soft")]
    console = Console(width=60, file=io.StringIO(), soft_wrap=True)
    console.print(tables.table(rows, "test"))
    text = cast(io.StringIO, console.file).getvalue()
    assert all(word in text for word in ("class_mean", "resnetap10", "augmentation,", "architecture"))
    assert "…" not in text
