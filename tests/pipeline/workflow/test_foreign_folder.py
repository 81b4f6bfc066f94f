"""The folder of somebody else: nothing outside it is written or deleted, nobody is called, and no code of it is run."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.condense.manifest import new_record
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime.lease import WRITTEN
from tests.pipeline.conftest import Told
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.foreign import Stranger, rewrite
from tests.pipeline.support.pretraining import config_of as expert_config
from tests.pipeline.support.pretraining import trained
from tests.pipeline.support.runs import placement_of, prepared, small_config
from tests.pipeline.support.s3_service import environment

Call = Callable[..., Told]
CONFIG = small_config(iterations=2)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four classes with its class shards and networks."""
    out = tmp_path_factory.mktemp("original") / "run"
    dataset = condensed_run(CONFIG, out)
    folder = RunFolder.at(out)
    folder.write_record(new_record(CONFIG, dataset, placement_of(CONFIG)))
    config = expert_config()
    trained(config, folder, prepared(config, out.parent / "prepared"))
    return out


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of it, in a folder beside files of the reader's own."""
    shutil.copytree(original, tmp_path / "foreign")
    (tmp_path / "victim.arrow").write_bytes(b"the only copy")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.arrow").write_bytes(b"the only copy")
    return tmp_path / "foreign"


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stranger]:
    """A server that the reader never named; the reader has credentials for another one."""
    for name, value in environment("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-token-of-the-reader")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    made = Stranger()
    yield made
    made.stop()


def outside(run: Path) -> dict[str, bytes]:
    """Everything beside the foreign folder."""
    return {
        str(path): path.read_bytes()
        for path in run.parent.rglob("*")
        if path.is_file() and not path.is_relative_to(run)
    }


def name_places(run: Path, stranger: Stranger, shards: str) -> None:
    """Lets the record lead to somebody else's server, bucket and Ray, and to folders of the reader."""

    def change(document: dict[str, Any]) -> None:
        config = document["config"]
        config["storage"].update(endpoint=stranger.endpoint, region="nowhere", timeout_s=1.0, attempts=1)
        config["data"].update(cache=shards.rpartition("/")[0], disk_cache=str(run.parent / "mine"))
        document["resolved"]["class_shards"] = shards

    rewrite(run / "config.json", change)
    shutil.rmtree(run / "class-shards")


@pytest.mark.parametrize("command", ["verify", "report", "evaluate", "compare"])
def test_nobody_is_called_whom_the_folder_names(call: Call, run: Path, stranger: Stranger, command: str) -> None:
    name_places(run, stranger, "s3://somewhere/cache/0123456789abcdef")
    before = outside(run)
    arguments = [str(run), str(run / "condensed")] if command == "compare" else [str(run)]
    code, errors, output = call(command, *arguments)
    assert stranger.seen == []
    assert outside(run) == before
    options = f"--set data.cache=s3://somewhere/cache --set data.disk_cache={run.parent / 'mine'}"
    options += f" --set storage.endpoint={stranger.endpoint}"  # the region is that of the environment
    if command in ("evaluate", "compare"):
        assert (code, len(errors)) == (2, 1)
        assert errors[0].endswith(f"to trust it, add {options}")
    else:
        assert (code, errors) == (0, [])
    if command == "verify":
        assert "not checked: the class shards in s3://somewhere/cache/0123456789abcdef; what a file says" in output
        assert options in output.replace("\n", " ")


def test_who_is_named_again_is_called(call: Call, run: Path, stranger: Stranger) -> None:
    name_places(run, stranger, "s3://somewhere/cache/0123456789abcdef")
    given = ["data.cache=s3://somewhere/cache", f"storage.endpoint={stranger.endpoint}", "storage.attempts=1"]
    call("verify", str(run), *(word for setting in given for word in ("--set", setting)))
    assert any("/somewhere" in request for request in stranger.seen)


def test_an_endpoint_of_the_environment_is_used_for_what_is_named_again(
    call: Call, run: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Stranger()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", own.endpoint)
        name_places(run, stranger, "s3://somewhere/cache/0123456789abcdef")
        call("verify", str(run), "--set", "data.cache=s3://somewhere/cache", "--set", "storage.attempts=1")
        assert stranger.seen == []
        assert any("/somewhere" in request for request in own.seen)
    finally:
        own.stop()


@pytest.mark.parametrize("command", ["verify", "evaluate"])
def test_class_shards_elsewhere_on_this_machine_are_not_touched(
    call: Call, run: Path, stranger: Stranger, command: str
) -> None:
    key = next((run / "class-shards").iterdir()).name
    shutil.move(run / "class-shards", run.parent / "elsewhere")
    (run / "class-shards").mkdir()
    name_places(run, stranger, str(run.parent / "elsewhere" / key))
    code, errors, output = call(command, str(run))
    said = " ".join([*errors, *output.split()])
    assert code == (2 if command == "evaluate" else 0), said
    assert f"--set data.cache={run.parent / 'elsewhere'}" in said
    code, _, output = call("verify", str(run), "--set", f"data.cache={run.parent / 'elsewhere'}")
    assert (code, "not checked" in output) == (0, False)


def test_a_ray_cluster_that_the_folder_names_is_not_joined(call: Call, run: Path, stranger: Stranger) -> None:
    address = f"127.0.0.1:{stranger.port}"
    rewrite(run / "config.json", lambda document: document["config"]["resources"].update(address=address))
    for command in (["evaluate", str(run)], ["compare", str(run), str(run / "condensed")]):
        code, errors, _ = call(*command)
        assert (code, len(errors)) == (2, 1)
        assert f"--set resources.address={address}, or give resources.address=local" in errors[0]
    assert stranger.seen == []


@pytest.mark.parametrize("name", ["config.json", "best.json"])
def test_a_configuration_of_somebody_else_names_nobody(
    call: Call, run: Path, stranger: Stranger, tmp_path: Path, name: str
) -> None:
    name_places(run, stranger, "s3://somewhere/cache/0123456789abcdef")
    if name == "best.json":
        (run / name).write_text(json.dumps(json.loads((run / "config.json").read_text())["config"]))
    command = ["prepare", "--config", str(run / name), "--data", "s3://mine/images", "--out", str(tmp_path / "out")]
    command += ["--set", "data.source=image_folder"]
    code, errors, _ = call(*command)
    assert (code, len(errors)) == (2, 1)
    assert "names storage.endpoint, to which credentials or code would be sent; " in errors[0]
    assert f"--set storage.endpoint={stranger.endpoint}" in errors[0]
    assert call("show-config", "--config", str(run / name), "--set", f"storage.endpoint={stranger.endpoint}")[0] == 0
    assert stranger.seen == []


NAMES = ("../victim", "/victim", "", ".hidden", "..", "a/../../victim", "a\0b", "a\\b", "a" * 300)


@pytest.mark.parametrize("field", ["file", "sha256", "snapshot", "architecture", "class_shards"])
def test_names_and_checksums_are_checked_before_they_are_paths(call: Call, run: Path, field: str) -> None:
    shards = next((run / "class-shards").iterdir()) / "manifest.json"
    experts = run / "experts" / "convnet1" / "manifest.json"
    path = {"file": shards, "sha256": shards, "class_shards": run / "config.json"}.get(field, experts)
    before = outside(run)
    for name in NAMES:

        def change(document: dict[str, Any], name: str = name) -> None:
            if field == "snapshot":
                document["trajectories"][0]["snapshots"][0]["file"] = f"trajectory-00000/{name}"
            elif field == "architecture":
                document["architecture"] = name
            elif field == "class_shards":
                document["resolved"]["class_shards"] = (
                    f"{run}/class-shards/{name.rsplit('/', 1)[-1].replace('victim', '..')}"
                )
            else:
                for entry in document["classes"]:
                    for split in ("train", "test"):
                        entry[split][field] = name

        rewrite(path, change)
        code, errors, output = call("verify", str(run))
        assert (code, errors) == (1, []), output
        assert "is damaged or was not written by this program" in output
    assert outside(run) == before


@pytest.mark.parametrize("name", ["../shard-00000.arrow", "/etc/passwd", ".shard", "a\0", ""])
def test_shards_of_a_condensed_set_are_files_of_its_folder(call: Call, run: Path, name: str) -> None:
    rewrite(run / "condensed" / "manifest.json", lambda document: document["shards"][0].update(file=name))
    for command in ("verify", "report", "evaluate"):
        code, errors, output = call(command, str(run))
        assert code in (1, 2)
        assert "shards.0.file: is no bare file name" in " ".join([*errors, output])


def test_links_do_not_lead_out_of_the_folder(call: Call, run: Path, stranger: Stranger) -> None:
    before = outside(run)
    for name in ("networks", "baselines", "evaluation"):
        (run / name).symlink_to(run.parent / "mine")
        code, errors, _ = call("evaluate", str(run))
        assert (code, len(errors)) == (2, 1)
        assert f"{run / name}: is a link, which may lead out of the folder" in errors[0]
        (run / name).unlink()
    for name in ("report.html", "grid.png", ".lease.lock"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(run.parent / "victim.arrow")
    code, errors, _ = call("report", str(run))
    assert (code, len(errors)) == (2, 1)
    (run / ".lease.lock").unlink()
    assert call("report", str(run))[0] == 0
    assert outside(run) == before


def test_the_page_shows_no_real_images_from_places_that_only_the_folder_names(call: Call, run: Path) -> None:
    shards, page = run / "class-shards", run / "report.html"
    shards.rename(run.parent / "elsewhere")
    cache = str(run.parent / "elsewhere")
    key = next(path.name for path in (run.parent / "elsewhere").iterdir())
    rewrite(run / "config.json", lambda document: document["resolved"].update(class_shards=f"{cache}/{key}"))
    assert call("report", str(run))[0] == 0
    assert "real images of 0" not in page.read_text()
    assert "add --set data.cache=FOLDER" in page.read_text()
    shards.symlink_to(cache)
    assert call("report", str(run))[0] == 0
    assert "real images of 0" not in page.read_text()
    shards.unlink()
    assert call("report", str(run), "--set", f"data.cache={cache}", "--set", "report.features=false")[0] == 0
    assert "real images of 0" in page.read_text()
    assert "report.features is false" in page.read_text()


def test_leftovers_behind_links_stay(call: Call, run: Path) -> None:
    left = run.parent / "mine" / ".own.arrow.tmp"
    left.write_bytes(b"the only copy")
    os.utime(left, (0, 0))
    linked = [run / name for name in WRITTEN if not (run / name).exists()]
    for path in linked:
        path.symlink_to(run.parent / "mine")
    assert {path.name for path in linked} >= {"trials", "evaluation"}
    before = outside(run)
    assert call("report", str(run))[0] == 0
    assert outside(run) == before


def test_a_terminal_obeys_no_name_of_the_folder(call: Call, run: Path) -> None:
    name = "\x1b]0;owned\x07\x1b[2J\u202egnp"

    def rename(document: dict[str, Any]) -> None:
        document["classes"][0]["name"] = name

    rewrite(run / "condensed" / "manifest.json", rename)
    code, errors, output = call("verify", str(run))
    assert code == 1
    assert not {"\x1b", "\x07", "\u202e"} & set("".join([*errors, output]))
    assert call("evaluate", str(run))[0] == 2


def test_hidden_files_are_passed_over(call: Call, run: Path) -> None:
    for path in ("condensed/._shard-00000.arrow", "condensed/.DS_Store", "experts/._convnet1/manifest.json"):
        (run / path).parent.mkdir(exist_ok=True)
        (run / path).write_bytes(b"\0\5\x16\7")
    assert call("verify", str(run))[:2] == (0, [])


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("condensed/manifest.json", "format_version"),
        ("experts/convnet1/manifest.json", "format_version"),
        ("class-shards/*/manifest.json", "format"),
    ],
)
def test_a_newer_document_says_so(call: Call, run: Path, path: str, field: str) -> None:
    (file,) = run.glob(path)
    file.write_text(json.dumps({field: 3, "its": "own layout"}))
    code, errors, output = call("verify", str(run))
    assert (code, errors) == (1, [])
    assert f"{file}: was written by a newer version (format 3; this one reads 1); update m3d-condense" in output


def test_a_moved_run_has_its_class_shards(call: Call, run: Path, original: Path) -> None:
    away = original.with_name("away")
    original.rename(away)
    try:
        (run / "class-shards" / next((run / "class-shards").iterdir()).name / "test-00002.arrow").write_bytes(
            b"damaged"
        )
        assert call("verify", str(run))[0] == 1  # those of the run's own folder are read
    finally:
        away.rename(original)
