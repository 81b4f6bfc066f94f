"""S3: its settings, one file system per process, a count of repeated requests, and one-line errors.

The settings reach every process in an environment variable, ``M3D_STORAGE``: workers of a local Ray inherit it, workers
of a cluster receive it with the job. It never contains credentials; those come from the AWS chain of each machine.
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

from m3d.pulse import beat
from pipeline.config.storage import CREDENTIALS, Storage, check_endpoint
from pipeline.errors import FailedError, UserError, first_line

T = TypeVar("T")
VARIABLE = "M3D_STORAGE"
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Variables that name the endpoint if the settings do not. The first one that is set is used."""
PART_BYTES = 16 * 2**20
"""Bytes of a part of a multipart upload; objects of two or more parts are uploaded that way."""
REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403", "MethodNotAllowed", "405"}
ELSEWHERE = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}


def use(settings: Storage) -> None:
    """Activates the settings for this process and for the processes that it starts."""
    os.environ[VARIABLE] = json.dumps(asdict(_resolved(settings)))


def environment() -> dict[str, str]:
    """Returns the environment that processes on other machines need to reach the same storage; often empty."""
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ and active_settings() != Storage() else {}


def active_settings() -> Storage:
    """Returns the active settings of this process."""
    text = os.environ.get(VARIABLE)
    return Storage(**json.loads(text)) if text else _resolved(Storage())


def file_system() -> Any:
    """Returns the file system of this process. Listings are never cached, since other processes write."""
    return _file_system(active_settings(), os.getpid())


def retries() -> int:
    """Returns how many requests this process has repeated since it started."""
    return _count.total


def add_retries(count: int) -> None:
    """Adds the repeated requests that another process counted."""
    _count.add(count)


def call(path: str, operation: Callable[[], T]) -> T:
    """Returns the operation's result; repeats the operation if the connection broke while an answer was read.

    Args:
        path: path of the object, for messages.
        operation: may be called several times.

    Raises:
        FileNotFoundError: there is no such object.
        UserError: there is no such bucket, the credentials or the access are refused, or the endpoint does not answer.
        FailedError: all attempts failed; ``storage.attempts`` sets their number.
    """
    attempts, attempt = active_settings().attempts, 1
    while True:
        beat()
        try:
            return operation()
        except (FileNotFoundError, FileExistsError) as error:
            if code_of(error) == "NoSuchBucket":
                raise problem(path, error) from None
            # The answer to the end of a multipart upload was lost, and the store no longer knows the upload: repeat it.
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
    """Returns the code of S3's answer, such as NoSuchBucket, or an empty string if there was no answer."""
    for cause in (error, error.__cause__):
        answer = getattr(cause, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code", ""))
    return ""


def problem(path: str, error: BaseException) -> Exception:
    """Returns the one-line error for a failed request. It contains codes and names, never the content of headers or keys."""
    code, kind = code_of(error), type(error).__name__
    settings = active_settings()
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
        return UserError(f"{path}: {bucket_of(path)!r} is not a valid bucket name; write s3://BUCKET/PREFIX")
    reason = code or f"{kind}: {first_line(error)}"
    return FailedError(
        f"{path}: {where} failed after at most {settings.attempts} attempts ({reason}); run the same command again"
    )


def bucket_of(path: str) -> str:
    """Returns the name of a path's bucket."""
    return path.partition("://")[2].partition("/")[0]


class _Count:
    def __init__(self) -> None:
        self.total, self._lock = 0, threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.total += count

    def answered(self, attempts: int = 1, **_: Any) -> None:
        """Counts a repeated request. botocore calls it with every answer; the first attempt is attempt 1."""
        if attempts > 1:
            self.add(1)


_count = _Count()


def _resolved(settings: Storage) -> Storage:
    variable = next((name for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)
    endpoint = settings.endpoint or (os.environ[variable] if variable else None)
    region = settings.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if variable and endpoint and settings.endpoint is None:
        check_endpoint(endpoint, variable)
    return replace(settings, endpoint=endpoint, region=region or None)


def _broke_off(error: Exception) -> bool:
    """Whether the connection broke while an answer was read; botocore itself repeats requests that had no answer."""
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
    # Not every service besides Amazon's knows the newer checksums; send them only if the operation requires one.
    checksums = ("request_checksum_calculation", "response_checksum_validation") if settings.endpoint else ()
    fs = S3FileSystem(
        anon=settings.anonymous,
        endpoint_url=settings.endpoint,
        session=session,
        client_kwargs={"region_name": settings.region} if settings.region else {},
        config_kwargs={
            # The newer modes have one budget for all requests of a process: an outage would use up that of later requests.
            "retries": {"mode": "legacy", "total_max_attempts": settings.attempts},
            "connect_timeout": min(10.0, settings.timeout_s),
            "read_timeout": settings.timeout_s,
            "max_pool_connections": 64,
            **dict.fromkeys(checksums, "when_required"),
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    # botocore repeats requests and ``call`` repeats broken answers; a third layer would multiply the waiting.
    fs.retries = 1
    return fs
