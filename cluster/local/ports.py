"""Ports of this machine."""

import contextlib
import http.client
import random
import socket
import urllib.error
import urllib.request

LOOPBACK = "127.0.0.1"
"""Address of everything that a local cluster starts: nobody outside this machine can reach it."""
RANGE = range(20_000, 30_000)
"""Ports below those that systems give to outgoing connections, and above those that Ray gives to workers."""


def free_ports(count: int) -> list[int]:
    """``count`` different ports on which nobody listens."""
    ports: list[int] = []
    for port in random.SystemRandom().sample(RANGE, len(RANGE)):
        if len(ports) == count:
            break
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            ports.append(port)
    return ports


def answers(address: str) -> bool:
    """Whether a job server is up: it reports its version, or asks for a token."""
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code in (401, 403)
    except (OSError, http.client.HTTPException):
        return False
