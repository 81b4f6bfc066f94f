"""What may be sent with a job. Credentials may not: the nodes have their own, from a role or a secret."""

import re
from collections.abc import Mapping

from cluster.errors import ClusterError

PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Variables of the submitter that are set for the job too. None of them is secret."""

_SECRET_NAME = re.compile(r"secret|token|password|passwd|credential|access_key|api_key|private_key", re.IGNORECASE)
_PATTERNS = (
    (re.compile(r"://(?:[^/@\s]+|[^/@\s]*:[^@\s]*)@"), "a URL with a user name or password"),
    (
        re.compile(r"(?i)[?&](?:x-amz-(?:signature|credential|security-token)|signature|sig|awsaccesskeyid)="),
        "a signed URL",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), "an AWS access key"),
    (re.compile(r"\bBearer\s+\S", re.IGNORECASE), "a bearer token"),
)
_SHORTEST = 8
"""Minimum length of a secret's value to be searched for; shorter values occur by chance."""
_INSTEAD = "provide it on the nodes (by an instance role or a Kubernetes secret)"


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a job gets from its submitter.

    Raises:
        ClusterError: one of them contains a credential.
    """
    variables = {name: environment[name] for name in PASSED_ON if environment.get(name)}
    for name, value in variables.items():
        refuse(value, f"the variable {name}", environment)
    return variables


def refuse_name(name: str, where: str) -> None:
    """Raises ClusterError if a variable has the name of a secret."""
    if _SECRET_NAME.search(name):
        raise ClusterError(
            f"{where}: {name} is a secret by its name, and everyone with access to the cluster can read a job's environment; "
            f"{_INSTEAD}"
        )


def refuse(text: str, where: str, environment: Mapping[str, str]) -> None:
    """Raises ClusterError if a text contains a credential; the message never repeats it.

    Args:
        text: to be sent.
        where: names its place in the message.
        environment: of the submitter; the values of its secrets are searched for.
    """
    kind = next((kind for pattern, kind in _PATTERNS if pattern.search(text)), None)
    if kind is None:
        secrets = (
            name
            for name, value in environment.items()
            if _SECRET_NAME.search(name) and len(value) >= _SHORTEST and value in text and not _is_path(value)
        )
        if (name := next(secrets, None)) is not None:
            kind = f"the value of {name}"
    if kind is not None:
        raise ClusterError(
            f"{where}: contains {kind}, which everyone with access to the cluster could read; remove it and {_INSTEAD}"
        )


def _is_path(value: str) -> bool:
    # RAY_AUTH_TOKEN_PATH and similar variables name a file, which is not secret.
    return value.startswith(("/", "~", "."))
