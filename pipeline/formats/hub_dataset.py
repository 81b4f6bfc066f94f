"""A condensed set as a data set of Hugging Face's ``datasets``, which is installed on its own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from pipeline.errors import UserError
from pipeline.formats.png import eight_bit, png

if TYPE_CHECKING:
    import datasets


def hub_dataset(images: Tensor, labels: Tensor, class_names: Sequence[str]) -> "datasets.Dataset":
    """Returns images in [0, 1] as PNG with their labels, in memory.

    Args:
        images: float32 [n, C, H, W].
        labels: int64 [n].
        class_names: name of every class by label.

    Raises:
        UserError: the package ``datasets`` is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(
            "to_hf: needs the package datasets, which is not installed; pip install 'm3d-condense[hub]'"
        ) from None
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(class_names))})
    encoded = [{"bytes": png(image), "path": None} for image in eight_bit(images)]
    return datasets.Dataset.from_dict({"image": encoded, "label": labels.tolist()}, features=features)
