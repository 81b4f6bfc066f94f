"""Paths: local ones, s3:// and other URLs."""

from pathlib import Path


def is_local(path: str) -> bool:
    """Whether the path is on a file system of this machine."""
    return "://" not in path or path.startswith("file://")


def join(base: str, *parts: str) -> str:
    """Returns a path below ``base``."""
    return "/".join([base.rstrip("/"), *parts])


def absolute(path: str) -> str:
    """Returns the path as every process sees it: a local path made absolute, a URL without a slash at its end."""
    if not is_local(path):
        return path.rstrip("/")
    return str(Path(path.removeprefix("file://")).expanduser().absolute())


def is_s3(path: str) -> bool:
    """Whether the path is on S3."""
    return path.startswith(("s3://", "s3a://"))


def readable(name: str) -> str:
    """Returns the text of a name that may not be UTF-8, with its other bytes as ``\\xe9``; other names as they are."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair of surrogates, which is no byte of a name
        return name.encode("utf-8", "backslashreplace").decode()
