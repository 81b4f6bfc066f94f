"""The command that a job runs: the words after ``--``."""

import shlex
from collections.abc import Mapping, Sequence

from cluster.errors import ClusterError, nearest
from cluster.jobs.credentials import refuse
from cluster.jobs.paths import paths_of
from cluster.text import shown

COMMANDS = ("run", "prepare", "pretrain", "condense", "evaluate", "tune", "plan")
"""Commands of ``python -m pipeline`` that are worth a job."""


def check(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises ClusterError for an unknown command, a relative path, a credential, or a word that is no text."""
    if not words:
        raise ClusterError(
            "nothing to run: write the command after --, such as -- run --preset digits_ipc1 --out /shared/demo"
        )
    if words[0] not in COMMANDS:
        raise ClusterError(
            f"-- {shown(words[0])}: is not a command for a job; allowed: {', '.join(COMMANDS)}{nearest(words[0], COMMANDS)}"
        )
    for number, word in enumerate(words, 1):
        refuse(word, f"word {number} after --", environment)
        _check_text(word, number)
    for each in paths_of(words):
        if not each.is_absolute:
            raise ClusterError(
                f"{shown(each.given)}: is relative, but the job runs on a node of the cluster; give an absolute path that all nodes "
                "share, or a URL such as s3://bucket/prefix"
            )


def out_of(words: Sequence[str]) -> str:
    """The folder that a command works on, or an empty string if it names none."""
    return next((each.path for each in paths_of(words) if each.option in ("--out", words[0])), "")


def entrypoint(python: str, words: Sequence[str]) -> str:
    """The shell command of the job."""
    return shlex.join([python, "-m", "pipeline", *words])


def _check_text(word: str, number: int) -> None:
    """Raises ClusterError for bytes that are not UTF-8, which a job's entrypoint cannot contain."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise ClusterError(
            f"word {number} after --: {shown(word)}: is not valid UTF-8, which a job's command must be; rename the file"
        ) from None
