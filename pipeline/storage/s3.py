"""S3: its settings, one file system per process, a count of repeated requests, and sentences for what goes wrong.

The settings reach every process in an environment variable, ``M3D_STORAGE``: workers of an own Ray inherit it, those
of a cluster get it with the job. It never holds credentials; they come from each machine's own AWS chain.
"""

import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, TypeVar

from pipeline.config.storage import CREDENTIALS, Storage, check_endpoint
from pipeline.errors import FailedError, UserError, first_line

T = TypeVar("T")
VARIABLE = "M3D_STORAGE"
PART_BYTES = 16 * 2**20
"""Size of the parts of a large object; objects of two parts and more are sent in parts."""
REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "MethodNotAllowed", "405"}
ELSEWHERE = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}


def use(settings: Storage) -> None:
    """Makes the settings those of this process and of the processes that it starts."""
    os.environ[VARIABLE] = json.dumps(asdict(_resolved(settings)))


def environment() -> dict[str, str]:
    """What processes on other machines need in their environment to reach the same storage; often nothing."""
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ and in_force() != Storage() else {}


def in_force() -> Storage:
    """The settings of this process."""
    given = os.environ.get(VARIABLE)
    return Storage(**json.loads(given)) if given else _resolved(Storage())


def file_system() -> Any:
    """The file system of this process. Listings are never cached: other processes write."""
    return _file_system(in_force(), os.getpid())


def retries() -> int:
    """Requests that this process had to send again, since it began."""
    return _count.total


def add_retries(count: int) -> None:
    """Adds what another process counted."""
    _count.add(count)


def call(path: str, operation: Callable[[], T]) -> T:
    """The operation's result; an answer that breaks off half-way is asked for again.

    Args:
        path: of the object, for messages.
        operation: may be called several times.

    Raises:
        FileNotFoundError: no such object.
        UserError: no such bucket, refused credentials, no permission, or an endpoint that does not answer.
        FailedError: the store failed as often as ``storage.attempts`` allows.
    """
    attempts, attempt = in_force().attempts, 1
    while True:
        try:
            return operation()
        except (FileNotFoundError, FileExistsError) as error:
            if code_of(error) == "NoSuchBucket":
                raise problem(path, error) from None
            # The answer that ended an upload in parts was lost, and the store has forgotten the upload: it is made anew.
            if code_of(error) != "NoSuchUpload" or attempt >= attempts:
                raise
        except (UserError, FailedError):
            raise
        except Exception as error:
            if not _broke_off(error) or attempt >= attempts:
                raise problem(path, error) from None
        _count.add(1)
        time.sleep(random.random() * min(20.0, 0.2 * 2**attempt))
        attempt += 1


def code_of(error: BaseException) -> str:
    """The code of S3's answer, such as NoSuchBucket, or an empty string where there was none."""
    for one in (error, error.__cause__):
        answer = getattr(one, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code", ""))
    return ""


def problem(path: str, error: BaseException) -> Exception:
    """The sentence for an error of an S3 request: of codes and names alone, never of what a header or key held."""
    code, kind = code_of(error), type(error).__name__
    settings = in_force()
    where = settings.endpoint or "Amazon S3"
    if code == "NoSuchBucket":
        return UserError(
            f"{path}: there is no bucket {bucket_of(path)!r} at {where}; create it, or correct the path or storage.endpoint"
        )
    if code in REFUSED:
        return UserError(f"{path}: {where} refuses the credentials ({code}); {CREDENTIALS}")
    if code in DENIED or isinstance(error, PermissionError):
        return UserError(
            f"{path}: access is denied ({code or kind}); give the credentials in use the right to list, read and write there, "
            "or choose another path"
        )
    if code in ELSEWHERE:
        return UserError(f"{path}: the bucket is in another region ({code}); set storage.region")
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"):
        return UserError(
            f"{path}: no S3 credentials were found; {CREDENTIALS}, or storage.anonymous=true for a public bucket"
        )
    if kind == "ProfileNotFound":
        return UserError(f"storage.profile: given {settings.profile!r}, which the AWS configuration files do not have")
    if kind in ("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError", "SSLError"):
        return UserError(
            f"{path}: no S3 service answers at {where} ({kind}); check storage.endpoint or AWS_ENDPOINT_URL"
        )
    if code == "InvalidBucketName" or kind == "ParamValidationError":
        return UserError(f"{path}: {bucket_of(path)!r} is no name of a bucket; write s3://BUCKET/PREFIX")
    told = code or f"{kind}: {first_line(error)}"
    return FailedError(
        f"{path}: {where} did not do as asked, {settings.attempts} times at most ({told}); run the same command again"
    )


def bucket_of(path: str) -> str:
    """The bucket of a path."""
    return path.partition("://")[2].partition("/")[0]


class _Count:
    def __init__(self) -> None:
        self.total, self._lock = 0, threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.total += count

    def answered(self, attempts: int = 1, **_: Any) -> None:
        """Called by botocore with every answer; the first attempt is attempt 1."""
        if attempts > 1:
            self.add(1)


_count = _Count()


def _resolved(settings: Storage) -> Storage:
    endpoint = settings.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint and settings.endpoint is None:
        check_endpoint(endpoint, "AWS_ENDPOINT_URL")
    return replace(settings, endpoint=endpoint or None, region=region or None)


def _broke_off(error: Exception) -> bool:
    """Whether the connection broke while an answer was read: botocore has repeated what had no answer yet."""
    from aiohttp import ClientError as BrokenConnection
    from botocore.exceptions import IncompleteReadError, ResponseStreamingError

    kinds = (BrokenConnection, ResponseStreamingError, IncompleteReadError, ConnectionError, TimeoutError)
    return isinstance(error, kinds) and not code_of(error)


@lru_cache(maxsize=2)
def _file_system(settings: Storage, process: int) -> Any:
    from aiobotocore.session import AioSession
    from s3fs import S3FileSystem

    session = AioSession(profile=settings.profile)
    session.register("needs-retry.s3", _count.answered)
    config: dict[str, Any] = {
        # The newer modes have a budget over all requests of a process, which one outage uses up for what follows.
        "retries": {"mode": "legacy", "total_max_attempts": settings.attempts},
        "connect_timeout": min(10.0, settings.timeout_s),
        "read_timeout": settings.timeout_s,
        "max_pool_connections": 64,
    }
    if settings.endpoint:
        # Services other than Amazon's do not all know the newer checksums; these are sent where S3 demands them.
        config |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    made = S3FileSystem(
        anon=settings.anonymous,
        endpoint_url=settings.endpoint,
        session=session,
        client_kwargs={"region_name": settings.region} if settings.region else {},
        config_kwargs=config,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    made.retries = 1  # botocore repeats requests, ``call`` what broke off: a third layer would multiply the waiting
    return made
