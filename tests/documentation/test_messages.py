"""The messages that docs/troubleshooting.md explains are in the code."""

import re

import pytest

from tests.documentation.pages import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
VARIABLE = re.compile(r"\.\.\.|'[^']*'|\d[\d.]*|[()]|\b[A-Z]{2,}\b")
"""What stands for a value in a message as the page quotes it."""
SHORTEST = 12
"""Characters that a part of a message has at least to be looked for."""


def messages() -> list[str]:
    """The messages in the first column of the table."""
    cells = re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.MULTILINE)
    return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture(scope="module")
def code() -> str:
    """The code of the packages, with strings that go over several lines in one piece and without their values."""
    texts = "\n".join(
        path.read_text() for name in ("m3d", "pipeline", "cluster") for path in (ROOT / name).rglob("*.py")
    )
    return re.sub(r"\{[^{}]*\}", "{}", re.sub(r'"\s*\n\s*[frb]*"', "", texts))


@pytest.mark.parametrize("message", messages())
def test_the_message_exists(message: str, code: str) -> None:
    parts = [part.strip(" ,;:") for part in VARIABLE.split(message)]
    long = [part for part in parts if len(part) >= SHORTEST] or [max(parts, key=len)]
    assert any(part in code for part in long), long


def test_there_are_messages() -> None:
    assert len(messages()) > 25
