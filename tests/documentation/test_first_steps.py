"""A new user's first steps: what the quickstart says, typed in one folder in its order, and networks trained on the result."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import RunFolder, read_rows
from tests.documentation.pages import README, ROOT, Block, code_blocks
from tests.pipeline.support.images import write_folder

QUICKSTART, EXPORTS = ROOT / "docs" / "quickstart.md", ROOT / "docs" / "exports.md"
SHORTER = {"--config photos.yaml": "--config photos.yaml --set condense.iterations=4 --set evaluate.epochs=4"}
"""What the test changes, for time. The digits are condensed as they are."""
AS_GOOD = 4.0
"""Points by which the accuracy of a single network may differ from the mean of those of the run."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder, with photos, after all commands of the quickstart but those that install."""
    folder = tmp_path_factory.mktemp("home")
    write_folder(folder / "photos", {"": 20}, size=72)
    blocks = [block for block in code_blocks(QUICKSTART) if block.language in ("bash", "python")]
    assert "pip install" in blocks[0].text
    for block in blocks[1:]:
        typed(block, folder)
    return folder


def typed(block: Block, folder: Path) -> str:
    """Runs a block in a folder; returns what it prints."""
    text = block.text
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    program = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    unset = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [*program, text],
        cwd=folder,
        env={**unset, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{block}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_every_step_leaves_what_it_promises(home: Path) -> None:
    assert (
        "<svg" in (home / "runs/demo/report.html").read_text() or "<img" in (home / "runs/demo/report.html").read_text()
    )
    assert len(list((home / "exports/digits").rglob("*.png"))) == 40
    assert list((home / "exports/digits-hub/data").glob("train-*.parquet"))
    assert (home / "runs/photos/report.html").exists()


@pytest.mark.parametrize(
    "block",
    [
        *[block for block in code_blocks(README, "python") if "m3d.train" in block.text],
        *[block for block in code_blocks(EXPORTS, "python") if "optimiser" in block.text],
    ],
    ids=str,
)
def test_training_reaches_the_accuracy_that_the_run_prints(home: Path, block: Block) -> None:
    (row,) = [row for row in read_rows(RunFolder.at(home / "runs/demo")) if row["set"] == "condensed"]
    (printed,) = re.findall(r"\d+\.\d+", typed(block, home))
    assert float(printed) == pytest.approx(row["mean"], abs=AS_GOOD)
    assert row["mean"] > 90
