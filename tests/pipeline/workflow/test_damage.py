"""Damaged files of every kind: they lead to a clear error, never to a traceback, and no wrong set is accepted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.cli.main import main
from pipeline.condense.manifest import new_record
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.results import write_rows
from pipeline.formats.condensed_reader import load_condensed
from pipeline.formats.run_folder import RunFolder
from pipeline.workflow.verify import verify
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.rows import stored_row
from tests.pipeline.support.runs import placement_of, small_config

FILES = ("config.json", "condensed/manifest.json", "condensed/shard-00000.arrow", "evaluation.json")
ODD: list[Any] = [None, -1, 10**30, 1e308, "text", [], {}, [[[]]], True, "../../etc/passwd"]
CONFIG = small_config(iterations=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("finished")
    cache = condensed_run(CONFIG, folder)
    RunFolder.at(folder).write_record(new_record(CONFIG, cache, placement_of(CONFIG)))
    write_rows(RunFolder.at(folder), [stored_row("condensed", 50.0)])
    return folder


def damaged(finished: Path, name: str, data: st.DataObject) -> Path:
    """A copy of the run in which one file is truncated, has flipped bits, or contains another value."""
    copy = finished.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(finished, copy)
    path = copy / name
    content = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["cut", "flip", *(["value"] if name.endswith(".json") else [])]))
    if kind == "cut":
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    elif kind == "flip":
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(_with_odd_value(json.loads(content), data)))
    return copy


def _with_odd_value(value: Any, data: st.DataObject) -> Any:
    """Returns the document with one value somewhere in it replaced or removed."""
    container = value
    while True:
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        if not keys:
            return data.draw(st.sampled_from(ODD))
        key = data.draw(st.sampled_from(keys))
        if isinstance(container[key], dict | list) and container[key] and data.draw(st.booleans()):
            container = container[key]
            continue
        if data.draw(st.booleans()):
            del container[key]
        else:
            container[key] = data.draw(st.sampled_from(ODD))
        return value


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(FILES))
def test_a_damaged_run_is_never_accepted_as_sound(finished: Path, name: str, data: st.DataObject) -> None:
    copy = damaged(finished, name, data)
    same = (copy / name).read_bytes() == (finished / name).read_bytes()
    try:
        loaded = load_condensed(str(copy))
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        assert not same
    else:
        expected = load_condensed(str(finished))
        assert torch.equal(loaded.images, expected.images)
        assert torch.equal(loaded.labels, expected.labels)
        assert loaded.class_names == expected.class_names
    _, sentences = verify(str(copy))
    if not _is_older_evaluation(copy / name):
        assert sentences or same or _same_json(copy / name, finished / name)
    try:
        RunFolder.at(copy).require_same_run(_record(copy), RunFolder.at(copy).read_config())
    except UserError as error:
        assert len(str(error).splitlines()) == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(FILES))
def test_the_command_line_shows_no_traceback(
    finished: Path, name: str, data: st.DataObject, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = damaged(finished, name, data)
    for command in (["verify", str(copy)], ["show-config", "--config", str(copy / "config.json")]):
        assert main(command) in (0, 1, 2)
        printed = capsys.readouterr()
        assert "an error of this program" not in printed.err
        assert "Traceback" not in printed.err
        assert len(printed.err.splitlines()) <= 1


@settings(max_examples=40)
@given(data=st.data())
def test_damaged_class_shards_are_refused(finished: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["manifest.json", "train-00001.arrow"]))
    folder = next((finished / "class-shards").iterdir())
    copy = damaged(finished, str((folder / name).relative_to(finished)), data)
    sound = PreparedDataset(str(folder), CONFIG.data)
    try:
        images = PreparedDataset(str(copy / folder.relative_to(finished)), CONFIG.data).train(1)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert torch.equal(images, sound.train(1))


def _record(path: Path) -> Any:
    return RunFolder.at(path).read_record()


def _is_older_evaluation(path: Path) -> bool:
    """Whether the file is an evaluation.json without a checksum, of which only the form is checked."""
    try:
        return path.name == "evaluation.json" and json.loads(path.read_bytes()).keys() <= {"results", "scores"}
    except (ValueError, AttributeError):
        return False


def _same_json(a: Path, b: Path) -> bool:
    """Whether both files contain the same document; white space may differ."""
    try:
        return json.loads(a.read_bytes()) == json.loads(b.read_bytes())
    except ValueError:
        return False
