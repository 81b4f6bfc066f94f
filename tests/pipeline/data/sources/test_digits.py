"""scikit-learn's digits: classes, counts and pixels."""

import numpy as np

from tests.pipeline.support.sources import index_of, read_all


def test_digits() -> None:
    index = index_of("digits", None)
    assert index.class_names == tuple("0123456789")
    assert set(index.counts) == {"train"}
    assert sum(index.counts["train"]) == 1797
    assert index.counts["train"][0] == 178
    items = read_all("digits", None, labels=[3])
    assert len(items) == index.counts["train"][3]
    assert {item.label for item in items} == {3}
    assert items[0].content.dtype == np.uint8
    assert items[0].content.shape == (8, 8)
    assert max(item.content.max() for item in items) == 255
    assert min(item.content.min() for item in items) == 0
