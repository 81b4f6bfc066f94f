"""A profile: what a cluster needs besides the command, in a YAML file, which may contain the command as well."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from cluster.errors import ClusterError, nearest
from cluster.jobs import settings_file
from cluster.jobs.credentials import refuse, refuse_name
from cluster.text import shown


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The keys of the file."""

    address: str | None = None
    """Job server, such as http://HEAD:8265. The option --address takes precedence."""
    python: str = "python"
    """Interpreter on the nodes, such as /opt/venv/bin/python of an image."""
    upload: bool = True
    """Whether this project's code is sent with the job. Set it to false if the image of the nodes contains the code."""
    pip: list[str] = field(default_factory=list)
    """Packages that Ray installs for the job, such as m3d-condense[all]==0.1.0, if the nodes have no image of their own."""
    env: dict[str, str] = field(default_factory=dict)
    """Variables of the job's processes; no secrets."""
    entrypoint_num_cpus: float = 0.0
    """CPUs that the driver reserves. With 0 it runs on the head."""
    entrypoint_num_gpus: float = 0.0
    """GPUs that the driver reserves; it needs none."""
    entrypoint_memory: int | None = None
    """Bytes of memory that the driver reserves."""
    entrypoint_resources: dict[str, float] = field(default_factory=dict)
    """Other resources that the driver reserves."""
    command: str = ""
    """Command of the pipeline as one would type it after ``--``, so that the file describes a complete job."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Texts that Ray's dashboard shows with the job; no secrets."""

    def __post_init__(self) -> None:
        for name in ("entrypoint_num_cpus", "entrypoint_num_gpus"):
            if not 0 <= getattr(self, name) < 1e6:
                raise ClusterError(f"{name}: given {shown(getattr(self, name))}, allowed: a number from 0")
        if self.entrypoint_memory is not None and not 1 <= self.entrypoint_memory < 2**63:
            given = shown(self.entrypoint_memory)
            raise ClusterError(f"entrypoint_memory: given {given}, allowed: bytes, from 1 and below 2**63")
        for name, value in self.entrypoint_resources.items():
            if not 0 <= value < 1e12:
                raise ClusterError(
                    f"entrypoint_resources: {shown(name)}: given {shown(value)}, allowed: a number from 0"
                )


def read(path: str, environment: Mapping[str, str]) -> Profile:
    """The profile in a file.

    Raises:
        ClusterError: no such file, no YAML, an unknown key, a value of another type, or a credential.
    """
    document = settings_file.read(path, f"--profile {path}")
    if document is None:
        return Profile()
    if not isinstance(document, dict):
        raise ClusterError(
            f"--profile {path}: given {type(document).__name__}, needed keys with values, such as 'python: python3'"
        )
    known = {each.name for each in dataclasses.fields(Profile)}
    for key, value in document.items():
        if key not in known:
            raise ClusterError(
                f"--profile {path}: unknown key {shown(repr(key))}; allowed: {', '.join(sorted(known))}{nearest(str(key)[:100], known)}"
            )
        _check_type(path, key, value)
    _refuse_secrets(path, document, environment)
    try:
        return Profile(**document)
    except ClusterError as error:
        raise ClusterError(f"--profile {path}: {error}") from None


def _check_type(path: str, key: str, value: Any) -> None:
    needed, fits = _TYPES[get_type_hints(Profile)[key]]
    if not fits(value):
        raise ClusterError(f"--profile {path}: {key}: given {type(value).__name__}, needed {needed}")


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; true and false are no numbers."""
    if isinstance(value, str):
        return kind is str and "\0" not in value and not any("\ud800" <= one <= "\udfff" for one in value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _maps_names_to(value: Any, kind: Any) -> bool:
    return isinstance(value, dict) and all(_is(name, str) and _is(each, kind) for name, each in value.items())


_TYPES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    list[str]: ("a list of texts", lambda value: isinstance(value, list) and all(_is(each, str) for each in value)),
    dict[str, str]: ("names with texts; quote numbers", lambda value: _maps_names_to(value, str)),
    dict[str, float]: ("names with numbers", lambda value: _maps_names_to(value, int | float)),
    bool: ("true or false", lambda value: _is(value, bool)),
    float: ("a number", lambda value: _is(value, int | float)),
    str: ("a text", lambda value: _is(value, str)),
    str | None: ("a text", lambda value: value is None or _is(value, str)),
    int | None: ("an integer", lambda value: value is None or _is(value, int)),
}
"""What each type of the profile's fields needs, and whether a value fits."""


def _refuse_secrets(path: str, document: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    for section in ("env", "metadata"):
        for name, value in (document.get(section) or {}).items():
            refuse_name(name, f"--profile {path}: {section}")
            refuse(value, f"--profile {path}: {section}: {name}", environment)
    for package in document.get("pip") or []:
        refuse(package, f"--profile {path}: pip", environment)
