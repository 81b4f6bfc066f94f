"""The page of a comparison."""

from pathlib import Path
from typing import Any, cast

from pipeline.evaluate.results import summary
from pipeline.evaluate.rows import ComparisonRow
from pipeline.formats.run_folder import RunFolder
from pipeline.workflow.report import write_comparison
from tests.pipeline.support.rows import stored_row


def compared(name: str, values: list[float], difference: float | None) -> ComparisonRow:
    more: dict[str, Any] = {"difference": difference, "difference_interval95": None, "note": ""}
    row = stored_row(
        name, 0.0, seeds=list(range(len(values))), images_per_class=1.0, augmentation="protocol", labels="hard"
    )
    return cast(ComparisonRow, {**row, **summary(values), **more})


def test_every_set_has_a_bar_and_its_difference(tmp_path: Path) -> None:
    rows = [compared("runs/a", [50.0], None), compared("<b>.pt:idc", [47.5], -2.5)]
    write_comparison(RunFolder.at(tmp_path), rows, classes=10, on="test")
    page = (tmp_path / "comparison.html").read_text()
    assert page.count('<li class="row') == 2
    assert "&lt;b&gt;.pt:idc" in page
    assert ">-2.5<" in page
    assert "first set" in page
    assert "one network shows no spread" in page
    assert "default-src 'none'" in page
