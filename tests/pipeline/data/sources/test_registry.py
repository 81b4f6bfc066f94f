"""What every kind of source refuses alike."""

from pathlib import Path

import pytest

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.sources import open_source
from pipeline.errors import UserError
from tests.pipeline.support.sources import refusal


@pytest.mark.parametrize("source", ["image_folder", "parquet"])
def test_path_that_does_not_exist(tmp_path: Path, source: str) -> None:
    assert f"{tmp_path / 'absent'}: does not exist" in refusal(source, tmp_path / "absent")


@pytest.mark.parametrize("source", ["image_folder", "parquet", "torchvision"])
def test_path_that_is_not_given(source: str) -> None:
    assert "--data" in refusal(source, None, name="MNIST")


@pytest.mark.parametrize("source", ["image_folder", "parquet", "webdataset"])
def test_a_prefix_that_does_not_exist(bucket: str, source: str) -> None:
    storage.write_bytes(f"{bucket}/other/a", b"x")
    with pytest.raises(UserError, match=f"{bucket}/absent: does not exist"):
        open_source(Data(source=source, path=f"{bucket}/absent"))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="there is no bucket"):
        open_source(Data(source=source, path="s3://absent-bucket/a"))  # type: ignore[arg-type]
