"""A profile: what a cluster of one's own needs beside the command, kept in a YAML file."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from cluster.errors import ClusterError, first_line, nearest
from cluster.jobs.credentials import refuse, refuse_name


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Every key of the file is one of these."""

    address: str | None = None
    """Of the job server, such as http://HEAD:8265; --address comes first."""
    python: str = "python"
    """The interpreter on the nodes, such as /opt/venv/bin/python of an image."""
    upload: bool = True
    """Send this project's code with the job; false where the image of the nodes holds it."""
    pip: list[str] = field(default_factory=list)
    """Packages that Ray installs for the job, such as m3d-condense==0.1.0, where the nodes have no image of their own."""
    env: dict[str, str] = field(default_factory=dict)
    """Variables of the job's processes; no secrets."""
    entrypoint_num_cpus: float = 0.0
    """CPUs that the driver keeps to itself; with 0 it runs on the head."""
    entrypoint_num_gpus: float = 0.0
    """GPUs that the driver keeps to itself; it needs none."""
    entrypoint_memory: int | None = None
    """Bytes of memory that the driver keeps to itself."""
    entrypoint_resources: dict[str, float] = field(default_factory=dict)
    """Other resources that the driver keeps to itself."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Shown with the job in Ray's dashboard; no secrets."""

    def __post_init__(self) -> None:
        for name in ("entrypoint_num_cpus", "entrypoint_num_gpus"):
            if not 0 <= getattr(self, name) < 1e6:
                raise ClusterError(f"{name}: given {getattr(self, name)}, allowed: a number from 0")
        if self.entrypoint_memory is not None and self.entrypoint_memory < 1:
            raise ClusterError(f"entrypoint_memory: given {self.entrypoint_memory}, allowed: bytes, from 1")


def read(path: str, environment: Mapping[str, str]) -> Profile:
    """The profile of a file.

    Raises:
        ClusterError: no such file, no YAML, an unknown key, a value of another type, or a credential.
    """
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"--profile {path}: cannot be read ({first_line(error)}); give a YAML file") from None
    except yaml.YAMLError as error:
        raise ClusterError(f"--profile {path}: is not valid YAML ({first_line(error)})") from None
    if given is None:
        return Profile()
    if not isinstance(given, dict):
        raise ClusterError(
            f"--profile {path}: given {type(given).__name__}, needed keys with values, such as 'python: python3'"
        )
    known = {one.name for one in dataclasses.fields(Profile)}
    for key, value in given.items():
        if key not in known:
            raise ClusterError(
                f"--profile {path}: unknown key {key!r}; allowed: {', '.join(sorted(known))}{nearest(str(key), known)}"
            )
        _check_type(path, key, value)
    _refuse_secrets(path, given, environment)
    try:
        return Profile(**given)
    except ClusterError as error:
        raise ClusterError(f"--profile {path}: {error}") from None


def _check_type(path: str, key: str, value: Any) -> None:
    kind = get_type_hints(Profile)[key]
    examples = {
        list[str]: ("a list of texts", lambda v: isinstance(v, list) and all(isinstance(one, str) for one in v)),
        dict[str, str]: ("names with texts; quote numbers", lambda v: _named(v, str)),
        dict[str, float]: ("names with numbers", lambda v: _named(v, int | float)),
        bool: ("true or false", lambda v: isinstance(v, bool)),
        float: ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
        str: ("a text", lambda v: isinstance(v, str)),
        str | None: ("a text", lambda v: isinstance(v, str | None)),
        int | None: ("an integer", lambda v: v is None or (isinstance(v, int) and not isinstance(v, bool))),
    }
    needed, fits = examples[kind]
    if not fits(value):
        raise ClusterError(f"--profile {path}: {key}: given {type(value).__name__}, needed {needed}")


def _named(value: Any, kind: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(one, kind) and not isinstance(one, bool) for name, one in value.items()
    )


def _refuse_secrets(path: str, given: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    for section in ("env", "metadata"):
        for name, value in (given.get(section) or {}).items():
            refuse_name(name, f"--profile {path}: {section}")
            refuse(value, f"--profile {path}: {section}: {name}", environment)
    for package in given.get("pip") or []:
        refuse(package, f"--profile {path}: pip", environment)
