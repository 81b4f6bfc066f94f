"""Export, then import: the same set again, exactly where the format is lossless."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.exports.registry import FORMATS, export_format
from pipeline.formats.condensed_reader import load_condensed, read_manifest
from pipeline.workflow.verify import verify
from tests.pipeline.support.condensed_sets import CLASSES, MEAN, STD
from tests.pipeline.support.exports import exported, imported, rounded, stored, views

VIEWS = ("decoded", "stored")


def images_of(source: Path, kind: str) -> torch.Tensor:
    """The images that an export of this kind contains."""
    return stored(source) if kind == "stored" else views(source)


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("name", FORMATS)
def test_pixels_come_back(condensed: Path, name: str, kind: str) -> None:
    back = imported(exported(condensed, name, views=kind), name)
    before, after = images_of(condensed, kind), stored(back)
    match export_format(name).pixels:
        case "float32":
            assert torch.equal(after, before)
        case "normalised":
            assert torch.allclose(after, before, rtol=0, atol=1e-6)
        case "png":
            assert torch.equal(rounded(after), rounded(before))
            assert float((after - before).abs().max()) <= 0.5001 / 255


@pytest.mark.parametrize("name", FORMATS)
def test_what_surrounds_the_pixels_comes_back(condensed: Path, name: str) -> None:
    back = imported(exported(condensed, name, name="insects", licence="cc-by-4.0"), name)
    manifest = read_manifest(str(back))
    assert manifest["classes"] == CLASSES
    assert (manifest["mean"], manifest["std"]) == (MEAN, STD)
    form = export_format(name)
    assert (manifest["factor"], manifest["images_per_class"]) == ((2, 2) if form.views == "stored" else (1, 8))
    document = json.loads((back / "manifest.json").read_text())
    assert document["data"] == {"name": "insects", "licence": "cc-by-4.0", "source": name, "images": {}}
    assert document["imported"]["format"] == name
    assert document["imported"]["file"] == f"{name}-export"
    assert verify(str(back))[1] == []


@pytest.mark.parametrize("name", FORMATS)
def test_views_are_those_of_the_set(condensed: Path, name: str) -> None:
    """Whatever an export contains, networks are trained on the same images up to rounding."""
    back = load_condensed(str(imported(exported(condensed, name), name)))
    assert torch.allclose(back.images, load_condensed(str(condensed)).images, rtol=0, atol=0.51 / 255 / min(STD))


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_of_an_import_is_the_same(condensed: Path, name: str, tmp_path: Path) -> None:
    first = exported(condensed, name, views="stored")
    (tmp_path / "again").mkdir()
    back = imported(first, name)
    second = exported(back.rename(tmp_path / "again" / "set"), name, views="stored")
    if export_format(name).pixels != "normalised":  # whose rounding in float32 moves the last bit
        files = {path.relative_to(first): path.read_bytes() for path in first.rglob("*") if path.is_file()}
        others = {path.relative_to(second): path.read_bytes() for path in second.rglob("*") if path.is_file()}
        assert files.keys() == others.keys()
        same = {str(path) for path, content in files.items() if content == others[path]}
        assert same >= {str(path) for path in files} - {"m3d.json", "README.md"}


def test_grey_images_come_back(tmp_path: Path) -> None:
    from m3d import Condensed
    from pipeline.formats.condensed_writer import save_condensed

    images = torch.rand(3, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    grey = Condensed(images_KSCHW=images, class_ids=(0, 1, 2), factor=1, mean=(0.4,), std=(0.2,))
    save_condensed(grey, str(tmp_path / "set"))
    for name in FORMATS:
        back = imported(exported(tmp_path / "set", name), name)
        assert torch.allclose(stored(back), images.flatten(0, 1), rtol=0, atol=0.5001 / 255), name
