"""The files of the report: grid.png, evolution.webp and report.html."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from m3d import Condensed
from pipeline.condense.manifest import new_record
from pipeline.errors import UserError
from pipeline.evaluate.results import write_rows
from pipeline.evaluate.rows import EvaluationRow
from pipeline.formats import confusion_matrix
from pipeline.formats.confusion_matrix import Confusion, stored_matrix
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.pages import new_axes, render
from pipeline.tune.page.scale import svg_of
from pipeline.workflow.report import grid_image, is_reported, report
from pipeline.workflow.report.confusion import confusion_section
from pipeline.workflow.report.gallery import gallery
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
        {"iteration": i, "group": g, "loss": (loss := {str(2 * g): 1 / i, str(2 * g + 1): 1 / i}), "start_loss": loss}
        for i in (1, 2)
        for g in (0, 1)
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
    shutil.rmtree(tmp_path / "snapshots")
    assert not is_reported(folder)
    report(folder)
    assert is_reported(folder)
    page = (tmp_path / "report.html").read_text()
    assert "61.5 ± 1.2 %" in page
    assert "49.8 to 73.2" in page
    assert "77.7" in page
    assert "0.205" in page  # IOR
    assert page.count("<svg") == 1  # the loss; there are no class shards for the features
    assert "the class shards of the run were not found" in page
    assert "No complete snapshots are stored" in page
    assert "&lt;condensed&gt;" in page
    assert 'class="right">2</td>' in page
    assert "default-src 'none'" in page
    loaded = re.findall(r"""(?:src|href)=["']([^"'#][^"']*)|url\(([^)]*)\)""", page)
    assert all((target or url).startswith(("data:", "#")) for target, url in loaded)
    assert not (tmp_path / "evolution.webp").exists()
    assert Image.open(tmp_path / "grid.png").size[1] == 98  # four classes of one image stand side by side


def test_with_snapshots_and_class_shards_the_page_shows_start_and_real_images(tmp_path: Path) -> None:
    config, folder = small_config(), RunFolder.at(tmp_path)
    dataset = condensed_run(config, tmp_path)
    folder.write_record(new_record(config, dataset, placement_of(config)))
    report(folder, dataset)
    page = (tmp_path / "report.html").read_text()
    assert 'data-iterations="0,2,5,10,15,22,30"' in page
    assert "<figcaption>start</figcaption>" in page
    assert "4 real images of 0" in page
    assert "with random weights (seed 0)" in page
    assert page.count('class="ours"') == 4 * 4
    assert "Not evaluated yet" in page
    assert sum(1 for _ in ImageSequence.Iterator(Image.open(tmp_path / "evolution.webp"))) == 8
    report(folder, dataset, config=small_config("report.features=false"))
    assert "report.features is false" in (tmp_path / "report.html").read_text()


def test_a_large_matrix_is_drawn_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = small_config(), RunFolder.at(tmp_path)
    folder.write_record(new_record(config, condensed_run(config, tmp_path), placement_of(config)))
    monkeypatch.setattr(confusion_matrix, "LISTED_CLASSES", 3)

    def with_matrix(classes: int) -> None:
        named: Any = stored_matrix(Confusion.of(np.eye(classes, dtype=np.int64)), folder.matrices)
        write_rows(folder, [stored_row("condensed", 50.0, **named)])

    with_matrix(4)
    report(folder)
    assert (tmp_path / "report.html").read_text().count('class="right">') == 4
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


def test_any_name_is_shown_as_it_is(tmp_path: Path) -> None:
    config, folder = small_config(), RunFolder.at(tmp_path)
    matrix = np.eye(len(NAMES), dtype=int).tolist()
    row = {"set": "condensed", "architecture": "convnet3", "protocol": "$x_$", "confusion": matrix, "mean": 1.0}
    section = confusion_section(folder, [cast(EvaluationRow, row)], NAMES)
    assert section is not None
    page = render(
        "pipeline.workflow.report",
        "report.html.jinja",
        confusion=section,
        config=config,
        gallery=gallery(grey_set(classes=len(NAMES), stored=1), NAMES, [], {}, ()),
        record={"resolved": {"learning_rate": 1.0}},
        total=len(NAMES),
        versions={},
    )
    for name in (
        "$_$",
        "price_$1%_$2",
        "&lt;script&gt;x&lt;/script&gt;",
        "a\ufffdb\ufffd[2J",
        "\ufffdkat",
        "convnet3, $x_$",
    ):
        assert name in page
    assert "<script>x" not in page
    assert "\u202e" not in page
    assert "x" * 70 not in page
    assert grid_image(grey_set(classes=len(NAMES), stored=1), NAMES).height > 0


def test_texts_of_figures_are_drawn_as_they_are() -> None:
    axes = new_axes(3, 2)
    axes.set_xticks([0, 1], ["$_$", "b"])
    axes.text(0, 0, "\\frac{$}$")
    axes.set_title("😀 $^$")
    picture = svg_of(axes, 'a "figure"')
    assert all(text in picture for text in (">$_$<", ">\\frac{$}$<", "$^$<", 'aria-label="a &quot;figure&quot;"'))


def test_a_grid_takes_a_bounded_number_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workflow.report.grid.GRID_PIXELS", 100_000)
    many = Condensed(
        images_KSCHW=torch.full((10_000, 1, 1, 1, 1), torch.nan),
        class_ids=tuple(range(10_000)),
        factor=1,
        mean=(0.0,),
        std=(1.0,),
    )
    assert grid_image(many, ["a"] * 10_000).size == ((16 + 7 + 98) * 8, 98)
