"""The report stage: grid.png and report.html."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from m3d import Condensed
from pipeline.condense.manifest import new_record
from pipeline.errors import UserError
from pipeline.evaluate.results import write_rows
from pipeline.evaluate.rows import EvaluationRow
from pipeline.formats import confusion_matrix
from pipeline.formats.confusion_matrix import Confusion, stored_matrix
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.pages import render
from pipeline.tune.page.scale import new_axes, svg_of
from pipeline.workflow.report import _confusion, grid_image, is_reported, report
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.rows import stored_row
from tests.pipeline.support.runs import placement_of, small_config


def grey_set(classes: int = 3, stored: int = 12, channels: int = 3, side: int = 8) -> Condensed:
    levels = torch.linspace(0, 1, classes * stored).view(classes, stored, 1, 1, 1)
    images = levels.expand(classes, stored, channels, side, side)
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    return Condensed(images_KSCHW=images, class_ids=tuple(range(classes)), factor=1, mean=zeros, std=ones)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid_has_a_row_per_class_and_at_most_ten_columns(channels: int) -> None:
    grid = grid_image(grey_set(channels=channels), ["a", "b", "a long name of a class"])
    assert grid.height == 3 * (96 + 2)
    left = grid.width - 10 * (96 + 2)
    for row in range(3):
        for column in range(10):
            x, y = left + column * 98 + 48, row * 98 + 48
            assert np.asarray(grid)[y, x, 0] == round(255 * (row * 12 + column) / 35)


def test_the_report_is_one_file(tmp_path: Path) -> None:
    config, folder = small_config(), RunFolder.at(tmp_path)
    cache = condensed_run(config, tmp_path)
    folder.write_record(new_record(config, cache, placement_of(config)))
    lines = [
        {"iteration": i, "group": g, "loss": {str(2 * g): 1 / i, str(2 * g + 1): 1 / i}} for i in (1, 2) for g in (0, 1)
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"iter')
    row = {
        "architecture": "convnet1",
        "protocol": "idc",
        "on": "test",
        "epochs": 5,
        "mean": 61.5,
        "std": 1.25,
        "seeds": [0, 1],
    }
    write_rows(folder, [cast(EvaluationRow, {"set": "<condensed>", **row})])
    matrix = {"confusion": [[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 2, 2]], "accuracies": [60.0, 63.0]}
    best = {"best_epoch_compatibility": {"every": 1, "mean": 77.7}, "interval95": [49.8, 73.2]}
    write_rows(folder, [cast(EvaluationRow, {"set": "condensed", **row, **matrix, **best})])
    write_rows(folder, [cast(EvaluationRow, {"set": "random", **row, "mean": 41.0, "accuracies": [40.0, 42.0]})])
    assert not is_reported(folder)
    report(folder)
    assert is_reported(folder)
    page = (tmp_path / "report.html").read_text()
    assert "61.5" in page
    assert "49.8 to 73.2" in page
    assert "77.7" in page
    assert "0.205" in page  # IOR
    assert page.count("<svg") == 2
    assert "predicted as" in page
    assert "&lt;condensed&gt;" in page
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")
    assert Image.open(tmp_path / "grid.png").size[1] == 98  # four classes of one image stand side by side


def test_a_large_matrix_is_drawn_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = small_config(), RunFolder.at(tmp_path)
    folder.write_record(new_record(config, condensed_run(config, tmp_path), placement_of(config)))
    monkeypatch.setattr(confusion_matrix, "LISTED_CLASSES", 3)

    def with_matrix(classes: int) -> None:
        named: Any = stored_matrix(Confusion.of(np.eye(classes, dtype=np.int64)), folder.matrices)
        write_rows(folder, [stored_row("condensed", 50.0, **named)])

    with_matrix(4)
    report(folder)
    assert "predicted as" in (tmp_path / "report.html").read_text()
    with_matrix(5)
    with pytest.raises(UserError, match="has a confusion matrix of 5 classes, the condensed set has 4"):
        report(folder)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        report(RunFolder.at(tmp_path))


NAMES = [
    "$_$",
    "$1_$5",
    "$$",
    "price_$1%_$2",
    "100$#$",
    "<script>x</script>",
    "a\nb\x1b[2J",
    "\u202ekat",
    "猫",
    "😀",
    "\udcff",
    "x" * 900,
]
"""Names of classes as they occur, and as somebody might choose them."""


def test_any_name_is_drawn_as_it_is(recwarn: pytest.WarningsRecorder) -> None:
    matrix = np.eye(len(NAMES), dtype=int).tolist()
    row = {"set": "condensed", "architecture": "convnet3", "protocol": "$x_$", "confusion": matrix}
    picture = _confusion(RunFolder.at("/nowhere"), [cast(EvaluationRow, row)], NAMES)
    for name in ("$_$", "price_$1%_$2", "100$#$", "&lt;script&gt;", "a\ufffdb\ufffd[2J", "\ufffdkat", "convnet3, $x_$"):
        assert f"<!-- {name}" in picture  # matplotlib writes each text that it draws beside its shape
    assert "<script" not in picture
    assert "x" * 30 not in picture
    assert not list(recwarn)
    grid = grid_image(grey_set(classes=len(NAMES), stored=1), NAMES)
    assert grid.height > 0


def test_texts_of_the_search_page_are_drawn_as_they_are() -> None:
    axes = new_axes(3, 2)
    axes.set_xticks([0, 1], ["$_$", "b"])
    axes.text(0, 0, "\\frac{$}$")
    axes.set_title("😀 $^$")
    picture = svg_of(axes)
    assert all(text in picture for text in ("<!-- $_$", "<!-- \\frac{$}$", "$^$"))


def test_a_page_with_a_name_that_is_not_utf8_can_be_written() -> None:
    config = {"data": {"name": "\udcff<b>$_$"}, "condense": {}, "kernel": {}}
    record = {"config": config, "resolved": {}, "versions": {}}
    page = render("pipeline.workflow", "report.html.jinja", record=record, rows=[], scores=[], classes=1, factor=1)
    assert "?&lt;b&gt;$_$" in page.encode().decode()


def test_a_grid_takes_a_bounded_number_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workflow.report.GRID_PIXELS", 100_000)
    many = Condensed(
        images_KSCHW=torch.full((10_000, 1, 1, 1, 1), torch.nan),
        class_ids=tuple(range(10_000)),
        factor=1,
        mean=(0.0,),
        std=(1.0,),
    )
    assert grid_image(many, ["a"] * 10_000).size == ((16 + 7 + 98) * 8, 98)
