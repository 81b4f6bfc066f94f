"""Another user of the machine, without the token, is refused by everything that ``up-local`` starts."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.local import state, token
from tests.cluster.conftest import cluster, environment, local_cluster, one_line

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STRANGER = 65534
PROBE = """
import json, os, sys, urllib.error, urllib.request
import grpc
from ray.core.generated import gcs_service_pb2 as gcs_messages, gcs_service_pb2_grpc as gcs_calls
from ray.core.generated import node_manager_pb2 as raylet_messages, node_manager_pb2_grpc as raylet_calls
from ray.core.generated import ray_client_pb2 as client_messages, ray_client_pb2_grpc as client_calls

asked = json.loads(sys.argv[1])
if asked["user"] is not None:  # only now: another user cannot read the installed packages
    os.setgroups([])
    os.setgid(asked["user"])
    os.setuid(asked["user"])
metadata = [("authorization", "Bearer " + asked["token"])] if asked["token"] else []


def outcome(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError as error:
        return type(error).__name__
    return "OK"


def request(path, body=None):
    headers = {"Content-Type": "application/json", **dict(metadata)}
    return lambda: urllib.request.urlopen(urllib.request.Request(asked["jobs"] + path, body, headers), timeout=30)


nodes = gcs_calls.NodeInfoGcsServiceStub(grpc.insecure_channel(asked["gcs"]))
store = gcs_calls.InternalKVGcsServiceStub(grpc.insecure_channel(asked["gcs"]))
driver = client_calls.RayletDriverStub(grpc.insecure_channel(asked["client"]))
everything = gcs_messages.GetAllNodeInfoRequest()
found = {
    "GCS": outcome(lambda: nodes.GetAllNodeInfo(everything, timeout=30, metadata=metadata)),
    "store": outcome(
        lambda: store.InternalKVPut(gcs_messages.InternalKVPutRequest(key=b"x", value=b"y"), timeout=30, metadata=metadata)
    ),
    "client": outcome(
        lambda: driver.ClusterInfo(
            client_messages.ClusterInfoRequest(type=client_messages.ClusterInfoType.PING),
            timeout=30,
            metadata=[*metadata, ("client_id", "probe")],
        )
    ),
    "jobs": outcome(request("/api/jobs/")),
    "job": outcome(request("/api/jobs/", json.dumps({"entrypoint": "true"}).encode())),
    "token": outcome(lambda: open(asked["folder"] + "/token").read()),
    "logs": outcome(lambda: open(asked["folder"] + "/head.log").read()),
    "folder": outcome(lambda: os.listdir(asked["folder"])),
}
for number, address in enumerate(asked["raylets"]):
    raylet = raylet_calls.NodeManagerServiceStub(grpc.insecure_channel(address))
    found[f"raylet {number}"] = outcome(
        lambda: raylet.GetNodeStats(raylet_messages.GetNodeStatsRequest(), timeout=30, metadata=metadata)
    )
found["nodes"] = (
    [
        f"{each.node_manager_address}:{each.node_manager_port}"
        for each in nodes.GetAllNodeInfo(everything, timeout=30, metadata=metadata).node_info_list
    ]
    if asked["token"]
    else []
)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def two() -> Iterator[tuple[str, Path]]:
    with local_cluster("--nodes", "2") as started:
        yield started


def probed(local: state.LocalCluster, folder: Path, *, user: int | None, raylets: list[str]) -> dict[str, str]:
    """What a user gets from everything; with the token if it is this user."""
    secret = (folder / token.FILE).read_text() if user is None else ""
    asked = {
        "jobs": local.address,
        "gcs": local.gcs,
        "client": f"127.0.0.1:{client_port(local)}",
        "raylets": raylets,
        "folder": str(folder),
        "token": secret,
        "user": user,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(asked)],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(),
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def client_port(local: state.LocalCluster) -> str:
    """The port of Ray Client on the head, as its command line says."""
    words = Path(f"/proc/{local.nodes[0].pid}/cmdline").read_text().split("\0")
    (port,) = [word.partition("=")[2] for word in words if word.startswith("--ray-client-server-port=")]
    return port


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_by_everything(two: tuple[str, Path]) -> None:
    _, folder = two
    local = state.load(folder)
    assert local
    # With the token all of it works, so that what is refused below is refused for want of the token.
    mine = probed(local, folder, user=None, raylets=[])
    addresses = list(mine.pop("nodes"))
    assert len(addresses) == 2
    mine = probed(local, folder, user=None, raylets=addresses)
    mine.pop("nodes")
    assert set(mine.values()) == {"OK"}

    theirs = probed(local, folder, user=STRANGER, raylets=addresses)
    theirs.pop("nodes")
    calls = {"GCS", "store", "client", "raylet 0", "raylet 1"}
    assert {name: theirs.pop(name) for name in calls} == dict.fromkeys(calls, "UNAUTHENTICATED")
    assert {name: theirs.pop(name) for name in ("jobs", "job")} == {"jobs": "401", "job": "401"}
    assert theirs == dict.fromkeys(("token", "logs", "folder"), "PermissionError")


def test_everything_listens_on_the_loopback_interface_only(two: tuple[str, Path]) -> None:
    local = state.load(two[1])
    assert local
    open_sockets = {link for pid in state.processes(local) for link in sockets(pid)}
    listening = [
        words[1].partition(":")[0]
        for table in ("tcp", "tcp6")
        for words in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if words[3] == "0A" and f"socket:[{words[9]}]" in open_sockets
    ]
    assert len(listening) >= 10
    assert set(listening) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def sockets(pid: int) -> list[str]:
    """The sockets that a process has open, as the links in /proc name them."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            links.append(os.readlink(entry))
        except OSError:  # closed meanwhile
            continue
    return links


def test_commands_find_the_token_by_the_address(two: tuple[str, Path]) -> None:
    address, _ = two
    for url in (address, address.replace("127.0.0.1", "localhost")):
        done = cluster("list", "--address", url)
        assert (done.returncode, done.stderr) == (0, "")
    refused = cluster("list", "--address", address, RAY_AUTH_MODE="disabled")
    assert one_line(refused).startswith(f"error: {address}: requires a token, but none was given")
