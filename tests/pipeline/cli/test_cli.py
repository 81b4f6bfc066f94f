"""The command line: a mistake is one line on stderr with exit code 2, and leaves no run behind."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import commands
from pipeline.cli.main import main
from pipeline.config.presets import PRESETS, preset
from pipeline.errors import UserError
from tests.pipeline.conftest import Told
from tests.pipeline.support.images import encoded, picture

Call = Callable[..., Told]
COMMANDS = ("run", "prepare", "condense", "evaluate", "report", "show-config")
IMAGES = ("--preset", "cifar10_ipc1", "--set", "data.source=image_folder", "--set", "data.image_size=12")


def refused(call: Call, *arguments: str, out: Path | None = None) -> str:
    """The one line for a mistaken command line; if ``out`` is given, no run may be left there."""
    code, errors, _ = call(*arguments, *(["--out", str(out)] if out else []))
    assert code == 2, errors
    assert len(errors) == 1, errors
    assert errors[0].startswith("error: ")
    if out:
        assert not (out / "config.json").exists()
        assert not (out / "condensed").exists()
    return errors[0]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--preset", "cifar10_ip1"], ["cifar10_ip1", "did you mean 'cifar10_ipc1'"]),
        (["--set", "condense.itertions=3"], ["condense.itertions", "did you mean 'condense.iterations'"]),
        (["--set", "kernel.name=gausian"], ["kernel.name", "gausian", "'gaussian'"]),
        (["--set", "evaluate.architectures=convnet3,resnet81"], ["evaluate.architectures", "resnet81", "'resnet18'"]),
        (["--set", "encoder.name=convnt3"], ["encoder.name", "convnt3", "'convnet3'"]),
        (["--set", "data.image_size=0"], ["data.image_size", "given 0", "4"]),
        (["--set", "condense.iterations=-1"], ["condense.iterations", "given -1"]),
        (["--set", "condense.images_per_class=0"], ["condense.images_per_class", "given 0"]),
        (["--set", "data.image_size=8", "--set", "condense.factor=16"], ["condense.factor", "16", "8"]),
        (["--set", "condense.factor=17"], ["condense.factor", "17"]),
        (["--set", "resources.gpus_per_actor=0.3"], ["resources.gpus_per_actor", "0.3", "1/k"]),
        (["--set", "condense.iterations"], ["condense.iterations", "KEY=VALUE"]),
        (["--set", "evaluate.on=validation"], ["evaluate.on", "data.validation_fraction"]),
        (["--set", "kernel.estimator=unbiased", "--set", "condense.factor=1"], ["kernel.estimator", "two"]),
        (["--set", "data.source=image_folder"], ["data.source", "--preset"]),
        (["--data", "/somewhere"], ["--data", "digits", "data.source"]),
        (["--preset", "cifar10_ipc1"], ["data.path", "--data"]),
        (["--preset", "digits_ipc1", "--config", "x.json"], ["--preset", "--config", "both"]),
        (["--set", "seed.x=1"], ["seed"]),
        (["--set", "seed=" + "[" * 100_000], ["seed"]),
    ],
    ids=lambda value: " ".join(value)[:50] if value and isinstance(value, list) else None,
)
@pytest.mark.parametrize("command", ["run", "prepare", "condense"])
def test_mistakes_in_the_settings(
    call: Call, tmp_path: Path, command: str, arguments: list[str], parts: list[str]
) -> None:
    message = refused(call, command, *arguments, out=tmp_path / "run")
    assert all(part in message for part in parts), message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["is not a file"]),
        ("{", ["JSON"]),
        ("[]", ["object"]),
        ('{"sed": 3}', ["'sed'", "'seed'"]),
        ('{"condense": {"iterations": "many"}}', ["condense.iterations", "many"]),
        ('{"seed": ' + "[" * 100_000, ["JSON"]),
        ('{"seed": ' + "1" * 5000 + "}", [""]),
    ],
    ids=["missing", "open", "list", "unknown key", "wrong type", "deep", "long number"],
)
def test_mistakes_in_a_configuration_file(call: Call, tmp_path: Path, content: str | None, parts: list[str]) -> None:
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_text(content)
    message = refused(call, "run", "--config", str(file), out=tmp_path / "run")
    assert all(part in message for part in [str(file), *parts])


@pytest.mark.parametrize("place", ["folder", "below a file"])
def test_a_configuration_file_that_cannot_be_one(call: Call, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("{}")
    path = tmp_path if place == "folder" else tmp_path / "file" / "settings.json"
    assert "is not a file" in refused(call, "show-config", "--config", str(path))


@pytest.mark.parametrize("out", ["file", "file/below", "unknown://bucket/run"])
def test_out_that_cannot_be_a_folder(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert out in refused(call, "run", "--out", out)


# Mistakes that a look at the source shows; the tasks run on the cluster


def test_path_that_does_not_exist(call: Call, tmp_path: Path, ray_cluster: None) -> None:
    message = refused(call, "run", *IMAGES, "--data", str(tmp_path / "absent"), out=tmp_path / "run")
    assert f"{tmp_path / 'absent'}: does not exist" in message


def test_folder_without_images(call: Call, tmp_path: Path, ray_cluster: None) -> None:
    (tmp_path / "data" / "ant").mkdir(parents=True)
    message = refused(call, "run", *IMAGES, "--data", str(tmp_path / "data"), out=tmp_path / "run")
    assert "holds no images" in message


def test_corrupt_image(call: Call, folder: Path, tmp_path: Path, ray_cluster: None) -> None:
    bad = folder / "train" / "bee" / "005.png"
    bad.write_bytes(bad.read_bytes()[:120])
    message = refused(call, "run", *IMAGES, "--data", str(folder), out=tmp_path / "run")
    assert str(bad) in message
    assert "data.on_bad_image=skip" in message


def test_too_few_images(call: Call, folder: Path, tmp_path: Path, ray_cluster: None) -> None:
    message = refused(
        call, "run", *IMAGES, "--data", str(folder), "--set", "condense.images_per_class=4", out=tmp_path / "run"
    )
    for part in ("'ant'", "has 12 training images", "needed 16", "condense.images_per_class"):
        assert part in message


def test_parquet_without_labels(call: Call, tmp_path: Path, ray_cluster: None) -> None:
    pq.write_table(pa.table({"image": [encoded(picture(0))], "score": [0.5]}), tmp_path / "a.parquet")
    message = refused(
        call,
        "run",
        *("--preset", "cifar10_ipc1", "--set", "data.source=parquet", "--data", str(tmp_path / "a.parquet")),
        out=tmp_path / "run",
    )
    assert "no label column" in message
    assert "score (double)" in message


def test_unknown_class(call: Call, folder: Path, tmp_path: Path, ray_cluster: None) -> None:
    message = refused(
        call, "run", *IMAGES, "--data", str(folder), "--set", "data.classes=ant,dog", out=tmp_path / "run"
    )
    assert "data.classes: dog not found" in message


@pytest.mark.parametrize("setting", ["resources.cpus_per_actor=1000", "resources.gpus_per_actor=64"])
def test_an_actor_that_fits_on_no_node(call: Call, tmp_path: Path, ray_cluster: None, setting: str) -> None:
    message = refused(call, "run", "--set", "data.classes=0,1", "--set", setting, out=tmp_path / "run")
    assert setting.partition("=")[2] in message
    assert "no node has them" in message
    assert setting.partition("=")[0] in message


def test_prepare_on_the_command_line(call: Call, folder: Path, tmp_path: Path, ray_cluster: None) -> None:
    code, errors, output = call("prepare", *IMAGES, "--data", str(folder), "--out", str(tmp_path / "run"))
    assert (code, errors) == (0, [])
    assert "36 train and 12 test images" in output


def test_look_prints_how_a_source_is_read_and_writes_nothing(
    call: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "train" / "ant" / "x.heic").write_bytes(b"x")
    (folder / "train" / "ant" / "000.png").write_bytes(b"is not decoded")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.runtime.session.start", lambda *_: pytest.fail("Ray was started"))
    code, errors, output = call("prepare", *IMAGES, "--data", str(folder), "--look")
    assert (code, errors) == (0, [])
    assert output.splitlines() == [
        "source: 49 files found, 48 read as images",
        "source: left out 1 file, ending .heic (train/ant/x.heic)",
        "source: train is folder train",
        "source: test is folder test",
        "source: 3 classes; label 0 is ant with 12 train and 4 test images",
    ]
    assert os.listdir(tmp_path) == [folder.name]


def test_look_refuses_what_prepare_refuses(call: Call, tmp_path: Path) -> None:
    (tmp_path / "train_a" / "x").mkdir(parents=True)
    assert "--out" in refused(call, "prepare", *IMAGES, "--data", str(tmp_path))
    assert "does not exist" in refused(call, "prepare", *IMAGES, "--data", str(tmp_path / "gone"), "--look")
    assert "holds no images" in refused(call, "prepare", *IMAGES, "--data", str(tmp_path), "--look")


# Folders without a run


@pytest.mark.parametrize("command", ["evaluate", "report"])
@pytest.mark.parametrize("place", ["absent", "empty", "other", "damaged"])
def test_a_folder_without_a_run(call: Call, tmp_path: Path, command: str, place: str) -> None:
    folder = tmp_path / place
    if place != "absent":
        folder.mkdir()
    if place in ("other", "damaged"):
        (folder / "config.json").write_text('{"model": "bert"}' if place == "other" else '{"config": {')
    assert str(folder) in refused(call, command, str(folder))
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) in ([], ["config.json"])


@pytest.mark.parametrize("setting", ["condense.iterations=3", "seed=1", "data.path=/x"])
def test_evaluate_accepts_only_its_own_settings(call: Call, tmp_path: Path, setting: str) -> None:
    message = refused(call, "evaluate", str(tmp_path), "--set", setting)
    assert setting in message
    assert "evaluate.*" in message


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ([], "compare accepts evaluate.*, resources.* and storage.* only"),
        (["--preset", "digits_ipc1"], "compare accepts data.*, evaluate.*, resources.* and storage.* only"),
    ],
)
def test_compare_accepts_data_settings_with_a_preset(call: Call, options: list[str], accepted: str) -> None:
    assert accepted in refused(call, "compare", "A", "B", *options, "--set", "condense.iterations=3")


# show-config, help, debug


@pytest.mark.parametrize("name", PRESETS)
def test_show_config_prints_what_config_reads(call: Call, tmp_path: Path, name: str) -> None:
    changes = ("--set", "seed=3", "--set", "data.classes=3,5", "--set", "condense.learning_rate=0.1")
    if preset(name).data.subset:
        changes += ("--set", "data.subset=null")  # replaced by classes of the user's choice
    code, errors, shown = call("show-config", "--preset", name, *changes)
    assert (code, errors) == (0, [])
    file = tmp_path / "settings.json"
    file.write_text(shown)
    assert call("show-config", "--config", str(file)) == (0, [], shown)
    file.write_text(json.dumps({"config": json.loads(shown), "resolved": {}}))
    assert call("show-config", "--config", str(file)) == (0, [], shown)


def test_data_is_short_for_data_path(call: Call, tmp_path: Path) -> None:
    long, short = (
        call("show-config", *IMAGES, *given)
        for given in (("--set", f'data.path="{tmp_path}"'), ("--data", str(tmp_path)))
    )
    assert long == short
    assert json.loads(short[2])["data"]["path"] == str(tmp_path)


@pytest.mark.parametrize("path", ["5", "null", "[1]", "a=b"])
def test_data_is_read_as_text(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    _, _, shown = call("show-config", *IMAGES, "--data", path)
    assert Path(json.loads(shown)["data"]["path"]).name == path


def test_set_wins_over_data_and_the_last_set_wins(call: Call) -> None:
    _, _, shown = call("show-config", *IMAGES, "--data", "/a", "--set", "data.path=/b", "--set", "data.path=/c")
    assert json.loads(shown)["data"]["path"] == "/c"


@pytest.mark.parametrize("command", COMMANDS)
def test_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    output = capsys.readouterr().out
    assert ended.value.code == 0
    assert "--debug" in output
    assert "--set KEY=VALUE" in output
    assert ("--out PATH" in output) == (command in ("run", "prepare", "condense"))


def test_help_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert all(command in output for command in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["condens"], ["run"], ["run", "--out"], ["evaluate"]])
def test_command_lines_that_argparse_refuses(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_debug_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cifar10_ip1"):
        main(["run", "--debug", "--preset", "cifar10_ip1", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted; repeat the command to resume"),
        (
            RuntimeError("first\nsecond"),
            1,
            "failed: RuntimeError: first (unexpected; add --debug for the traceback)",
        ),
        (UserError("a\nb"), 2, "error: a b"),
    ],
    ids=["interrupted", "unexpected error", "two lines"],
)
def test_exit_codes(call: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str) -> None:
    def broken(_: object) -> None:
        raise error

    monkeypatch.setattr(commands, "configuration", broken)
    assert call("show-config")[:2] == (code, [line])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show-config", "--set", "evaluate.seeds=2147483647"], "an integer from 1 to 10000"),
        (["show-config", "--set", "tune.seeds=10001"], "an integer from 2 to 10000"),
        (["show-config", "--set", "pretrain.trajectories=2147483647"], "an integer from 1 to 10000"),
        (["show-config", "--set", "resources.actors=2147483647"], "an integer from 1 to 100000"),
        (["show-config", "--set", "resources.attempts=2147483647"], "an integer from 1 to 1000"),
        (["show-config", "--set", "condense.images_per_class=2147483647"], "an integer from 1 to 1000000"),
        (["tune", "--out", "OUT", "--trials", "2147483647"], "a number from 1 to 100000"),
        (["tune", "--out", "OUT", "--trials", "1", "--time-budget", "9" * 400 + "d"], "is not a duration"),
        (["plan", "--gpus", "2147483647"], "a number from 1 to 100000"),
    ],
)
def test_counts_that_no_machine_holds_are_refused(
    call: Call, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert message in refused(call, *(str(tmp_path) if word == "OUT" else word for word in arguments))
