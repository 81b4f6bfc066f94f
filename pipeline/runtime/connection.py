"""What Ray needs before it starts or joins a cluster: an address that answers, and a short temporary folder.

Without these checks Ray tries an address for a quarter of an hour, and prints its own lines meanwhile.
"""

import os
import socket
import sys
import threading
import time
from datetime import datetime
from typing import Any

from m3d.config import LONGEST
from pipeline.errors import FailedError, UserError, first_line

ANSWER_S = 5.0
"""Seconds in which a connection must succeed; a head that starts is tried again meanwhile."""
CONNECT_S = 3.0
"""Seconds of one attempt to connect."""
REPLY_S = 10.0
"""Seconds in which the cluster's control store must answer a request."""
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Most bytes of the path of a Unix socket."""


def require_cluster(address: str) -> None:
    """Returns if a Ray cluster answers at an address: HOST:PORT, or auto for the one that was started on this machine.

    Raises:
        UserError: nothing listens there, it is no Ray cluster, or it refuses the token.
    """
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address(address)
        host, port = _parts(found or "none:1")
    except Exception:  # Ray's own messages repeat all of the address
        raise UserError(f"resources.address: given {shown(address)}, expected HOST:PORT, auto or local") from None
    if found is None:
        return  # auto: Ray looks for its processes, and reports if there are none
    _require_listener(host, port, address)
    _require_control_store(found, address)


def require_short_temporary_folder() -> None:
    """Raises UserError if the paths of the sockets that Ray makes in its temporary folder would be too long."""
    variable, folder = _temporary_folder()
    session = f"session_{datetime.today():%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}"
    below = len(os.path.join("/", "ray", session, "sockets", "plasma_store"))
    given = len(os.fsencode(folder))
    if given + below > SOCKET_BYTES:
        raise UserError(
            f"{variable}: names a folder of {given} bytes, too long for Ray's sockets ({SOCKET_BYTES} bytes with the "
            f"{below} that Ray adds); set RAY_TMPDIR to a folder of at most {SOCKET_BYTES - below} bytes, such as /tmp"
        )


def _temporary_folder() -> tuple[str, str]:
    """The folder in which Ray works, and the variable that may name it. Ray asks TMPDIR on Linux alone."""
    names = ("RAY_TMPDIR", "TMPDIR") if sys.platform.startswith("linux") else ("RAY_TMPDIR",)
    variable = next((name for name in names if name in os.environ), names[-1])
    return variable, os.environ.get(variable) or "/tmp"


def start_problem(error: Exception) -> UserError | FailedError:
    """The one-line error for a Ray of this run alone that did not start."""
    _, folder = _temporary_folder()
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
        return UserError(
            f"{error.filename or folder}: Ray cannot start there ({error.strerror or first_line(error)}); free some space, or "
            "choose another folder with RAY_TMPDIR"
        )
    return FailedError(
        f"Ray did not start on this machine ({first_line(error)}); its logs are in {folder}/ray/session_latest/logs; "
        "run the same command again"
    )


def join_problem(address: str, error: Exception) -> UserError:
    """The one-line error for a cluster that cannot be joined."""
    why = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
    where = shown(address)
    return UserError(
        f"resources.address: no Ray cluster answers at {where} ({why[:LONGEST]}); check it with `ray status --address {where}`"
    )


def shown(address: str) -> str:
    """An address as messages repeat it: without credentials, and not at any length."""
    host = address.rpartition("@")[2]
    return host if len(host) <= LONGEST else f"{host[:LONGEST]}..."


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not 0 < int(port) < 2**16:
        raise ValueError(f"port {port}")
    return host.strip("[]"), int(port)


def _require_listener(host: str, port: int, address: str) -> None:
    """Connects to the address on another thread, since nothing bounds the time of a look-up of a name."""
    reasons: list[Exception] = []
    connected = threading.Event()

    def connect() -> None:
        ends = time.monotonic() + ANSWER_S
        while time.monotonic() < ends:
            try:
                socket.create_connection((host, port), timeout=CONNECT_S).close()
            except (OSError, UnicodeError, OverflowError) as error:
                reasons.append(error)
                time.sleep(1)
            else:
                connected.set()
                return

    thread = threading.Thread(target=connect, name="connect", daemon=True)
    thread.start()
    thread.join(ANSWER_S + CONNECT_S)
    if not connected.is_set():
        raise join_problem(address, reasons[-1] if reasons else TimeoutError("the name was not resolved in time"))


def _require_control_store(found: str, address: str) -> None:
    """Asks the cluster's control store for the name of its session."""
    from ray._private.gcs_utils import create_gcs_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    channel = create_gcs_channel(found)
    store = gcs_service_pb2_grpc.InternalKVGcsServiceStub(channel)
    messages: Any = gcs_service_pb2  # its classes are made when it is imported
    request = messages.InternalKVGetRequest(namespace=b"session", key=b"session_name")
    try:
        store.InternalKVGet(request, timeout=REPLY_S)
    except Exception as error:  # gRPC's errors have a code
        status = getattr(error, "code", None)
        code = status().name if status else first_line(error)
        if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            raise UserError(
                f"resources.address: the cluster at {shown(address)} refuses this machine's token; set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's"
            ) from None
        raise join_problem(address, ConnectionError(f"what listens there is no Ray cluster: {code}")) from None
    finally:
        channel.close()
