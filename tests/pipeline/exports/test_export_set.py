"""The command ``export``: its options, what it prints, what leaves the machine, and what it refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config.run_config import Data
from pipeline.errors import UserError
from pipeline.evaluate.results import write_rows
from pipeline.exports.export_format import ExportFormat
from pipeline.exports.published import moments_for
from pipeline.exports.registry import FORMATS, export_format
from pipeline.formats.peers import moments
from pipeline.formats.run_folder import RunFolder
from tests.pipeline.conftest import Told
from tests.pipeline.evaluate.test_compare import SHORT, finished_run
from tests.pipeline.support.condensed_sets import write_set
from tests.pipeline.support.exports import exported
from tests.pipeline.support.rows import measured_row, network_score
from tests.pipeline.support.runs import small_config

Call = Callable[..., Told]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four digits with an evaluation of two networks, whose settings name places of this machine."""
    out = tmp_path_factory.mktemp("secret-place") / "run"
    places = (
        "data.cache=/home/ann/secret-cache",
        "resources.address=10.1.2.3:6379",
        "storage.endpoint=http://secret:9000",
    )
    finished_run(out)
    folder = RunFolder.at(out)
    record = folder.read_record()
    assert record is not None
    for place in places:
        key, _, value = place.partition("=")
        section, _, name = key.partition(".")
        record["config"][section][name] = value
    folder.write_record(record)
    scores = {seed: network_score([9, 1, 0, 0], [0, 8 + seed, 2, 0], [0, 0, 10, 0], [0, 0, 0, 10]) for seed in (0, 1)}
    seal = json.loads((out / "condensed" / "manifest.json").read_text())["checksum"]
    write_rows(folder, [measured_row(small_config(), "condensed", scores, classes=4, condensed_set=seal)])
    return out


def test_what_is_printed(call: Call, run: Path, tmp_path: Path) -> None:
    code, errors, printed = call("export", str(run), "--to", "hub", "--out", str(tmp_path / "hub"))
    assert (code, errors) == (0, [])
    lines = printed.splitlines()
    assert lines[0] == f"exported 16 views of 4 classes as hub to {tmp_path / 'hub'}"
    rounding = re.fullmatch(
        r"8-bit PNG rounds the pixels, by at most (0\.\d\d)/255 and (0\.\d\d)/255 on average\.", lines[1]
    )
    assert rounding is not None
    assert 0.1 < float(rounding[2]) < float(rounding[1]) <= 0.5


def test_a_lossless_export_says_so(call: Call, run: Path, tmp_path: Path) -> None:
    _, _, printed = call("export", str(run), "--to", "idc", "--out", str(tmp_path / "idc"))
    assert printed.splitlines()[1:] == ["The pixels are those of the set, in float32."]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_printed_commands_compare_the_set_with_its_export(call: Call, tmp_path: Path) -> None:
    out = finished_run(tmp_path / "run")
    _, _, printed = call("export", str(out), "--to", "rethinkdc", "--out", str(tmp_path / "export"))
    commands = [line.split()[3:] for line in printed.splitlines() if line.startswith("  python -m pipeline ")]
    assert [command[0] for command in commands] == ["import", "compare"]
    assert call(*commands[0])[:2] == (0, [])
    code, errors, table = call(*commands[1], *SHORT)
    assert (code, errors) == (0, [])
    assert f"set 2: {tmp_path / 'export-imported'}" in table


@pytest.mark.parametrize("name", FORMATS)
def test_no_place_of_this_machine_leaves(run: Path, tmp_path: Path, name: str) -> None:
    from pipeline.exports.export_set import ExportRequest, run_export

    run_export(str(run), ExportRequest(format=name), str(tmp_path / "out"))
    for path in (tmp_path / "out").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not re.search(rb"secret|/home/|/tmp/|10\.1\.2\.3", content), path.name


def test_the_card_has_command_and_accuracies(run: Path, tmp_path: Path, call: Call) -> None:
    assert call("export", str(run), "--to", "hub", "--name", "four digits", "--out", str(tmp_path / "hub"))[0] == 0
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "# four digits, condensed to 1 image per class" in card
    assert "python -m pipeline run --preset digits_ipc1 --set " in card
    assert re.search(r"\| convnet1 \| idc, hard labels, 2 networks, test images \| \d\d\.\d ± \d\.\d \|", card)
    assert (tmp_path / "hub" / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")


def test_rows_of_another_set_are_left_out(run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run, tmp_path / "run")
    folder = RunFolder.at(tmp_path / "run")
    scores = {0: network_score([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1])}
    write_rows(folder, [measured_row(small_config(), "condensed", scores, classes=4, condensed_set="0" * 64)])
    card = (exported(tmp_path / "run", "hub") / "README.md").read_text()
    assert "Not measured yet" in card


def test_accuracies_in_dc_are_fractions_and_plain_floats(run: Path, tmp_path: Path) -> None:
    from pipeline.exports.export_set import ExportRequest, run_export

    run_export(str(run / "condensed"), ExportRequest(format="dc"), str(tmp_path / "dc"))
    (path,) = (tmp_path / "dc").glob("*.pt")
    assert path.name == "res_M3D_digits_convnet2_4ipc.pt"
    accuracies = torch.load(path, weights_only=True)["accs_all_exps"]
    assert accuracies == {"convnet1": [37 / 40, 38 / 41]}
    assert all(type(value) is float for value in accuracies["convnet1"])


# What images are normalised with

CIFAR = Data(source="torchvision", name="CIFAR10")
OWN = ((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))


@pytest.mark.parametrize("name", ["dc", "mtt", "ddranking"])
def test_the_moments_of_the_published_code(name: str) -> None:
    form = export_format(name)
    assert moments_for(form, CIFAR, OWN) == moments.CIFAR10
    assert moments_for(form, Data(source="image_folder"), OWN) == OWN
    photos = ((0.3, 0.3, 0.3), (0.2, 0.2, 0.2))
    assert moments_for(form, CIFAR, photos) == photos  # photos that were condensed with a preset of CIFAR-10
    grey = ((0.49,), (0.25,))
    assert moments_for(form, CIFAR, grey) == grey


@pytest.mark.parametrize("name", ["hub", "npz", "idc"])
def test_other_formats_are_not_normalised(name: str) -> None:
    assert moments_for(export_format(name), CIFAR, OWN) is None


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "hubb"], r"--to hubb: allowed: hub, .*; did you mean 'hub'\?"),
        (["--to", "hub", "--views", "all"], "--views all: allowed: decoded, stored"),
        (["--to", "hub", "--name", ""], "--name: given ''; allowed: printable text of at most 200 characters"),
        (["--to", "hub", "--licence", "a\nb"], "--licence: given .*; allowed: printable text"),
        (["--to", "hub", "--set", "seed=1"], "--set seed=1: export accepts storage.* only"),
    ],
)
def test_options_that_are_refused(
    call: Call, condensed: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    code, errors, _ = call("export", str(condensed), *options, "--out", str(tmp_path / "out"))
    assert code == 2
    assert len(errors) == 1
    assert re.search(message, errors[0]), errors
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_not_touched(call: Call, condensed: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".mine").write_text("x")
    code, errors, _ = call("export", str(condensed), "--to", "hub", "--out", str(tmp_path / "out"))
    assert (code, errors) == (2, [f"error: {tmp_path / 'out'}: is not empty; choose another --out, or delete it first"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".mine"]


def test_nothing_is_read_if_the_folder_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.exports.export_set.load_condensed", lambda _: pytest.fail("the set is read"))
    with pytest.raises(UserError, match="is not empty"):
        exported(write_set(tmp_path / "npz-export"), "npz")


def test_printed_commands_are_quoted(call: Call, condensed: Path, tmp_path: Path) -> None:
    code, _, printed = call("export", str(condensed), "--to", "hub", "--out", str(tmp_path / "to hub"))
    assert code == 0
    assert f"import '{tmp_path}/to hub' --from hub --out '{tmp_path}/to hub-imported'" in printed


def test_names_of_many_bytes_are_names_of_folders(tmp_path: Path) -> None:
    names = ["あ" * 300, "い" * 90, "う"]
    classes = [{"label": label, "name": name, "wnid": ""} for label, name in enumerate(names)]
    source = write_set(tmp_path / "set", classes=classes)
    assert len(list(exported(source, "imagefolder").iterdir())) == 4
    assert exported(source, "dc", name="あ" * 200).is_dir()


def test_an_empty_folder_is_filled(call: Call, condensed: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert call("export", str(condensed), "--to", "idc", "--out", str(tmp_path / "out"))[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["data.pt", "m3d.json"]


def test_without_a_set(call: Call, tmp_path: Path) -> None:
    code, errors, _ = call("export", str(tmp_path / "none"), "--to", "hub", "--out", str(tmp_path / "out"))
    assert (code, errors) == (2, [f"error: {tmp_path / 'none'}: does not exist"])


def test_a_failure_leaves_nothing(condensed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: str, outgoing: Any) -> None:
        Path(folder, "half").write_text("half of it")
        raise RuntimeError("the disk burns")

    broken = ExportFormat(write=fails, read=export_format("hub").read, pixels="png")
    monkeypatch.setattr("pipeline.exports.export_set.export_format", lambda _: broken)
    with pytest.raises(RuntimeError):
        exported(condensed, "hub")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


# Buckets


def test_from_and_into_a_bucket(call: Call, bucket: str, tmp_path: Path) -> None:
    from pipeline import storage

    local = write_set(tmp_path / "set")
    for path in local.iterdir():
        storage.write_bytes(f"{bucket}/set/{path.name}", path.read_bytes())
    for name in ("hub", "webdataset", "npz"):
        assert call("export", f"{bucket}/set", "--to", name, "--out", f"{bucket}/{name}")[:2] == (0, [])
        assert call("import", f"{bucket}/{name}", "--from", name, "--out", f"{bucket}/{name}-set")[:2] == (0, [])
        assert call("verify", f"{bucket}/{name}-set")[0] == 0
    code, errors, _ = call("export", f"{bucket}/set", "--to", "npz", "--out", f"{bucket}/npz")
    assert (code, errors) == (2, [f"error: {bucket}/npz: is not empty; choose another --out, or delete it first"])
