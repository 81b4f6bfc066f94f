"""Loads configurations and activates their storage settings. No other module activates them.

A configuration that comes with a folder or a file may be somebody else's. What it says about *where* - an endpoint, a
bucket, a folder outside, a Ray cluster - is not believed: such a place is used only if the command line names it again.
"""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.config.parsing import from_dict, to_dict, with_settings
from pipeline.config.run_config import RunConfig
from pipeline.config.storage import Storage
from pipeline.errors import UserError, first_line, shown
from pipeline.storage import s3
from pipeline.storage.local.regular_files import LIST_BYTES, SETTINGS_BYTES
from pipeline.storage.objects import read_bytes, read_json
from pipeline.storage.paths import absolute

PATHS = ("path", "cache", "synsets", "disk_cache")
"""Settings of ``data`` that are paths."""
YAML = (".yaml", ".yml")
"""Endings of files that are read as YAML."""
RECIPIENTS = ("storage.endpoint", "storage.profile", "resources.address")
"""Settings that say to whom credentials or code are sent."""
PLACES = (*(f"data.{name}" for name in PATHS), *RECIPIENTS, "storage.region", "storage.anonymous")
"""Settings that say where something is."""


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """The configuration of a folder, as far as it is believed."""

    config: RunConfig
    left_out: tuple[str, ...]
    """``KEY=VALUE`` of every place that the folder names and the command line does not, quoted for a shell."""


def repeat(left_out: Iterable[str]) -> str:
    """Says how the command line names the places again."""
    path = "data.path="
    options = " ".join(
        f"--data {setting.removeprefix(path)}" if setting.startswith(path) else f"--set {setting}"
        for setting in left_out
    )
    return f"what a file says about places is used only if the command line says it too; to trust it, add {options}"


def load_config(path: str) -> RunConfig:
    """The configuration of a JSON or YAML file, such as a run's config.json. Missing keys have their defaults.

    Raises:
        UserError: no such file, too large a one, neither JSON nor YAML, an unknown key, or a value that is not allowed.
    """
    try:
        is_yaml = path.lower().endswith(YAML)
        return from_dict(_read_yaml(path) if is_yaml else read_json(absolute(path), LIST_BYTES), origin=path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: is not a file; give a JSON or YAML file, such as a run's config.json") from None


def _read_yaml(path: str) -> dict[str, Any]:
    """Raises UserError if the file is no YAML, or no mapping of names."""
    from pipeline.storage.safe_yaml import parse_yaml  # not at the top: most commands read no YAML

    try:
        values = parse_yaml(read_bytes(absolute(path), SETTINGS_BYTES))
    except ValueError as error:
        raise UserError(f"{path}: is not valid YAML ({shown(first_line(error))})") from None
    if not isinstance(values, dict) or not _has_names(values):
        raise UserError(
            f"{path}: given {type(values).__name__}, needed settings such as 'data: {{source: image_folder}}'; "
            "quote a key such as 'on'"
        )
    return values


def _has_names(values: Mapping[Any, Any]) -> bool:
    """Whether all keys are text, in sections too; YAML reads ``on`` and ``1`` as other things."""
    return all(
        isinstance(key, str) and (not isinstance(value, Mapping) or _has_names(value)) for key, value in values.items()
    )


def activate(config: RunConfig, changes: Iterable[str] = ()) -> RunConfig:
    """Returns the configuration with the changes applied, and makes its storage settings those of this process.

    A configuration passes through here where it is made from a command line; that of a folder passes through ``adopt``.
    Processes that are started later inherit the settings, which remain active until the next call.

    Args:
        config: of the run.
        changes: ``KEY=VALUE`` as ``--set`` takes them.

    Raises:
        UserError: a change names an unknown key or has a value that is not allowed.
    """
    changes = list(changes)
    config = with_settings(config, changes) if changes else config
    s3.use(config.storage)
    return config


def adopt(stored: RunConfig, changes: Sequence[str] = ()) -> Adopted:
    """Returns and activates the configuration of a folder without the places and trackers that it names, and with the changes.

    Storage settings, paths of data and the address of a Ray cluster are those of the command line and the environment.

    Args:
        stored: the configuration that the folder contains.
        changes: ``KEY=VALUE`` of the command line.

    Raises:
        UserError: a change names an unknown key or has a value that is not allowed.
    """
    address = stored.resources.address if stored.resources.address == "local" else None
    without = replace(
        stored,
        storage=Storage(),
        data=replace(stored.data, **dict.fromkeys(PATHS)),
        resources=replace(stored.resources, address=address),
        report=replace(stored.report, loggers=()),
    )
    config = with_absolute_paths(activate(without, changes))
    used = {**_places(config), **_places_of_the_process()}
    return Adopted(config=config, left_out=_quoted(_places(stored), [key for key in PLACES if not used[key]]))


def require_repeated(origin: str, stored: RunConfig, changes: Sequence[str]) -> None:
    """Raises UserError if a file names an endpoint, a profile or a Ray cluster that the command line does not.

    Args:
        origin: the file, for messages.
        stored: its configuration.
        changes: ``KEY=VALUE`` of the command line. The storage settings among them are active.
    """
    named, process = {change.partition("=")[0] for change in changes}, _places_of_the_process()
    places = _places(stored)
    left_out = _quoted(places, [key for key in RECIPIENTS if key not in named and places[key] != process.get(key)])
    if left_out and left_out != ("resources.address=local",):
        keys = " and ".join(setting.partition("=")[0] for setting in left_out)
        raise UserError(f"{origin}: names {keys}, to which credentials or code would be sent; {repeat(left_out)}")


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """Returns the configuration with paths that mean the same in every folder and in every process."""
    paths = {name: absolute(path) for name in PATHS if (path := getattr(config.data, name)) is not None}
    return replace(config, data=replace(config.data, **paths))


def _quoted(places: Mapping[str, Any], keys: Iterable[str]) -> tuple[str, ...]:
    """``KEY=VALUE`` of those places that are set, as a shell reads it."""
    texts = ((key, "true" if places[key] is True else str(places[key])) for key in keys if places[key])
    return tuple(f"{key}={shlex.quote(text)}" for key, text in texts)


def _places(config: RunConfig) -> dict[str, Any]:
    values = to_dict(config)
    return {key: values[section][name] for key in PLACES for section, _, name in [key.partition(".")]}


def _places_of_the_process() -> dict[str, Any]:
    """The active storage settings by key, and the Ray cluster that the environment names, if any."""
    address = os.environ.get("RAY_ADDRESS")
    storage = {f"storage.{name}": value for name, value in asdict(s3.active_settings()).items()}
    return {**storage, **({"resources.address": address} if address else {})}
