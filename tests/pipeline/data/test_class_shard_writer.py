"""Class shards: round trips of any images, written batch by batch."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.class_shard_writer import ClassShard
from pipeline.formats.condensed_reader import parse_shard

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


@given(
    count=st.integers(0, 4),
    channels=st.sampled_from([1, 3]),
    side=st.integers(1, 5),
    most=st.integers(1, 200),
    paths=st.data(),
)
def test_round_trip_of_a_class_shard(
    tmp_path_factory: pytest.TempPathFactory, count: int, channels: int, side: int, most: int, paths: st.DataObject
) -> None:
    images = np.random.default_rng(count).integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    texts = paths.draw(st.lists(TEXTS, min_size=count, max_size=count))
    path = tmp_path_factory.mktemp("shard") / "class.arrow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.data.class_shard_writer.BATCH_BYTES", most)
        shard = ClassShard(str(path), (channels, side, side))
        for image, text in zip(images, texts, strict=True):
            shard.add(image, text)
        assert not path.exists()
        assert shard.commit() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [entry.name for entry in path.parent.iterdir()] == ["class.arrow"]
    table = parse_shard(path.read_bytes(), "shard")
    assert table.column("path").to_pylist() == texts
    if count:
        np.testing.assert_array_equal(table.column("image").combine_chunks().to_numpy_ndarray(), images)
