"""Texts of others, as a message may show them: one printable line, not too long, without credentials."""

import re

LONGEST = 200
"""Largest number of characters of a value in a message."""
USER_IN_URL = re.compile(r"://(?:[^/@\s]+|[^/@\s:]+:(?!\d{1,5}/)[^@\s]+)@")
"""User name, or user name and password, of a URL. A password may contain slashes, but a port is no password."""
SIGNATURE_IN_URL = re.compile(
    r"([?&](?:X-Amz-[\w-]+|AWSAccessKeyId|Signature|sig|token|access_token|password|secret|api_?key)=)[^&\s#'\"]+",
    re.IGNORECASE,
)
"""Signature, token or key in the query of a URL."""


def redacted(text: str) -> str:
    """The text with ``...`` instead of the credentials of its URLs."""
    return SIGNATURE_IN_URL.sub(r"\1...", USER_IN_URL.sub("://...@", text))


def printable(text: str) -> str:
    """The text with escapes for what does not print: a terminal would obey control characters of others."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def shown(value: object, most: int = LONGEST) -> str:
    """A value of unknown origin, as a message shows it: one line without credentials, its end cut off if it is long."""
    text = printable(redacted(str(value))[: most + 1])
    return text if len(text) <= most else f"{text[: most - 3]}..."
