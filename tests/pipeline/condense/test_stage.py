"""The condense stage and the record of a run."""

import json
from pathlib import Path

import pytest

from pipeline.condense import manifest
from pipeline.condense.stage import condense
from pipeline.formats import run_record
from pipeline.formats.provenance import joined
from pipeline.formats.run_folder import RunFolder
from tests.pipeline.support.runs import prepared, small_config


def test_commits_are_listed_once_in_their_order() -> None:
    assert joined(None, None) is None
    assert joined(None, "b") == joined("b", None) == "b"
    assert joined("a", "b") == joined("a, b", "b") == "a, b"
    assert joined("a", "a-dirty") == "a, a-dirty"


@pytest.mark.usefixtures("ray_cluster")
def test_a_record_names_every_commit_that_contributed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(iterations=2)
    dataset = prepared(config, tmp_path)

    def run_at(commit: str) -> str:
        for module in (manifest, run_record):
            monkeypatch.setattr(module, "commit", lambda: commit)
        condense(config, RunFolder.at(tmp_path), dataset)
        record = RunFolder.at(tmp_path).read_record()
        assert record is not None
        return record.get("commit") or ""

    assert run_at("a") == "a"
    committed = (tmp_path / "condensed" / "manifest.json").read_bytes()
    assert run_at("b") == "a, b"
    assert (tmp_path / "condensed" / "manifest.json").read_bytes() == committed
    assert json.loads((tmp_path / "config.json").read_text())["commit"] == "a, b"
