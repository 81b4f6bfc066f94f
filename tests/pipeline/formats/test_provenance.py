"""Where a condensed set says that it comes from: the data that were read, never a place of the machine."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from m3d.config import ConfigError
from pipeline.condense.manifest import new_record
from pipeline.config.parsing import to_dict, with_settings
from pipeline.config.presets import preset
from pipeline.config.run_config import Data
from pipeline.formats.condensed_reader import read_manifest
from pipeline.formats.provenance import named, origin_of, without_places
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import write_document
from pipeline.storage.settings import PLACES
from pipeline.workflow.report import report
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.runs import placement_of, small_config

CIFAR = {"train": 50_000, "test": 10_000}
PHOTOS = {"train": 96, "test": 24}


@pytest.mark.parametrize(
    ("data", "images", "name"),
    [
        (Data(source="torchvision", name="CIFAR10"), CIFAR, "CIFAR10"),
        (Data(source="parquet", name="CIFAR10"), CIFAR, "CIFAR10"),
        (Data(source="image_folder", name="CIFAR10"), PHOTOS, "image_folder"),  # left over from a preset
        (Data(source="image_folder", name="birds"), PHOTOS, "birds"),
        (Data(source="image_folder"), PHOTOS, "image_folder"),
        (Data(source="image_folder", subset="imagenette"), PHOTOS, "imagenette"),
    ],
)
def test_the_name_is_that_of_what_was_read(data: Data, images: dict[str, int], name: str) -> None:
    assert origin_of(data, 10, images)["name"] == name


def test_another_number_of_classes_is_another_data_set() -> None:
    assert named(Data(source="parquet", name="CIFAR10"), 9, CIFAR) is None


def test_a_configuration_for_others_names_no_place() -> None:
    secret = "/home/alice/photos"
    settings = [f"data.{name}={secret}" for name in ("path", "cache", "synsets", "disk_cache")]
    settings += ["resources.address=10.0.0.1:6379", "storage.endpoint=https://minio.example", "storage.region=eu-1"]
    config = with_settings(preset("cifar10_ipc1"), settings)
    written = to_dict(without_places(config, "birds"))
    assert secret not in json.dumps(written)
    assert [key for key in PLACES if written[key.partition(".")[0]][key.partition(".")[2]]] == []
    assert written["data"]["name"] == "birds"
    assert written.keys() == to_dict(config).keys()
    assert written["data"].keys() == to_dict(config)["data"].keys()


def test_set_and_report_say_what_was_read_and_not_where(tmp_path: Path) -> None:
    home = tmp_path / "alice"
    settings = ('data.name="four digits"', "data.licence=CC-BY-4.0", f"data.cache={home}")
    config, folder = small_config(*settings, iterations=2), RunFolder.at(home)
    dataset = condensed_run(config, home)
    folder.write_record(new_record(config, dataset, placement_of(config)))
    assert read_manifest(folder.condensed).get("data") == {
        "name": "four digits",
        "licence": "CC-BY-4.0",
        "source": "digits",
        "images": {"train": 576, "test": 144},
    }
    assert str(tmp_path) not in (home / "condensed" / "manifest.json").read_text()
    report(folder)
    page = (home / "report.html").read_text()
    assert "four digits" in page
    assert str(tmp_path) not in page


def test_a_set_of_an_older_version_is_read(tmp_path: Path) -> None:
    config, folder = small_config(iterations=2), RunFolder.at(tmp_path)
    dataset = condensed_run(config, tmp_path)
    folder.write_record(new_record(config, dataset, placement_of(config)))
    path = tmp_path / "condensed" / "manifest.json"
    older = {key: value for key, value in json.loads(path.read_text()).items() if key != "data"}
    write_document(str(path), older)
    assert "data" not in read_manifest(str(path.parent))
    report(folder)


@pytest.mark.parametrize("key", ["name", "licence"])
@pytest.mark.parametrize("text", ["", " ", "a\x1b[31mb", "x" * 201])
def test_names_that_a_terminal_or_a_page_would_choke_on_are_refused(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{key}: given .*printable text"):
        replace(Data(), **{key: text})
