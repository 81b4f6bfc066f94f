"""What the images of a format are normalised with: the moments in the code of its readers, or those of the set."""

from pipeline.config.run_config import Data
from pipeline.exports.export_format import ExportFormat
from pipeline.exports.incoming import Moments

CLOSE = 0.05
"""Largest difference of the means by which a set may still be of the data set whose published moments are used."""


def moments_for(form: ExportFormat, data: Data, own: Moments) -> Moments | None:
    """Returns mean and standard deviation by channel; None for a format whose images are not normalised.

    Args:
        form: the format.
        data: settings of the data. Their name is no proof: somebody may have condensed photos with a preset of CIFAR-10.
        own: moments of the real images that the set was made from.
    """
    if form.moments is None:
        return None
    published = form.moments(data)
    if published is None or len(published[0]) != len(own[0]):
        return own
    close = all(abs(left - right) <= CLOSE for left, right in zip(published[0], own[0], strict=True))
    return published if close else own
