"""Settings of the storage: access to paths of the form s3://BUCKET/PREFIX."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from m3d.config import ConfigError, at_least, check, positive

LOCAL_SCHEMES, S3_SCHEMES = ("file",), ("s3", "s3a")
OTHER_SCHEMES = ("gs", "gcs", "abfs", "abfss", "hdfs")
"""Schemes that fsspec opens if its package for them is installed; no other scheme is opened."""
CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or storage.profile, where the run and its nodes start"


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Access to paths of the form s3://BUCKET/PREFIX. Credentials are not settings; see docs/scale.md."""

    endpoint: str | None = None
    """URL of an S3 service other than Amazon's. Defaults to the variable AWS_ENDPOINT_URL_S3, else AWS_ENDPOINT_URL."""
    region: str | None = None
    """Region of the bucket. Defaults to the variable AWS_REGION, else AWS_DEFAULT_REGION."""
    profile: str | None = None
    """Profile in the AWS configuration files. Defaults to the usual chain of credentials."""
    anonymous: bool = False
    """Whether requests are sent unsigned, for public buckets."""
    attempts: int = 8
    """Number of times a request is sent before it counts as failed, with growing pauses."""
    timeout_s: float = 30.0
    """Seconds without an answer after which a request counts as failed."""

    def __post_init__(self) -> None:
        at_least("storage.attempts", self.attempts, 1)
        check("storage.attempts", self.attempts, self.attempts <= 100, "an integer from 1 to 100")
        positive("storage.timeout_s", self.timeout_s)
        if self.endpoint is not None:
            check_endpoint(self.endpoint, "storage.endpoint")


def scheme_of(path: str) -> str | None:
    """Returns the scheme of a URL, or None for a local path.

    A scheme stands before the first ``://`` and contains no slash. So ``/data/a://b`` is a local path, as is ``out::1``.
    """
    head, separator, _ = path.partition("://")
    return head if separator and "/" not in head else None


def check_endpoint(url: str, name: str) -> None:
    """Raises ConfigError unless it is an http(s) URL without credentials. The message never repeats credentials."""
    try:
        parts = urlsplit(url)
        valid, has_secret = parts.scheme in ("http", "https") and bool(parts.hostname), "@" in parts.netloc
    except ValueError:
        valid, has_secret = False, "@" in url
    if has_secret:
        raise ConfigError(f"{name}: given a URL that contains credentials; {CREDENTIALS}")
    check(name, url, valid, "a URL such as https://HOST or http://HOST:PORT")
