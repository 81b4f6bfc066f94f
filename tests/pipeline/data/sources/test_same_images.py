"""One data set as folders, Parquet and tars, local and in a bucket: the same images and labels in the same order."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.config.storage import Storage
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_manifest import finish
from pipeline.data.shard_plan import plan_shards
from pipeline.data.sources import open_source
from pipeline.storage import s3
from tests.pipeline.support.images import write_folder
from tests.pipeline.support.parquet import write_parquet as write_parquet_of_labels
from tests.pipeline.support.s3_service import Proxy
from tests.pipeline.support.source_formats import upload, write_parquet, write_partitions, write_tars
from tests.pipeline.support.sources import index_of

CLASSES = ("n01440764", "n02102040", "n03888257")
FORMS = {
    "image_folder": ("image_folder", lambda root, into: root),
    "parquet": ("parquet", lambda root, into: write_parquet(root, into)),
    "parquet, shuffled": ("parquet", lambda root, into: write_parquet(root, into, shuffled=True, files=3)),
    "parquet, no paths": ("parquet", lambda root, into: write_parquet(root, into, paths=False, files=2)),
    "parquet, partitions": ("parquet", write_partitions),
    "tars": ("webdataset", lambda root, into: write_tars(root, into)),
    "tars, shuffled, json": ("webdataset", lambda root, into: write_tars(root, into, shuffled=True, style="json")),
    "tars, folders": ("webdataset", lambda root, into: write_tars(root, into, style="folder", files=1)),
}

Columns = dict[str, tuple[bytes, int]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twelve training and four test images of three of ImageNet's classes."""
    return write_folder(tmp_path / "images", {"train": 12, "val": 4}, classes=CLASSES)


def columns(source: str, path: str, cache: str, threads: int = 1, **settings: object) -> Columns:
    """The image column, as bytes, and the rows of every class shard, made in two tasks."""
    data = Data(**{"source": source, "path": path, "image_size": 12, **settings})  # type: ignore[arg-type]
    plan = plan_shards(data, cache)
    make_shards(plan, [2, 0], threads)
    make_shards(plan, [1], threads)
    manifest = finish(plan)
    assert [(entry["wnid"], entry["name"]) for entry in manifest["classes"]] == [
        ("n01440764", "tench"),
        ("n02102040", "English springer"),
        ("n03888257", "parachute"),
    ]
    images: Columns = {}
    for name in storage.files_below(plan.folder, ".arrow"):
        table = pa.ipc.open_file(pa.BufferReader(storage.read_bytes(f"{plan.folder}/{name}"))).read_all()
        images[name] = table.column("image").combine_chunks().to_numpy_ndarray().tobytes(), table.num_rows
    return images


@pytest.mark.parametrize("form", [name for name in FORMS if name != "image_folder"])
def test_every_form_gives_the_same_columns(images: Path, tmp_path: Path, form: str) -> None:
    expected = columns("image_folder", str(images), str(tmp_path / "a"))
    source, write = FORMS[form]
    assert columns(source, str(write(images, tmp_path / "form")), str(tmp_path / "b"), threads=3) == expected


@pytest.mark.parametrize("form", FORMS)
def test_a_bucket_gives_the_same_columns(images: Path, tmp_path: Path, bucket: str, form: str) -> None:
    expected = columns("image_folder", str(images), str(tmp_path / "a"))
    source, write = FORMS[form]
    place = upload(write(images, tmp_path / "form"), f"{bucket}/data")
    assert columns(source, place, f"{bucket}/cache") == expected


@pytest.mark.parametrize("form", ["image_folder", "parquet, partitions", "parquet, texts", "tars", "tars, folders"])
def test_numbers_are_ordered_as_numbers_in_every_form(tmp_path: Path, form: str) -> None:
    names = tuple(str(number) for number in range(12))
    root = write_folder(tmp_path / "images", {"train": 2, "val": 1}, classes=names)
    if form == "parquet, texts":
        labels = [name for name in sorted(names) for _ in range(2)]
        source, place = "parquet", write_parquet_of_labels(tmp_path / "form" / "train.parquet", labels).parent
    else:
        source, write = FORMS[form]
        place = write(root, tmp_path / "form")
    assert index_of(source, place).class_names == names


@pytest.mark.parametrize("form", ["image_folder", "parquet, shuffled", "tars"])
def test_the_cut_of_test_is_the_same(tmp_path: Path, form: str) -> None:
    root = write_folder(tmp_path / "images", {"train": 12}, classes=CLASSES)
    expected = columns("image_folder", str(root), str(tmp_path / "a"))
    source, write = FORMS[form]
    assert columns(source, str(write(root, tmp_path / "form")), str(tmp_path / "b")) == expected


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "form", [pytest.param("image_folder", marks=SLOW), pytest.param("parquet", marks=SLOW), "tars"]
)
def test_faults_of_the_storage_change_nothing(
    images: Path, tmp_path: Path, bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    expected = columns("image_folder", str(images), str(tmp_path / "a"))
    source, write = FORMS[form]
    place = upload(write(images, tmp_path / "form"), f"{bucket}/data")
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    s3.use(Storage(attempts=20))
    proxy.faults.share, proxy.faults.kinds = 0.2, ("500", "503", "reset", "cut")
    assert columns(source, place, f"{bucket}/cache") == expected
    assert proxy.faults.made


def test_row_groups_without_a_wanted_class_are_not_read(
    images: Path, tmp_path: Path, bucket: str, proxy: Proxy
) -> None:
    place = upload(write_parquet(images, tmp_path / "form", group=4), f"{bucket}/data")
    s3.use(Storage(endpoint=proxy.endpoint))
    source = open_source(Data(source="parquet", path=place))
    source.index()
    proxy.faults.seen = 0
    images_of_one = len(list(source.read("train", [0])))
    requests_of_one, proxy.faults.seen = proxy.faults.seen, 0
    assert (images_of_one, len(list(source.read("train", [0, 1, 2])))) == (12, 36)
    assert requests_of_one < proxy.faults.seen
