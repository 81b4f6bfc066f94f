"""scikit-learn's 1,797 handwritten digits of 8 x 8 px: real images that come with a dependency."""

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from pipeline.config.run_config import Data
from pipeline.data.sources.findings import Findings
from pipeline.data.sources.protocol import Item, SourceIndex, SourceListing, fingerprint, places


class Digits:
    """UCI's optical recognition of handwritten digits, as scikit-learn distributes them; they have no test split."""

    def __init__(self, data: Data, listing: SourceListing | None = None) -> None:
        pass

    def index(self) -> SourceIndex:
        labels = Counter(item.label for item in self.read("train", range(10)))
        return SourceIndex(
            class_names=tuple(str(digit) for digit in range(10)),
            counts={"train": tuple(labels[digit] for digit in range(10))},
            fingerprint=fingerprint("scikit-learn digits"),
            encoded=False,
            findings=Findings(unit="image", found=labels.total(), taken=labels.total(), splits={"train": "all digits"}),
        )

    def read(self, split: str, labels: Collection[int], most: int | None = None) -> Iterator[Item]:
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        for i in places(digits.target, labels, most):
            # A pixel counts the ink on a patch of 4 x 4: 0 to 16.
            content = np.round(digits.images[i] * 255 / 16).astype(np.uint8)
            yield Item(label=int(digits.target[i]), path=f"digits[{i}]", content=content)
