"""What may travel with a job, and what must not: keys come from the nodes, by their role or a secret."""

import re
from collections.abc import Mapping

from cluster.errors import ClusterError

PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Variables of the submitter that the job gets where they are set. None of them is a secret."""

_SECRET_NAME = re.compile(r"secret|token|password|passwd|credential|access_key|api_key|private_key", re.IGNORECASE)
_SIGNS = (
    (re.compile(r"://[^/@\s]+@"), "a URL with a user name or password"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), "an AWS access key"),
    (re.compile(r"\bBearer\s+\S", re.IGNORECASE), "a bearer token"),
)
_SHORTEST = 8
"""Characters from which the value of a secret variable is looked for; shorter ones stand everywhere."""


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a job gets from its submitter.

    Raises:
        ClusterError: one of them holds a credential.
    """
    found = {name: environment[name] for name in PASSED_ON if environment.get(name)}
    for name, value in found.items():
        refuse(value, f"the variable {name}", environment)
    return found


def refuse_name(name: str, where: str) -> None:
    """Raises ClusterError where a variable is called like a secret."""
    if _SECRET_NAME.search(name):
        raise ClusterError(
            f"{where}: {name} is a secret by its name, and a job's environment can be read by everyone who sees the cluster; "
            "give it to the nodes (an instance role, or a secret of Kubernetes)"
        )


def refuse(text: str, where: str, environment: Mapping[str, str]) -> None:
    """Raises ClusterError where a text holds a credential; the message never repeats it.

    Args:
        text: what would travel.
        where: names its place in the message.
        environment: of the submitter; the values of its secrets are looked for.
    """
    kind = next((kind for pattern, kind in _SIGNS if pattern.search(text)), None)
    if kind is None:
        held = (
            name
            for name, value in environment.items()
            if _SECRET_NAME.search(name) and len(value) >= _SHORTEST and value in text and not _is_path(value)
        )
        if (name := next(held, None)) is not None:
            kind = f"the value of {name}"
    if kind is not None:
        raise ClusterError(
            f"{where}: holds {kind}, which everyone who sees the cluster could read; leave it out, and give the nodes the "
            "credential (an instance role, or a secret of Kubernetes)"
        )


def _is_path(value: str) -> bool:
    # RAY_AUTH_TOKEN_PATH and the like name a file, which is no secret.
    return value.startswith(("/", "~", "."))
