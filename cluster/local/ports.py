"""Ports of this machine."""

import contextlib
import http.client
import random
import socket
import urllib.error
import urllib.request

RANGE = range(20_000, 30_000)
"""Below those that systems give to outgoing connections, above those that Ray gives to workers."""


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on."""
    found: list[int] = []
    for port in random.SystemRandom().sample(RANGE, len(RANGE)):
        if len(found) == count:
            break
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("", port))
            found.append(port)
    return found


def answers(address: str) -> bool:
    """Whether a job server is up: it tells its version, or asks for a token."""
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code in (401, 403)
    except (OSError, http.client.HTTPException):
        return False
