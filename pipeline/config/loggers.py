"""Names of the experiment trackers that ``report.loggers`` and ``tune.loggers`` take."""

from collections.abc import Sequence

from m3d.config import check

LOGGERS = ("mlflow", "wandb")


def check_loggers(key: str, names: Sequence[str]) -> None:
    """Raises ConfigError for a name that is no tracker's."""
    for name in names:
        check(key, list(names), name in LOGGERS, f"a selection of {', '.join(LOGGERS)}")
