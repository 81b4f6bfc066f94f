"""What the tests of searches share."""

import json
from pathlib import Path

import pytest

from pipeline.config.parsing import to_dict
from tests.pipeline.support.runs import prepared, small_config
from tests.pipeline.support.searches import SMALL


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    """A small configuration whose class shards exist already, so that a search does not wait for Ray to make them."""
    config = small_config(*SMALL, f"data.cache={json.dumps(str(tmp_path / 'class-shards'))}")
    prepared(config, tmp_path)
    (tmp_path / "small.json").write_text(json.dumps(to_dict(config)))
    return str(tmp_path / "small.json")
