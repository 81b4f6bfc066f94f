"""Ray's token of a cluster on this machine: who has it may run code as this user, so it lies in the cluster's own folder."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cluster.errors import ClusterError
from cluster.local.state import MARK, LocalCluster, load

FILE = "token"
_LOOPBACK = ("127.0.0.1", "localhost")
_OWN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Variables by which the user gives a token."""
_PATH, _MARK = b"RAY_AUTH_TOKEN_PATH=", f"{MARK}=".encode()


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether a new cluster gets a token: always, unless the user switches it off."""
    return environment.get("RAY_AUTH_MODE", "").lower() != "disabled"


def make(folder: Path, environment: Mapping[str, str]) -> None:
    """Stores a new token in a cluster's folder, or the user's own, for this user alone.

    Args:
        folder: of the cluster, which only this user can enter.
        environment: of the user, whose RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH is used if it is set.

    Raises:
        ClusterError: the file of RAY_AUTH_TOKEN_PATH cannot be read, or the token cannot be stored.
    """
    token = _given(environment) or secrets.token_hex(32)
    path = folder / FILE
    try:
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(token)
    except OSError as error:
        raise ClusterError(f"{path}: cannot be written ({error.strerror}); choose another --folder") from None


def variables(folder: Path) -> dict[str, str]:
    """The variables by which Ray finds the token of a cluster's folder; none if the cluster has no token."""
    path = folder / FILE
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)} if path.is_file() else {}


def variables_for(address: str, folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables for a job server that ``up-local`` started; none for another one, or if the user set their own.

    Args:
        address: of the job server. A token is given to a running cluster of this user on this machine only.
        folder: in which clusters are by default; those in other folders are found by their processes.
        environment: of the user.
    """
    if not wanted(environment) or any(environment.get(name) for name in _OWN):
        return {}
    port = _local_port(address)
    if port is None:
        return {}
    for each in (folder, *_folders_of_processes()):
        if (cluster := _own_cluster(each)) and _local_port(cluster.address) == port and cluster.has_head():
            return variables(each)
    return {}


def _given(environment: Mapping[str, str]) -> str:
    if environment.get("RAY_AUTH_TOKEN"):
        return environment["RAY_AUTH_TOKEN"].strip()
    path = environment.get("RAY_AUTH_TOKEN_PATH")
    try:
        return Path(path).expanduser().read_text().strip() if path else ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise ClusterError(
            f"RAY_AUTH_TOKEN_PATH: {path}: cannot be read ({reason}); unset it, or name a file"
        ) from None


def _local_port(address: str) -> int | None:
    """The port of an address on this machine's loopback interface, else None."""
    try:
        parts = urlsplit(address)
        return parts.port if parts.scheme == "http" and parts.hostname in _LOOPBACK and not parts.path else None
    except ValueError:
        return None


def _own_cluster(folder: Path) -> LocalCluster | None:
    """The cluster of a folder that belongs to this user, if there is one."""
    try:
        return load(folder) if (folder / FILE).lstat().st_uid == folder.lstat().st_uid == os.getuid() else None
    except (OSError, ClusterError):
        return None


def _folders_of_processes() -> list[Path]:
    """Folders of the clusters whose nodes run as this user: the nodes have the path of their token in their environment."""
    folders: set[Path] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            mine = entry.stat().st_uid == os.getuid()
            lines = (entry / "environ").read_bytes().split(b"\0") if mine else []
        except OSError:  # it has ended
            continue
        path = next((line[len(_PATH) :] for line in lines if line.startswith(_PATH)), b"")
        if path and any(line.startswith(_MARK) for line in lines):
            folders.add(Path(os.fsdecode(path)).parent)
    return sorted(folders)
