"""The command ``import``: files of other people, what is known of them, and what is refused."""

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from m3d import standardise
from pipeline.exports.export_set import ExportRequest, run_export
from pipeline.exports.import_set import ImportRequest, run_import
from pipeline.formats.condensed_reader import load_condensed, read_manifest
from tests.pipeline.conftest import Told
from tests.pipeline.support.condensed_sets import MEAN, STD, change_manifest, write_set
from tests.pipeline.support.exports import exported, imported, stored, views

Call = Callable[..., Told]
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
ORDER = [0, 3, 1, 4, 2, 5]
"""Images of ``IMAGES`` class by class."""


def test_a_file_of_other_people(tmp_path: Path) -> None:
    torch.save([IMAGES, LABELS], tmp_path / "theirs.pt")
    read = load_condensed(str(imported(tmp_path / "theirs.pt", "idc", factor=2)), decode=False, normalise=False)
    assert torch.equal(read.images, IMAGES[ORDER])
    assert read.classes == ["0", "1", "2"]
    assert read.stored.factor == 2


def test_like_gives_classes_moments_and_settings(condensed: Path, tmp_path: Path) -> None:
    change_manifest(condensed, lambda manifest: manifest.update(config={"seed": 5, "data": {"path": "/home/ann"}}))
    torch.save([IMAGES, LABELS], tmp_path / "theirs.pt")
    manifest = read_manifest(str(imported(tmp_path / "theirs.pt", "idc", like=str(condensed))))
    assert [entry["name"] for entry in manifest["classes"]] == ["ant", "bee", "cat"]
    assert (manifest["mean"], manifest["std"], manifest["factor"]) == (MEAN, STD, 1)
    assert manifest.get("config") == {"seed": 5, "data": {}, "condense": {"images_per_class": 2, "factor": 1}}


def test_like_does_not_say_how_a_file_was_made(condensed: Path, tmp_path: Path) -> None:
    made = {"seed": 5, "kernel": {"name": "linear"}, "condense": {"images_per_class": 7, "iterations": 9, "factor": 2}}
    change_manifest(condensed, lambda manifest: manifest.update(config=made))
    assert "--preset" in (exported(condensed, "hub") / "README.md").read_text()
    torch.save([IMAGES, LABELS], tmp_path / "theirs.pt")
    other = imported(tmp_path / "theirs.pt", "idc", like=str(condensed))
    again = imported(exported(other, "npz"), "npz")
    for number, folder in enumerate((other, again)):
        run_export(str(folder), ExportRequest(format="hub"), str(tmp_path / f"hub-{number}"))
        card = (tmp_path / f"hub-{number}" / "README.md").read_text()
        assert "how it was made is not recorded" in card
        assert "--preset" not in card
        assert read_manifest(str(folder)).get("config", {})["condense"] == {"images_per_class": 2, "factor": 1}


@pytest.mark.parametrize("key", ["name", "wnid"])
def test_like_finds_classes_by_their_names(condensed: Path, tmp_path: Path, key: str) -> None:
    order = {"ant": 2, "bee": 0, "cat": 1}

    def reorder(manifest: Any) -> None:
        names = sorted(order, key=order.__getitem__)
        manifest["classes"] = [{"label": order[name], "name": name, "wnid": f"n{name}"} for name in names]

    change_manifest(condensed, reorder)
    for number, name in enumerate(("ant", "bee", "cat")):
        folder = tmp_path / "photos" / (name if key == "name" else f"n{name}")
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(folder / "0.png")
    read = load_condensed(str(imported(tmp_path / "photos", "imagefolder", like=str(condensed))), normalise=False)
    assert read.classes == ["bee", "cat", "ant"]
    assert (read.images[:, 0, 0, 0] * 255).round().tolist() == [40, 80, 0]


def test_classes_identified_by_their_order_are_reported(condensed: Path, tmp_path: Path, call: Call) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name / "0.png")
    arguments = ("--from", "imagefolder", "--like", str(condensed), "--out", str(tmp_path / "new"))
    code, errors, printed = call("import", str(tmp_path / "photos"), *arguments)
    assert (code, errors) == (0, [])
    assert "its classes a, b, c were identified by their order with ant, bee, cat" in printed


def test_like_leaves_what_m3d_json_says_of_the_file(condensed: Path, tmp_path: Path) -> None:
    like = write_set(tmp_path / "like", mean=[0.1, 0.1, 0.1], std=[0.5, 0.5, 0.5])
    for name, before in (("idc", stored(condensed)), ("mtt", views(condensed))):
        back = imported(exported(condensed, name), name, like=str(like))
        assert torch.allclose(stored(back), before, atol=1e-6)
        assert read_manifest(str(back))["mean"] == [0.1, 0.1, 0.1]
        assert read_manifest(str(back))["factor"] == (2 if name == "idc" else 1)


def test_moments_of_the_command_line_take_precedence(condensed: Path) -> None:
    out = exported(condensed, "npz")
    manifest = read_manifest(str(imported(out, "npz", mean="0.1/0.2/0.3", std="1/1/1")))
    assert (manifest["mean"], manifest["std"]) == ([0.1, 0.2, 0.3], [1, 1, 1])


def test_normalised_files_need_their_moments(call: Call, tmp_path: Path) -> None:
    torch.save({"data": [[standardise(IMAGES, tuple(MEAN), tuple(STD)), LABELS]]}, tmp_path / "theirs.pt")
    arguments = ("import", str(tmp_path / "theirs.pt"), "--from", "dc", "--out", str(tmp_path / "set"))
    code, errors, _ = call(*arguments)
    assert code == 2
    assert "its moments are not known for this data; add --like SET, a set of the same data, or --mean" in errors[0]
    moments = ("--mean", "/".join(map(str, MEAN)), "--std", "/".join(map(str, STD)))
    assert call(*arguments, *moments)[:2] == (0, [])
    assert torch.allclose(stored(tmp_path / "set"), IMAGES[ORDER], atol=1e-6)
    assert read_manifest(str(tmp_path / "set"))["std"] == STD


def test_pixels_outside_are_clamped_and_reported(call: Call, tmp_path: Path) -> None:
    images = standardise(IMAGES, tuple(MEAN), tuple(STD))
    images[0, 0, 0, 0] = 9.0
    torch.save(images, tmp_path / "images_best.pt")
    torch.save(LABELS, tmp_path / "labels_best.pt")
    moments = ("--mean", "/".join(map(str, MEAN)), "--std", "/".join(map(str, STD)))
    code, _, printed = call("import", str(tmp_path), "--from", "mtt", *moments, "--out", str(tmp_path / "set"))
    assert code == 0
    assert f"{1 / images.numel():.2%} of the pixels were outside 0 to 1 (" in printed
    assert float(stored(tmp_path / "set").max()) == 1
    notes = json.loads((tmp_path / "set" / "manifest.json").read_text())["imported"]["notes"]
    assert any("clamped" in note for note in notes)


def test_a_folder_of_photos(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8), (40 * number, 200, 3)).save(tmp_path / "photos" / name / f"{number}.png")
    read = load_condensed(str(imported(tmp_path / "photos", "imagefolder")), normalise=False)
    assert read.classes == ["ant", "bee"]
    assert read.images[:, 0, 0, 0].tolist() == pytest.approx([0, 40 / 255, 0, 40 / 255])


def test_uint8_arrays_are_scaled(tmp_path: Path) -> None:
    pixels = (IMAGES * 255).byte().numpy()
    np.savez(tmp_path / "theirs.npz", images=pixels, labels=LABELS.numpy().astype(np.uint8))
    read = stored(imported(tmp_path / "theirs.npz", "npz"))
    assert torch.equal((read * 255).round().byte(), torch.from_numpy(pixels)[ORDER])


def test_m3d_json_of_another_format_is_not_asked(condensed: Path) -> None:
    out = exported(condensed, "idc")
    torch.save([IMAGES, LABELS], out / "images_best.pt")
    (out / "data.pt").rename(out / "kept.pt")
    np.savez(out / "condensed.npz", images=IMAGES.numpy(), labels=LABELS.numpy())
    assert load_condensed(str(imported(out, "npz"))).classes == ["0", "1", "2"]


def test_an_import_can_be_loaded_and_exported_in_another_format(condensed: Path) -> None:
    back = imported(exported(condensed, "npz"), "npz")
    assert torch.equal(views(back), views(condensed))
    assert (exported(back, "hub") / "README.md").exists()


# What is refused


def archive(**members: bytes) -> bytes:
    """An archive of arrays, as their bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, content in members.items():
            written.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def array(shape: str, dtype: str = "<f4", data: bytes = b"\0" * 16) -> bytes:
    """An array with any header."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"images": array("(1000000, 3, 4000, 4000)")}, "does not match its bytes"),
        ({"images": array("(-4,)")}, "is not a file of arrays"),
        ({"images": array("(2,)", "|O")}, "an array of 'O'"),
        ({"images": b"no array"}, "is not a file of arrays"),
        ({"labels": array("(2,)", "<i8")}, "has no array 'images'"),
        ({"images": array("(4,)"), "labels": array("(2,)", "<i8")}, r"has images float32 \[4\]"),
        ({"images": array("(4,")}, "an array with a damaged header"),
        (
            {
                "images": array("(1, 3, 4, 4)", "<f4", bytes(192)),
                "labels": array("(1,)", "<i8", (2**40).to_bytes(8, "little")),
            },
            "has the label 1099511627776; allowed: 0 to 1048575",
        ),
        ({"images": array("(0, 3, 4, 4)", data=b""), "labels": array("(0,)", "<i8", b"")}, "holds no images"),
    ],
)
def test_archives_of_strangers(tmp_path: Path, call: Call, members: dict[str, bytes], message: str) -> None:
    (tmp_path / "theirs.npz").write_bytes(archive(**members))
    code, errors, _ = call("import", str(tmp_path / "theirs.npz"), "--from", "npz", "--out", str(tmp_path / "set"))
    assert (code, len(errors)) == (2, 1)
    assert re.search(message, errors[0]), errors
    assert not (tmp_path / "set").exists()


def test_compressed_archives_are_refused(tmp_path: Path, call: Call) -> None:
    np.savez_compressed(tmp_path / "theirs.npz", images=IMAGES.numpy(), labels=LABELS.numpy())
    code, errors, _ = call("import", str(tmp_path / "theirs.npz"), "--from", "npz", "--out", str(tmp_path / "set"))
    assert code == 2
    assert "it is compressed; save it with numpy.savez" in errors[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([IMAGES[:5], LABELS[:5]], "class 2 has 1 images, class 0 has 2"),
        ([IMAGES[:, :2], LABELS], r"holds images of shape \[2, 8, 8\]"),
        ([IMAGES[..., :4], LABELS], r"holds images of shape \[3, 8, 4\]"),
        ([IMAGES[0], LABELS], r"holds images of shape \[3, 8, 8\], needed \[n, C, H, W\]"),
        ([IMAGES * 9, LABELS], "if they are normalised, add --from dc or --from mtt"),
        ([IMAGES, LABELS[:4]], "holds 6 images and 4 labels"),
        ([IMAGES * float("nan"), LABELS], "pixels that are not finite"),
        ([IMAGES, LABELS * 4], "class 1 has 0 images"),
        ([IMAGES, ["a"] * 6], "its labels are not numbers"),
        ({"images": IMAGES}, "is not of layout idc"),
    ],
)
def test_files_that_are_no_condensed_set(tmp_path: Path, call: Call, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "theirs.pt")
    code, errors, _ = call("import", str(tmp_path / "theirs.pt"), "--from", "idc", "--out", str(tmp_path / "set"))
    assert (code, len(errors)) == (2, 1)
    assert re.search(message, errors[0]), errors
    assert not (tmp_path / "set").exists()


def test_images_of_different_sizes(tmp_path: Path, call: Call) -> None:
    for name, side in (("ant", 8), ("bee", 9)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (side, side)).save(tmp_path / "photos" / name / "0.png")
    code, errors, _ = call("import", str(tmp_path / "photos"), "--from", "imagefolder", "--out", str(tmp_path / "set"))
    assert code == 2
    assert "bee/0.png: is 9 x 9 px, the first image is 8 x 8" in errors[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "idx"], "--from idx: allowed: "),
        (["--from", "idc", "--factor", "17"], "--factor 17: allowed: an integer from 1 to 16"),
        (["--from", "idc", "--factor", "7"], "factor 7 does not fit images of 8 px"),
        (["--from", "dc", "--mean", "0.5/0.5"], "--mean, --std: give both or none"),
        (["--from", "dc", "--mean", "a/b", "--std", "1/1"], "--mean a/b: is not a number per channel"),
        (["--from", "dc", "--mean", "0/0/0", "--std", "1/1/0"], "those of --std are above 0"),
        (["--from", "ddranking"], "add --like SET"),
    ],
)
def test_options_that_are_refused(call: Call, tmp_path: Path, options: list[str], message: str) -> None:
    torch.save([IMAGES, LABELS], tmp_path / "theirs.pt")
    code, errors, _ = call("import", str(tmp_path / "theirs.pt"), *options, "--out", str(tmp_path / "set"))
    assert (code, len(errors)) == (2, 1)
    assert message in errors[0]


def test_a_file_that_does_not_exist(call: Call, tmp_path: Path) -> None:
    code, errors, _ = call("import", str(tmp_path / "none"), "--from", "idc", "--out", str(tmp_path / "set"))
    assert (code, errors) == (2, [f"error: {tmp_path / 'none'}: does not exist"])


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.update(factor=99),
        lambda about: about.update(std=[0.0, 1.0, 1.0]),
        lambda about: about.update(classes=[]),
        lambda about: about.update(mean=[0.5]),
        lambda about: about.update(config={"seed": "x"}),
        lambda about: about.update(format=2),
    ],
)
def test_a_changed_m3d_json(condensed: Path, change: Callable[[Any], Any]) -> None:
    from pipeline.errors import UserError
    from pipeline.storage.documents import sealed

    out = exported(condensed, "idc")
    about = json.loads((out / "m3d.json").read_text())
    change(about)
    (out / "m3d.json").write_text(json.dumps(sealed(about)))
    with pytest.raises(UserError, match=r"m3d\.json"):
        run_import(str(out), ImportRequest(format="idc"), str(out.parent / "back"))


def test_a_class_too_many(condensed: Path) -> None:
    from pipeline.errors import UserError

    out = exported(condensed, "imagefolder")
    (out / "dog").mkdir()
    for path in (out / "cat").iterdir():
        (out / "dog" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="has 4 classes, 3 were expected"):
        imported(out, "imagefolder")


def test_class_names_that_are_no_text(condensed: Path) -> None:
    from pipeline.storage.documents import sealed

    out = exported(condensed, "idc")
    about = json.loads((out / "m3d.json").read_text())
    about["classes"][0]["name"] = "\ud800"
    (out / "m3d.json").write_text(json.dumps(sealed(about)))
    assert load_condensed(str(imported(out, "idc"))).classes == ["\\ud800", "bee", "cat"]
