"""Texts of others, as a message may show them: one printable line, not too long, without credentials."""

import re

LONGEST, MESSAGE = 200, 2000
"""Largest number of characters of a value in a message, and of a message."""
USER_IN_URL = re.compile(r"://(?:[^/@\s]{1,500}|[^/@\s:]{1,100}:(?!\d{1,5}/)[^@\s]{1,2000})@")
"""User name, or user name and password, of a URL. A password may contain slashes, but a port is no password. Bounds keep long texts fast."""
SIGNATURE_IN_URL = re.compile(
    r"([?&](?:X-Amz-[\w-]+|AWSAccessKeyId|Signature|sig|token|access_token|password|secret|api_?key)=)[^&\s#'\"]+",
    re.IGNORECASE,
)
"""Signature, token or key in the query of a URL."""
_SECRETS = (
    (
        re.compile(
            r"(?i)((?:signature|secret|passw(?:or)?d|credential|access_?key|token|api_?key)[\w-]{0,20})=[^&\s'\",;)]{8,}"
        ),
        r"\1=...",
    ),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), r"\1..."),
    (re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]{16,}"), r"\1 ..."),
)
"""Settings, keys and headers that are secrets outside of URLs as well."""
_LONG = re.compile(rf"'[^'\n]{{{LONGEST - 1},}}'|\"[^\"\n]{{{LONGEST - 1},}}\"|\S{{{LONGEST + 1},}}")
"""A value that is too long for a message: quoted, or without a space."""


def redacted(text: str) -> str:
    """The text with ``...`` instead of credentials."""
    text = SIGNATURE_IN_URL.sub(r"\1...", USER_IN_URL.sub("://...@", text))
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def printable(text: str) -> str:
    """The text with escapes for what does not print: a terminal would obey control characters of others."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def shown(value: object, most: int = LONGEST) -> str:
    """A value of unknown origin, as a message shows it: one line without credentials, its end cut off if it is long."""
    text = printable(redacted(str(value))[: most + 1])
    return text if len(text) <= most else f"{text[: most - 3]}..."


def one_line(error: object) -> str:
    """An error's message as it is printed: one printable line without credentials, long values cut in the middle."""
    text = printable(redacted(" ".join(str(error)[: 50 * MESSAGE].split())))
    return _cut(_LONG.sub(lambda found: _cut(found[0], LONGEST), text), MESSAGE)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end - 40]}... ({len(text)} characters) ...{text[-end:]}"
