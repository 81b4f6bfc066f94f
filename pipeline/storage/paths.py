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
