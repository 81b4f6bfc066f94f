"""Reports of sources: their lines, and that planning and looking agree on them."""

import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.run_config import Data
from pipeline.data.shard_plan import look
from pipeline.data.source_report import SourceReport, lines_of, report_of
from pipeline.data.sources import open_source
from pipeline.data.sources.findings import Findings, LeftOut
from pipeline.storage.documents import checked
from tests.pipeline.support.images import write_folder
from tests.pipeline.support.shards import plan_of
from tests.pipeline.support.source_formats import write_parquet, write_tars

FINDINGS = Findings(
    found=9,
    taken=4,
    left_out=(
        LeftOut(reason="ending .heic", count=4, examples=("a", "b", "c")),
        LeftOut(reason="hidden", count=1, examples=("\x1b]0;x",)),
    ),
    splits={"train": "folder train"},
    columns={"image": "column img"},
)


def test_lines() -> None:
    assert lines_of(report_of(FINDINGS, ["cat"], {"train": (3,), "test": (1,)})) == [
        "source: 9 files found, 4 read as images",
        "source: left out 4 files, ending .heic (a, b, c, ...)",
        "source: left out 1 file, hidden (\\x1b]0;x)",
        "source: train is folder train",
        "source: the image is read from column img",
        "source: 1 class; label 0 is cat with 3 train and 1 test images",
    ]


def test_lines_of_an_older_version_have_no_units() -> None:
    report = report_of(FINDINGS, ["cat"], {"train": (3,)})
    del report["unit"]
    for entry in report["left_out"]:
        del entry["unit"]
    checked(SourceReport, report, "manifest.json")
    assert lines_of(report)[:2] == [
        "source: 9 found, 4 read as images",
        "source: left out 4, ending .heic (a, b, c, ...)",
    ]


@pytest.mark.parametrize("source", ["image_folder", "parquet", "webdataset"])
def test_what_is_left_out_of_a_unit_adds_up(tmp_path: Path, source: Any) -> None:
    images = write_folder(tmp_path / "images", {"train": 3, "test": 2})
    root = {
        "image_folder": lambda: images,
        "parquet": lambda: write_parquet(images, tmp_path / "form"),
        "webdataset": lambda: write_tars(images, tmp_path / "form", style="folder"),
    }[source]()
    write_folder(root if source == "image_folder" else tmp_path / "more", {"test": 2}, classes=("stranger",))
    (root / "train" / "none").mkdir(parents=True)
    for name in ("note.txt", ".hidden", "train_old.tar", "train_old.parquet"):
        (root / name).write_bytes(b"x")
    if source == "webdataset":
        with tarfile.open(root / "train-000000.tar", "a") as tar:
            tar.add(root / "note.txt", "ant/note.txt")
    findings = open_source(Data(source=source, path=str(root))).index().findings
    others = [entry.count for entry in findings.left_out if entry.unit == findings.unit]
    assert findings.found == findings.taken + sum(others)
    assert findings.taken == 15
    assert {entry.unit for entry in findings.left_out} >= {"file"}


def test_looking_and_planning_report_the_same(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", {"": 5})
    report = plan_of(folder).report
    assert report == look(Data(source="image_folder", path=str(folder), image_size=12))
    assert report["splits"] == {"train": "all class folders", "test": "cut from train, 20% of every class"}
    assert report["first_class"]["images"] == {"train": 4, "test": 1}


def test_sources_without_files_report_their_images() -> None:
    report = look(Data())
    assert (report["found"], report["taken"], report["classes"]) == (1797, 1797, 10)
