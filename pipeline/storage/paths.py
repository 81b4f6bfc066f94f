"""Paths: local ones, s3:// and the other URLs that are allowed. No local path is ever parsed as a URL."""

import os
from pathlib import Path

from pipeline.config.storage import CREDENTIALS, LOCAL_SCHEMES, OTHER_SCHEMES, S3_SCHEMES, scheme_of
from pipeline.errors import UserError

VERSION_ID = "?versionId="
"""What s3fs cuts off a key, together with everything behind it."""


def is_local(path: str) -> bool:
    """Whether the path is on a file system of this machine."""
    return scheme_of(path) in (None, *LOCAL_SCHEMES)


def is_s3(path: str) -> bool:
    """Whether the path is on S3."""
    return scheme_of(path) in S3_SCHEMES


def join(base: str, *parts: str) -> str:
    """Returns a path below ``base``."""
    return "/".join([base.rstrip("/"), *parts])


def absolute(path: str) -> str:
    """Returns the path as every process sees it: a local path made absolute, a URL without a slash at its end.

    Raises:
        UserError: the path is empty or has a NUL character, or the URL is none that is opened.
    """
    if is_local(path):
        return str(local_path(path))
    require_url(path)
    return path.rstrip("/")


def readable(name: str) -> str:
    """Returns the text of a name that may not be UTF-8, with its other bytes as ``\\xe9``; other names as they are."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair of surrogates, which is no byte of a name
        return name.encode("utf-8", "backslashreplace").decode()


def local_path(path: str) -> Path:
    """Returns the absolute path of a local file or folder, which may have any characters but NUL in its name.

    Raises:
        UserError: the path is empty or cannot be the name of a file.
    """
    name = path.removeprefix("file://")
    try:
        if not name or b"\0" in os.fsencode(name):
            raise UserError(f"path {path!r}: is empty or contains a NUL character; give the path of a file or folder")
    except UnicodeEncodeError:
        raise UserError(f"path {path!r}: contains characters that no file name can have; correct it") from None
    return Path(os.path.expanduser(name)).absolute()  # a name such as ~b of an unknown user stays as it is


def require_url(path: str) -> None:
    """Raises UserError unless a URL has one of the schemes that are opened, and no credentials."""
    scheme, host = scheme_of(path), path.partition("://")[2].partition("/")[0]
    if scheme not in (*S3_SCHEMES, *OTHER_SCHEMES):
        named = f"{scheme}://..." if "@" in path else path  # it may contain a password, which may contain a slash
        raise UserError(
            f"{named}: has the scheme {scheme!r}, which is not opened; give a local path or s3://BUCKET/PREFIX "
            f"(also opened: {', '.join(OTHER_SCHEMES)}; a local path of this name begins with ./)"
        )
    user = host.rpartition("@")[0]
    hides_secret = ":" in host and "@" in path and not host.startswith("arn:")  # a secret may contain a slash
    if (user and scheme in S3_SCHEMES) or ":" in user or hides_secret:
        raise UserError(f"{scheme}://: given a URL that contains credentials; remove them, and {CREDENTIALS}")
    if scheme in S3_SCHEMES and VERSION_ID in path:
        raise UserError(f"{path}: names a version of an object ({VERSION_ID}); give the path without it")
