"""Connects to a cluster's job server, and turns everything that can go wrong there into one line."""

import contextlib
import http.client
import json
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cluster.errors import ClusterError, NoSuchJobError, first_line
from cluster.text import shown

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

TIMEOUT_S = 10.0
"""Seconds that a job server has for its first answer."""
REQUEST_S = 120.0
"""Seconds without an answer after which any later request has failed. The server may have to unpack an upload first."""
_ADDRESS = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[^/\s@?#:\[\]]+)(?::\d{1,5})?(?:/[^\s?#]*)?")
"""The address of a server, perhaps with a path, as behind a reverse proxy; no user name, no query."""
HOW_TO_TOKEN = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"


@dataclass(frozen=True, kw_only=True)
class JobServer:
    """A job server that has answered, and Ray's client for it."""

    address: str
    client: "JobSubmissionClient"


def address_of(option: str | None, profile: str | None, environment: Mapping[str, str]) -> str:
    """The job server's address: of the option, else of the profile, of RAY_API_SERVER_ADDRESS or of RAY_ADDRESS.

    A path is kept: a job server behind a reverse proxy has no other address.

    Raises:
        ClusterError: there is none, or it is not the address of a job server.
    """
    ray_address = environment.get("RAY_ADDRESS", "")
    by_variable = environment.get("RAY_API_SERVER_ADDRESS") or (ray_address if "http" in ray_address else "")
    address = option or profile or by_variable
    if not address:
        raise ClusterError(
            "--address: not given; name the cluster's job server, such as http://HEAD:8265 (python -m cluster up-local starts one here)"
        )
    if not _ADDRESS.fullmatch(address):
        without_query = re.sub(r"[?#].*", "", address, flags=re.DOTALL)
        without_user = re.sub(r"^(\w*:?//)?.*@", "//...@", without_query, flags=re.DOTALL)
        raise ClusterError(
            f"--address {shown(without_user)}: is not the address of a job server; give http://HOST:PORT with the port of Ray's "
            "dashboard (usually 8265), not the port of ray:// or of the nodes (10001, 6379), perhaps with the path of a proxy, "
            "and without a user name, ? or #"
        )
    return address.rstrip("/")


def connect(address: str) -> JobServer:
    """The job server at an address, which answers, accepts the token, and runs the Ray version installed here.

    Raises:
        ClusterError: there is no answer, it is not a job server, it refuses the token, or the versions differ.
    """
    running = _ray_version(address)
    # Ray's variables take precedence over the address that its client is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    logging.disable(logging.WARNING)  # Ray's notes about tokens and about what the upload leaves out
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            # Ray's own requests wait for ever.
            return super()._do_request(*arguments, timeout=REQUEST_S, **options)

    with errors_in_one_line(address):
        client = Client(address)
    running = running or getattr(client, "_server_ray_version", None)
    installed = version("ray")
    if running is not None and running != installed:
        raise ClusterError(
            f"{address}: runs Ray {shown(running, 40)}, but Ray {installed} is installed here; use the environment of the cluster "
            f"(pip install 'ray[default]=={shown(running, 40)}'), or start the cluster with Ray {installed}"
        )
    return JobServer(address=address, client=client)


@contextlib.contextmanager
def errors_in_one_line(address: str, job: str | None = None) -> Iterator[None]:
    """Raises ClusterError for whatever a client raises. ``job`` is the job that the request is about, if any."""
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:
        raise _one_line(error, address, job) from None


def _one_line(error: Exception, address: str, job: str | None) -> ClusterError:
    text, kind = str(error), type(error).__name__
    if kind == "AuthenticationError":
        what = "refuses the token" if "failed" in first_line(error) else "requires a token, but none was given"
        return ClusterError(f"{address}: {what}; {HOW_TO_TOKEN}")
    if "status code 413" in text:
        return ClusterError(f"{address}: refuses the upload as too large; move data out of the packages")
    if job is not None and ("status code 404" in text or "does not exist" in text):
        return NoSuchJobError(f"{shown(job)}: is not a job of {address}; python -m cluster list shows all jobs")
    if isinstance(error, OSError):
        return _no_answer(address, error)
    answer = re.sub(r"^Request failed with status code (\d+): ", r"answered \1: ", first_line(error))
    return ClusterError(f"{address}: {shown(answer, 300)}; see Ray's dashboard there")


def _no_answer(address: str, error: BaseException) -> ClusterError:
    reason = getattr(error, "reason", error)
    by_type = "timed out" if isinstance(reason, TimeoutError) else type(reason).__name__
    return ClusterError(
        f"{address}: does not answer ({getattr(reason, 'strerror', None) or by_type}); check that the cluster is up and that "
        "the port is that of its dashboard, and forward the port if it cannot be reached from here "
        "(ssh -L 8265:localhost:8265 HEAD)"
    )


def _ray_version(address: str) -> str | None:
    """The server's version of Ray, or None if the server asks for a token first."""
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=TIMEOUT_S) as answer:
            document = json.loads(answer.read(100_000))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            return None
        raise _no_job_server(address, f"answers {error.code}") from None
    except http.client.HTTPException:  # another protocol, such as that of the port which nodes join
        raise _no_job_server(address, "answers something else") from None
    except OSError as error:  # a refused connection, an unknown name, a time-out
        raise _no_answer(address, error) from None
    except ValueError:
        raise _no_job_server(address, "answers something else") from None
    if not isinstance(document, dict) or not isinstance(document.get("ray_version"), str):
        raise _no_job_server(address, "answers something else")
    return document["ray_version"]


def _no_job_server(address: str, what: str) -> ClusterError:
    return ClusterError(
        f"{address}: is not a job server of Ray ({what}); give the address of the dashboard (usually port 8265), which needs "
        "pip install 'ray[default]' on the head"
    )
