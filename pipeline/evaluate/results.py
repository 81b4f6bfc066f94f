"""evaluation.json: its rows, which of them a configuration asks for, and how a person reads them."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from m3d import training_of
from m3d.training.protocols import imagenet_epochs
from m3d.training.settings import Train
from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.evaluate.dd_ranking import known, scores
from pipeline.evaluate.intervals import estimate

FILE = "evaluation.json"
KEY = ("set", "architecture", "protocol", "on", "augmentation", "labels")
"""A new row replaces the old one that is the same in these."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """What became of one network."""

    accuracy: float
    """In percent, after the last epoch."""
    confusion: list[list[int]]
    """Test images by class (outer) and by what the network takes them for (inner)."""
    best: float | None
    """The best test accuracy at the epochs that were looked at, where that was asked for."""
    precision: str
    compiled: bool
    device: str = ""
    """That the network was trained on, in words."""
    commit: str = ""
    """Of the program that had it trained, where it is known."""


def set_names(config: RunConfig) -> list[str]:
    """The sets that an evaluation compares, by name: those asked for, without mosaics where there are none."""
    has_mosaic = config.condense.factor > 1 or config.condense.start != "noise"
    return [name for name in dict.fromkeys(config.evaluate.sets) if name != "mosaic" or has_mosaic]


def training_for(config: RunConfig, classes: int) -> Train:
    """The training of the configuration's protocol; ImageNet's has its epochs from the decoded images of a class."""
    training = training_of(config.evaluate)
    if config.evaluate.epochs is None and config.evaluate.protocol.startswith("imagenet"):
        views = config.condense.images_per_class * config.condense.factor**2
        return dataclasses.replace(training, epochs=imagenet_epochs(views, classes))
    return training


def training_settings(training: Train) -> dict[str, Any]:
    """Every setting of a training, as plain values."""
    return json.loads(json.dumps(dataclasses.asdict(training)))


def row_of(
    config: RunConfig,
    name: str,
    architecture: str,
    scored: dict[int, Scored],
    *,
    classes: int,
    images: int | None = None,
    **about: Any,
) -> dict[str, Any]:
    """A row of evaluation.json.

    Args:
        config: of the run.
        name, architecture: what was trained.
        scored: by seed, at least one.
        classes: of the data.
        images: that a network was trained on.
        about: further entries, such as ``condensed_set``.
    """
    seeds, training = sorted(scored), training_for(config, classes)
    confusion = [[sum(cells) for cells in zip(*lines, strict=True)] for lines in _lines(scored.values())]
    row = {
        "set": name,
        "architecture": architecture,
        "protocol": config.evaluate.protocol,
        "on": config.evaluate.on,
        "augmentation": config.evaluate.augment,
        "labels": config.evaluate.labels,
        **summary([scored[seed].accuracy for seed in seeds]),
        "seeds": seeds,
        "epochs": training.epochs,
        "epoch": "last",
        "flip": config.evaluate.flip,
        "training": training_settings(training),
        "images_per_class": config.condense.images_per_class,
        "images": images,
        "precision": ", ".join(sorted({one.precision for one in scored.values()})),
        "compiled": all(one.compiled for one in scored.values()),
        "device": ", ".join(sorted({one.device for one in scored.values()})),
        "commit": ", ".join(sorted({one.commit for one in scored.values()} - {""})) or None,
        **about,
        "per_class": per_class(confusion),
        "confusion": confusion,
    }
    looked = [best for seed in seeds if (best := scored[seed].best) is not None]
    if looked:
        row["best_epoch_compatibility"] = {"every": config.evaluate.best_epoch, **summary(looked)}
    return row


def summary(accuracies: Sequence[float]) -> dict[str, Any]:
    """Mean, deviation (0 of a single one), interval and the accuracies themselves."""
    held = estimate(accuracies)
    interval = None if held.interval is None else list(held.interval)
    return {"mean": held.mean, "std": held.std or 0.0, "interval95": interval, "accuracies": list(accuracies)}


def per_class(confusion: Sequence[Sequence[int]]) -> list[float]:
    """Accuracy of every class in percent, in label order: the diagonal over the sum of its line."""
    return [100 * line[label] / max(1, sum(line)) for label, line in enumerate(confusion)]


def write_rows(out: str, rows: list[dict[str, Any]]) -> None:
    """Adds rows to evaluation.json; one that is the same in ``KEY`` replaces the old one. The scores follow."""
    new = {_key(row) for row in rows}
    whole = [row for row in read_rows(out) if _key(row) not in new] + rows
    storage.write_bytes(storage.join(out, FILE), _document({"results": whole, "scores": scores(whole)}))


def read_rows(out: str) -> list[dict[str, Any]]:
    """The rows of evaluation.json; none where there is none."""
    try:
        held = storage.read_json(storage.join(out, FILE))
    except FileNotFoundError:
        return []
    rows = held.get("results") if isinstance(held, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{storage.join(out, FILE)}: is damaged (no list 'results'); delete it and evaluate again")
    return rows


def held_row(
    config: RunConfig,
    out: str,
    name: str,
    architecture: str,
    origins: Mapping[str, str],
    classes: int | None = None,
) -> dict[str, Any] | None:
    """The row of evaluation.json that answers for a set and an architecture, or None.

    It must be of the same split, training and protocol, of at least the seeds asked for, and of the same origins. The
    row of the whole set has a training of its own.

    Args:
        config: says what is asked for.
        out: folder of evaluation.json.
        name, architecture: of the row.
        origins: checksums of what the row follows from: ``condensed_set``, and where they are known ``class_shards`` and
            ``teacher``, which a row of an older version does not name.
        classes: of the data, for epochs that follow from them.
    """
    asked = {"set": name, "architecture": architecture, "on": config.evaluate.on}
    if name != "whole":
        asked |= {"protocol": config.evaluate.protocol, "augmentation": config.evaluate.augment}
        asked |= {"labels": config.evaluate.labels, "condensed_set": origins["condensed_set"]}
    seeds = set() if name == "whole" else set(range(config.evaluate.seeds))
    for row in map(known, read_rows(out)):
        held = row.get("seeds")
        if (
            all(row.get(key) == value for key, value in asked.items())
            and isinstance(held, list)
            and seeds <= set(held)
            and (name == "whole" or _same_training(row, config, classes))
            and (name == "whole" or all(row.get(key, value) == value for key, value in origins.items()))
        ):
            return row
    return None


def _same_training(row: dict[str, Any], config: RunConfig, classes: int | None) -> bool:
    training = training_for(config, classes or len(row.get("per_class", [])))
    every = config.evaluate.best_epoch
    if every and row.get("best_epoch_compatibility", {}).get("every") != every:
        return False
    if "training" not in row:  # older rows say epochs and flip, and had no other choices
        return row.get("epochs") == training.epochs and row.get("flip") == config.evaluate.flip
    return row["training"] == training_settings(training)


def is_evaluated(config: RunConfig, out: str, origins: Mapping[str, str]) -> bool:
    """Whether evaluation.json holds every row that the configuration asks for. Arguments as for ``held_row``."""
    names, architectures = set_names(config), config.evaluate.architectures
    return all(held_row(config, out, name, architecture, origins) for architecture in architectures for name in names)


def _lines(scored: Iterable[Scored]) -> Iterable[tuple[list[int], ...]]:
    """The same line of every network's matrix, line by line."""
    return zip(*(one.confusion for one in scored), strict=True)


def _document(value: Any) -> bytes:
    """Indented JSON with lists of numbers on one line: a matrix has a line per class."""
    text = json.dumps(value, indent=2)
    flat = re.sub(r"\[\s+([-\d.eE+,\s]+?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)
    return (flat + "\n").encode()


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    held = known(row)
    return tuple(held.get(key) for key in KEY)
