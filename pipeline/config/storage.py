"""Settings of the storage: how paths of the form s3://BUCKET/PREFIX are reached."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from m3d.config import ConfigError, at_least, check, positive

CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or storage.profile, where the run and its nodes start"


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How paths of the form s3://BUCKET/PREFIX are reached. Credentials are no setting: see docs/scale.md."""

    endpoint: str | None = None
    """URL of an S3 service other than Amazon's; AWS_ENDPOINT_URL when not given."""
    region: str | None = None
    """AWS_REGION when not given."""
    profile: str | None = None
    """Name in the AWS configuration files; the usual chain of credentials when not given."""
    anonymous: bool = False
    """Requests without a signature, for public buckets."""
    attempts: int = 8
    """Times that a request is sent before it counts as failed, with growing pauses."""
    timeout_s: float = 30.0
    """Seconds of silence after which a request counts as failed."""

    def __post_init__(self) -> None:
        at_least("storage.attempts", self.attempts, 1)
        check("storage.attempts", self.attempts, self.attempts <= 100, "an integer from 1 to 100")
        positive("storage.timeout_s", self.timeout_s)
        if self.endpoint is not None:
            check_endpoint(self.endpoint, "storage.endpoint")


def check_endpoint(url: str, name: str) -> None:
    """Raises ConfigError unless it is an http(s) URL without credentials; one with them is not repeated."""
    try:
        parts = urlsplit(url)
        holds, secret = parts.scheme in ("http", "https") and bool(parts.hostname), "@" in parts.netloc
    except ValueError:
        holds, secret = False, "@" in url
    if secret:
        raise ConfigError(f"{name}: given a URL with credentials in it; {CREDENTIALS}")
    check(name, url, holds, "a URL such as https://HOST or http://HOST:PORT")
