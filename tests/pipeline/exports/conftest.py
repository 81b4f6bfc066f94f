"""What the tests of exports share: a condensed set, and Hugging Face's packages without a network."""

import os
from pathlib import Path

import pytest

from tests.pipeline.support.condensed_sets import write_set

# Read when the packages are imported, which the tests do in their bodies.
os.environ.update(
    HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1"
)


@pytest.fixture
def condensed(tmp_path: Path) -> Path:
    """A set of three classes, two stored images each of 2 x 2 tiles, 8 px in colour."""
    return write_set(tmp_path / "set")
