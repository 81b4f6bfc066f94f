"""Settings of the report (section ``report``): what a run keeps for its page and tells trackers, and what the page computes."""

from dataclasses import dataclass

from m3d.config import check
from pipeline.config.loggers import check_loggers

MOST_SNAPSHOTS = 100
"""Largest number of snapshots of a run."""


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """What a run shows, and where. Nothing here changes the condensed set."""

    snapshots: int = 8
    """Number of times that the images are stored while they are condensed, the start included; the page shows them. 0 stores none."""
    features: bool = True
    """Whether the page has a picture of real and condensed images in the features of a network, which takes seconds to compute."""
    loggers: tuple[str, ...] = ()
    """Trackers that losses, progress and accuracies are sent to as well: mlflow or wandb, which must be installed."""

    def __post_init__(self) -> None:
        allowed = f"an integer from 0 to {MOST_SNAPSHOTS}"
        check("report.snapshots", self.snapshots, 0 <= self.snapshots <= MOST_SNAPSHOTS, allowed)
        check_loggers("report.loggers", self.loggers)
