"""The command that a job runs: the words after ``--``."""

import re
import shlex
from collections.abc import Mapping, Sequence

from cluster.errors import ClusterError, nearest
from cluster.jobs.credentials import refuse

COMMANDS = ("run", "prepare", "pretrain", "condense", "evaluate", "tune", "plan")
"""Commands of ``python -m pipeline`` that are worth a job."""
PATHS = ("--out", "--data", "--config")
"""Options with a path, which must mean the same on every node."""


def check(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises ClusterError for an unknown command, a relative path or a credential."""
    if not words:
        raise ClusterError(
            "nothing to run: write the command after --, such as -- run --preset digits_ipc1 --out /shared/demo"
        )
    if words[0] not in COMMANDS:
        raise ClusterError(
            f"-- {words[0]}: is not a command for a job; allowed: {', '.join(COMMANDS)}{nearest(words[0], COMMANDS)}"
        )
    for option, path in _paths(words):
        if not re.match(r"/|[a-z0-9+]+://", path):
            raise ClusterError(
                f"{option} {path}: is relative, but the job runs on a node of the cluster; give an absolute path that all nodes "
                "share, or a URL such as s3://bucket/prefix"
            )
    for number, word in enumerate(words, 1):
        refuse(word, f"word {number} after --", environment)


def out_of(words: Sequence[str]) -> str:
    """The folder that a command works on, or an empty string if it names none."""
    return next((path for option, path in _paths(words) if option in ("--out", words[0])), "")


def entrypoint(python: str, words: Sequence[str]) -> str:
    """The shell command of the job."""
    return shlex.join([python, "-m", "pipeline", *words])


def _paths(words: Sequence[str]) -> list[tuple[str, str]]:
    """The paths among the words, each with its option, or with the command for a path without an option."""
    paths, rest = [], list(words[1:])
    if words[0] == "evaluate" and rest and not rest[0].startswith("-"):
        paths.append((words[0], rest[0]))
    for index, word in enumerate(rest):
        option, equals, value = word.partition("=")
        if option in PATHS and equals:
            paths.append((option, value))
        elif word in PATHS and index + 1 < len(rest):
            paths.append((word, rest[index + 1]))
    return paths
