"""The way to a cluster's job server, and one line for everything that can go wrong on it."""

import contextlib
import http.client
import json
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from cluster.errors import ClusterError, NoSuchJobError, first_line

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


TIMEOUT_S = 10.0
"""Seconds that a job server has for its first answer."""
HOW_TO_TOKEN = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"


def address_of(given: str | None, profile: str | None, environment: Mapping[str, str]) -> str:
    """The job server's address: of the call, else of the profile, else of RAY_API_SERVER_ADDRESS, else of RAY_ADDRESS.

    Raises:
        ClusterError: there is none, or it is not that of a job server.
    """
    by_name = environment.get("RAY_ADDRESS", "")
    address = given or profile or environment.get("RAY_API_SERVER_ADDRESS") or (by_name if "http" in by_name else "")
    if not address:
        raise ClusterError(
            "--address: not given; name the cluster's job server, such as http://HEAD:8265 (python -m cluster up-local starts one here)"
        )
    if not re.fullmatch(r"https?://[^/\s@]+/?", address):
        shown = re.sub(r"//[^/@]*@", "//...@", address)
        raise ClusterError(
            f"--address {shown}: is not that of a job server; give http://HOST:PORT, with the port of Ray's dashboard (usually "
            "8265), not that of ray:// or of the nodes (10001, 6379), and no user name"
        )
    return address.rstrip("/")


def connect(address: str) -> "JobSubmissionClient":
    """A client of the job server, which answers, takes the token, and runs the Ray that is installed here.

    Raises:
        ClusterError: nobody listens, it is no job server, the token is refused, or the versions differ.
    """
    running = _answer(address)
    # Ray lets its variables overrule the address that it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    logging.disable(logging.WARNING)  # Ray's notes about what it leaves out of the upload and about tokens
    from ray.job_submission import JobSubmissionClient

    with asking(address):
        client = JobSubmissionClient(address)
    running = running or getattr(client, "_server_ray_version", None)
    here = version("ray")
    if running is not None and running != here:
        raise ClusterError(
            f"{address}: runs Ray {running}, here is {here}; use the environment that the cluster was made with (pip install "
            f"'ray[default]=={running}'), or bring the cluster up with Ray {here}"
        )
    return client


@contextlib.contextmanager
def asking(address: str, job: str | None = None) -> Iterator[None]:
    """Turns what a client raises into one line. A job of the name ``job`` is asked for where that is given."""
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:
        raise told(error, address, job) from None


def told(error: Exception, address: str, job: str | None = None) -> ClusterError:
    """The sentence for an error of a client."""
    text, kind = str(error), type(error).__name__
    if kind == "AuthenticationError":
        why = "refuses the token" if "failed" in first_line(error) else "wants a token, and none was given"
        return ClusterError(f"{address}: {why}; {HOW_TO_TOKEN}")
    if "status code 413" in text:
        return ClusterError(f"{address}: refuses the upload as too large; move data out of the packages")
    if job is not None and ("status code 404" in text or "does not exist" in text):
        return NoSuchJobError(f"{job}: is no job of {address}; python -m cluster list shows them")
    if isinstance(error, OSError):
        return _silent(address, error)
    shown = re.sub(r"^Request failed with status code (\d+): ", r"answered \1: ", first_line(error))
    return ClusterError(f"{address}: {shown[:300]}; see Ray's dashboard there")


def _silent(address: str, error: BaseException) -> ClusterError:
    why = getattr(error, "reason", error)
    shown = getattr(why, "strerror", None) or (
        "no answer in time" if isinstance(why, TimeoutError) else type(why).__name__
    )
    return ClusterError(
        f"{address}: nobody listens there ({shown}); check that the cluster is up and that the port is its dashboard's, "
        "and forward it where it is not reachable (ssh -L 8265:localhost:8265 HEAD)"
    )


def _answer(address: str) -> str | None:
    """Ray's version as the server tells it, or None where it wants a token first."""
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=TIMEOUT_S) as answer:
            found = json.loads(answer.read(100_000))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            return None
        raise _no_job_server(address, f"answers {error.code}") from None
    except http.client.HTTPException:  # another protocol, such as that of the port which nodes join
        raise _no_job_server(address, "answers something else") from None
    except OSError as error:  # a refused connection, a name that is not known, a time-out
        raise _silent(address, error) from None
    except ValueError:
        raise _no_job_server(address, "answers something else") from None
    if not isinstance(found, dict) or not isinstance(found.get("ray_version"), str):
        raise _no_job_server(address, "answers something else")
    return found["ray_version"]


def _no_job_server(address: str, what: str) -> ClusterError:
    return ClusterError(
        f"{address}: is no job server of Ray ({what}); give the address of the dashboard (usually port 8265); it comes with "
        "pip install 'ray[default]' on the head"
    )
