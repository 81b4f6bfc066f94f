"""Reports of sources: their lines, and that planning and looking agree on them."""

from pathlib import Path

from pipeline.config.run_config import Data
from pipeline.data.shard_plan import look
from pipeline.data.source_report import lines_of, report_of
from pipeline.data.sources.findings import Findings, LeftOut
from tests.pipeline.support.images import write_folder
from tests.pipeline.support.shards import plan_of

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
        "source: 9 found, 4 read as images",
        "source: left out 4, ending .heic (a, b, c, ...)",
        "source: left out 1, hidden (\\x1b]0;x)",
        "source: train is folder train",
        "source: the image is read from column img",
        "source: 1 class; label 0 is cat with 3 train and 1 test images",
    ]


def test_looking_and_planning_report_the_same(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", {"": 5})
    report = plan_of(folder).report
    assert report == look(Data(source="image_folder", path=str(folder), image_size=12))
    assert report["splits"] == {"train": "all class folders", "test": "cut from train, 20% of every class"}
    assert report["first_class"]["images"] == {"train": 4, "test": 1}


def test_sources_without_files_report_their_images() -> None:
    report = look(Data())
    assert (report["found"], report["taken"], report["classes"]) == (1797, 1797, 10)
