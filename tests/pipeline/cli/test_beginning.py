"""``init``, ``presets``, ``completion``, ``--version``, examples in the help, and the name of the program in it."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docs import generate
from pipeline.cli import commands, examples, preset_table, program
from pipeline.cli.main import main
from pipeline.cli.parser import build_parser
from pipeline.config.presets import PRESETS
from pipeline.errors import UserError
from pipeline.storage.settings import load_config
from tests.pipeline.conftest import Told
from tests.pipeline.support.images import write_folder

Call = Callable[..., Told]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images of three classes in a folder without splits; the tests are in the folder above it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.workflow.proposal.measured_flops", lambda *_: 1e11)
    return write_folder(tmp_path / "my photos", {"": 8})


# init


@pytest.mark.parametrize("name", ["my-photos.yaml", "other.yaml", "other.json"])
def test_init_writes_a_configuration_that_run_takes(
    photos: Path, call: Call, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = () if name == "my-photos.yaml" else ("--out", name)
    code, errors, printed = call("init", photos.name, *out)
    assert (code, errors) == (0, [])
    config = load_config(name)
    assert (config.data.source, config.data.path) == ("image_folder", str(photos))
    assert (config.data.image_size, config.encoder.name) == (16, "convnet3")
    assert config.evaluate.architectures == ("convnet3",)
    assert (config.condense.images_per_class, config.condense.factor) == (1, 2)
    assert "3 classes" in printed
    assert "time: roughly" in printed
    last = printed.splitlines()[-1].strip()
    assert last == f"python -m pipeline run --config {name} --out runs/my-photos"
    build_parser().parse_args(last.split()[3:])


def test_init_overwrites_only_with_force(photos: Path, call: Call) -> None:
    Path("my-photos.yaml").write_text("seed: 7\n")
    code, errors, _ = call("init", photos.name)
    assert (code, errors) == (
        2,
        ["error: my-photos.yaml: exists; choose another --out, or add --force to overwrite it"],
    )
    assert Path("my-photos.yaml").read_text() == "seed: 7\n"
    assert call("init", photos.name, "--force")[0] == 0
    assert load_config("my-photos.yaml").seed == 0


def test_init_writes_nothing_if_the_file_appears_while_it_looks(
    photos: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.workflow.proposal.measured_flops",
        lambda *_: Path("my-photos.yaml").write_text("seed: 7\n") and 1e11,
    )
    assert call("init", photos.name)[0] == 2
    assert Path("my-photos.yaml").read_text() == "seed: 7\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: does not exist; give the folder of the images"),
        (["my photos", "--out", "x.toml"], "--out x.toml: is neither .yaml nor .json"),
        (["my photos", "--out", "none/x.yaml"], "--out none/x.yaml: its folder does not exist"),
        (["my photos", "--images-per-class", "0"], "--images-per-class 0: allowed: a number from 1"),
        (["my photos", "--images-per-class", "7"], "--images-per-class 7: the smallest class has 6 training images"),
    ],
)
@pytest.mark.usefixtures("photos")
def test_mistakes_of_init(call: Call, arguments: list[str], message: str) -> None:
    code, errors, _ = call("init", *arguments)
    assert (code, len(errors)) == (2, 1)
    assert message in errors[0]
    assert list(Path().glob("*.yaml")) == []


def test_few_images_get_a_factor_that_they_suffice_for(photos: Path, call: Call) -> None:
    assert call("init", photos.name, "--images-per-class", "6")[0] == 0
    config = load_config("my-photos.yaml")
    assert (config.condense.images_per_class, config.condense.factor) == (6, 1)


# A configuration of YAML


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("data: [", ["is not valid YAML"]),
        ("- seed", ["given list, needed settings"]),
        ("evaluate: {on: validation}", ["needed settings", "quote a key such as 'on'"]),
        ("a: &a {x: 1}\nb: *a", ["alias"]),
        ("condense: {itertions: 3}", ["condense.itertions", "did you mean 'condense.iterations'"]),
        ("condense: {iterations: 2026-02-31}", ["is not valid YAML"]),
    ],
)
def test_mistakes_in_a_configuration_of_yaml(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(str(path))
    assert all(part in str(caught.value) for part in parts), caught.value


# presets


def test_presets_lists_all_of_them(call: Call) -> None:
    code, errors, printed = call("presets")
    assert (code, errors) == (0, [])
    assert [line.split()[0] for line in printed.splitlines()[1 : len(PRESETS) + 1]] == list(PRESETS)
    assert "95.3 ± 0.7" in printed


def test_what_presets_says_of_measurements_is_in_the_docs() -> None:
    assert generate.MEASURED.read_text() == generate.measurements(), "out of date: run python -m docs.generate"
    results = (generate.DOCS / "results.md").read_text()
    for name, known in preset_table.measured().items():
        assert name in PRESETS
        if accuracy := known.get("accuracy"):
            assert f"{accuracy[0]:.1f} ± {accuracy[1]:.1f}" in results


# The program


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"m3d-condense {program.version()}\n"
    assert program.version()[0].isdigit()


@pytest.mark.parametrize("started_as", [program.MODULE, program.SCRIPT])
def test_the_help_has_examples_under_the_name_of_the_program(started_as: str) -> None:
    parser = build_parser(started_as)
    for name, command in generate.subparsers(parser).items():
        if name in program.OTHERS:
            continue
        shown = command.format_help()
        lines = [line.strip() for line in shown.partition("example")[2].splitlines()[1:]]
        assert name == "completion" or lines, f"{name}: add an example to pipeline/cli/examples.py"
        assert shown.startswith(f"usage: {started_as} {name}")
        for line in lines:
            assert line.startswith(f"{started_as} {name}")
    other = program.MODULE if started_as == program.SCRIPT else f"{program.SCRIPT} "
    assert other not in parser.format_help()


def test_examples_parse() -> None:
    for words in (*examples.FIRST_STEPS, *(line for lines in examples.EXAMPLES.values() for line in lines)):
        options = build_parser().parse_args(words.split())
        settings = getattr(options, "settings", [])
        if hasattr(options, "preset") and not (options.config or options.action is commands.compare):
            commands.configuration(argparse.Namespace(**{**vars(options), "settings": settings}))


def test_only_m3d_has_the_commands_of_other_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["cluster", "--help"])
    assert "invalid choice: 'cluster'" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/m3d", "cluster"])
    with pytest.raises(SystemExit) as ended:
        main(["cluster", "submit", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: m3d cluster submit [options] -- COMMAND ...")
    assert "m3d cluster submit --profile" in shown
    assert main(["cluster", "submit", "--address", "http://h:1", "--", "rum"]) == 2
    assert "-- rum: is not a command for a job" in capsys.readouterr().err


def test_m3d_without_an_installation_says_what_to_start_instead(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "DISTRIBUTION", "m3d-condense-that-nobody-installed")
    monkeypatch.setattr(sys, "argv", ["m3d"])
    assert main(["cluster", "list"]) == 2
    assert "or use python -m cluster" in capsys.readouterr().err
    assert program.version() == "unknown (not installed)"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_options_and_presets(call: Call, shell: str) -> None:
    code, errors, printed = call("completion", shell)
    assert (code, errors) == (0, [])
    for word in ("m3d", "show-config", "photos_ipc1", "up-local"):
        assert word in printed
    if shell == "bash":
        done = subprocess.run(["bash", "-n"], input=printed, text=True, capture_output=True, timeout=20)
        assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes(call: Call) -> None:
    script = call("completion", "bash")[2]
    ask = """
COMP_WORDS=(m3d run --preset ""); COMP_CWORD=3; COMP_LINE="m3d run --preset "; COMP_POINT=17
_shtab_m3d m3d "" --preset 2>/dev/null || true; printf '%s\\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(["bash", "-c", script + ask], text=True, capture_output=True, timeout=20)
    assert "photos_ipc1" in done.stdout.split()


# What a command line means


@pytest.mark.parametrize(
    ("settings", "architectures"),
    [
        ((), ("convnet3",)),
        (("encoder.name=convnet4",), ("convnet4",)),
        (("encoder.name=convnet4", "evaluate.architectures=mlp"), ("mlp",)),
        (("encoder.name=convnet4", "evaluate.architectures=convnet3"), ("convnet3",)),
    ],
)
def test_the_encoder_is_evaluated_without_being_named_twice(
    settings: tuple[str, ...], architectures: tuple[str, ...]
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    options = build_parser().parse_args(["show-config", "--preset", "cifar10_ipc1", *words])
    assert commands.configuration(options).evaluate.architectures == architectures


def test_a_run_of_an_older_version_keeps_its_networks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"config": {"evaluate": {"architectures": ["convnet3"]}}}))
    words = ["run", "--preset", "cifar10_ipc1", "--set", "encoder.name=convnet4", "--out"]
    begun, new = (build_parser().parse_args([*words, str(folder)]) for folder in (tmp_path, tmp_path / "new"))
    assert commands.configuration(begun).evaluate.architectures == ("convnet3",)
    assert commands.configuration(new).evaluate.architectures == ("convnet4",)


def test_whoever_forgets_the_source_is_not_invited_to_download(photos: Path, call: Call, tmp_path: Path) -> None:
    code, errors, _ = call("prepare", "--look", "--preset", "cifar10_ipc1", "--data", str(photos))
    assert (code, len(errors)) == (2, 1)
    assert "add --set data.source=image_folder" in errors[0]
    assert "download" not in errors[0]
    empty = tmp_path / "empty"
    empty.mkdir()
    code, errors, _ = call("prepare", "--look", "--preset", "cifar10_ipc1", "--data", str(empty))
    assert (code, len(errors)) == (2, 1)
    assert "data.download=true fetches it" in errors[0]
