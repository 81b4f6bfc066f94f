"""evaluation.json."""

from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.errors import UserError
from pipeline.evaluate.results import per_class, read_rows, write_rows
from pipeline.evaluate.rows import EvaluationRow
from pipeline.formats.run_folder import RunFolder
from tests.pipeline.support.rows import measured_row, network_score, stored_row
from tests.pipeline.support.runs import small_config


def test_a_row_has_everything(tmp_path: Path) -> None:
    config, folder = small_config("evaluate.best_epoch=5"), RunFolder.at(tmp_path)
    scores = {1: network_score([3, 1], [2, 2], best=70.0), 0: network_score([4, 0], [1, 3], best=90.0)}
    row: Any = measured_row(config, "condensed", scores, classes=2, condensed_set="s")
    assert row["seeds"] == [0, 1]
    assert row["accuracies"] == [87.5, 62.5]
    assert row["confusion"] == [[7, 1], [3, 5]]
    assert row["per_class"] == per_class([[7, 1], [3, 5]]) == [87.5, 62.5]
    assert row["mean"] == 75.0
    assert row["interval95"] == pytest.approx([75 - 12.7062 * 12.5, 75 + 12.7062 * 12.5], rel=1e-4)
    assert row["best_epoch_compatibility"]["mean"] == 80.0
    assert row["training"]["learning_rate"] == 0.01
    assert row["training"]["augment"]["strategy"] == "color_crop_scale_rotate"
    assert (row["epoch"], row["augmentation"], row["labels"]) == ("last", "protocol", "hard")
    write_rows(folder, [row])
    assert read_rows(folder) == [row]
    lines = (tmp_path / "evaluation.json").read_text().splitlines()
    assert sum("[7, 1]" in line for line in lines) == 1  # a line per class


def test_rows_with_and_without_augmentation_are_kept_side_by_side(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    write_rows(folder, [stored_row("condensed", 60.0), stored_row("condensed", 50.0, augmentation="none")])
    write_rows(folder, [stored_row("condensed", 61.0)])
    assert [row["mean"] for row in read_rows(folder)] == [50.0, 61.0]


def test_rows_replace_those_with_the_same_key(tmp_path: Path) -> None:
    def row(name: str, mean: float) -> EvaluationRow:
        values = {"set": name, "architecture": "convnet3", "protocol": "idc", "on": "test", "mean": mean}
        return cast(EvaluationRow, values)

    folder = RunFolder.at(tmp_path)
    write_rows(folder, [row("condensed", 1), row("random", 2)])
    write_rows(folder, [row("condensed", 3)])
    assert [(r["set"], r["mean"]) for r in read_rows(folder)] == [("random", 2), ("condensed", 3)]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text('{"results": 3}')
    with pytest.raises(UserError, match=r"evaluation\.json"):
        read_rows(RunFolder.at(tmp_path))
