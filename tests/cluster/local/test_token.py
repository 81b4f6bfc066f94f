"""The token of a local cluster: where it lies, and who finds it."""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.local import lifecycle, node, state, token
from cluster.local.node import NodeOptions
from cluster.local.state import LocalCluster, LocalNode

ADDRESS = "http://127.0.0.1:4321"


def running(folder: Path) -> LocalCluster:
    """A cluster whose head is this process."""
    head = LocalNode(
        name="head",
        pid=os.getpid(),
        started=state.started_at(os.getpid()) or "",
        metrics_port=1,
        cpus=1,
        gpus=0,
        first_gpu=0,
    )
    cluster = LocalCluster(mark="m", address=ADDRESS, gcs="127.0.0.1:1", nodes=(head,))
    state.save(folder, cluster)
    return cluster


def test_a_token_is_made_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        token.make(tmp_path, {})
    finally:
        os.umask(before)
    path = tmp_path / token.FILE
    first = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first) == 64
    token.make(tmp_path, {})
    assert path.read_text() != first


def test_the_user_may_give_a_token(tmp_path: Path) -> None:
    token.make(tmp_path, {"RAY_AUTH_TOKEN": "given\n"})
    assert (tmp_path / token.FILE).read_text() == "given"
    (tmp_path / "mine").write_text("stored\n")
    token.make(tmp_path, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "mine")})
    assert (tmp_path / token.FILE).read_text() == "stored"
    with pytest.raises(ClusterError, match="RAY_AUTH_TOKEN_PATH: /none: cannot be read"):
        token.make(tmp_path, {"RAY_AUTH_TOKEN_PATH": "/none"})


def test_a_planted_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / token.FILE).symlink_to(tmp_path / "victim")
    token.make(tmp_path, {})
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / token.FILE).is_symlink()


@pytest.mark.parametrize("address", [ADDRESS, "http://localhost:4321"])
def test_the_token_of_a_running_cluster_is_found_by_its_address(tmp_path: Path, address: str) -> None:
    running(tmp_path)
    token.make(tmp_path, {})
    expected = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / token.FILE)}
    assert token.variables_for(address, tmp_path, {}) == expected


@pytest.mark.parametrize(
    ("address", "environment"),
    [
        ("http://127.0.0.1:4322", {}),
        ("http://10.0.0.1:4321", {}),
        ("http://127.0.0.1.evil.example:4321", {}),
        ("https://127.0.0.1:4321", {}),
        ("http://127.0.0.1:4321/proxy", {}),
        (ADDRESS, {"RAY_AUTH_MODE": "disabled"}),
        (ADDRESS, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "mine"}),
        (ADDRESS, {"RAY_AUTH_TOKEN_PATH": "/mine"}),
    ],
)
def test_the_token_is_given_to_no_other_server_and_not_instead_of_the_users(
    tmp_path: Path, address: str, environment: dict[str, str]
) -> None:
    running(tmp_path)
    token.make(tmp_path, {})
    assert token.variables_for(address, tmp_path, environment) == {}


def test_the_token_of_a_cluster_whose_head_is_gone_is_not_given_away(tmp_path: Path) -> None:
    # Somebody else may listen on its port by now.
    cluster = running(tmp_path)
    token.make(tmp_path, {})
    ended = replace(cluster, nodes=(replace(cluster.nodes[0], started="0"),))
    state.save(tmp_path, ended)
    assert token.variables_for(ADDRESS, tmp_path, {}) == {}


@pytest.fixture
def process() -> Iterator[Callable[[dict[str, str]], None]]:
    """Starts processes with an environment of their own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(environment: dict[str, str]) -> None:
        started.append(subprocess.Popen(["sleep", "60"], env=environment))

    yield start
    for each in started:
        each.kill()
        each.wait()


def test_a_cluster_in_another_folder_is_found_by_its_processes(
    tmp_path: Path, process: Callable[[dict[str, str]], None]
) -> None:
    folder, elsewhere = tmp_path / "cluster", tmp_path / "default"
    folder.mkdir(mode=0o700)
    running(folder)
    token.make(folder, {})
    assert token.variables_for(ADDRESS, elsewhere, {}) == {}
    process({state.MARK: "m:head", **token.variables(folder)})
    assert token.variables_for(ADDRESS, elsewhere, {})["RAY_AUTH_TOKEN_PATH"] == str(folder / token.FILE)


def test_nodes_get_the_token_as_a_file_and_keep_to_the_loopback_interface(tmp_path: Path) -> None:
    given = {"RAY_AUTH_TOKEN": "secret", "RAY_AUTH_MODE": "token", "RAY_ADDRESS": "a:1", "PATH": "/bin"}
    options = NodeOptions(cpus=1, gpus=0, folder=tmp_path, environment=given)
    cluster = LocalCluster(mark="m", address=ADDRESS, gcs="127.0.0.1:1")
    without = node._environment("head", cluster, range(0), options)
    assert (without["RAY_AUTH_MODE"], "RAY_AUTH_TOKEN_PATH" in without) == ("disabled", False)
    token.make(tmp_path, given)
    environment = node._environment("head", cluster, range(0), options)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / token.FILE)
    assert environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert not {"RAY_AUTH_TOKEN", "RAY_ADDRESS"} & environment.keys()


def test_a_folder_is_closed_to_others_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o755)
    monkeypatch.setattr(lifecycle, "LONGEST", 1000)
    monkeypatch.setattr(lifecycle, "start", lambda name, *others: not_started(name))
    assert lifecycle.down(folder) is None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    with pytest.raises(ClusterError, match="head: not started"):
        lifecycle.up(1, NodeOptions(cpus=1, gpus=0, folder=folder, environment={}))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {".lock"}  # without the token
    for mode in (0o777, 0o1777, 0o770):
        folder.chmod(mode)
        with pytest.raises(ClusterError, match="other users can write to it; choose another"):
            lifecycle.down(folder)


def not_started(name: str) -> LocalNode:
    raise ClusterError(f"{name}: not started")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_the_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(ClusterError, match="belongs to another user; choose another"):
        lifecycle.down(folder)
    running(folder)
    token.make(folder, {})
    assert token.variables_for(ADDRESS, folder, {}) == {}
