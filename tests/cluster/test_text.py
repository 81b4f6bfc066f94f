"""Texts of others in messages."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.text import LONGEST, redacted, shown


@settings(max_examples=50)
@given(st.text(max_size=300))
def test_a_shown_value_is_one_printable_line_of_limited_length(text: str) -> None:
    result = shown(text)
    assert result.isprintable()
    assert len(result) <= LONGEST
    if text.isprintable() and len(text) <= LONGEST and "://" not in text and "=" not in text:
        assert result == text


SECRETS = st.text(string.ascii_letters + string.digits + "+/:%-_.", min_size=1, max_size=50)


@given(SECRETS, st.sampled_from(["https", "s3", "http"]))
def test_a_password_in_a_url_is_not_shown(secret: str, scheme: str) -> None:
    assert shown(f"x {scheme}://user:q{secret}q@host/a b") == f"x {scheme}://...@host/a b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "https://h/a?X-Amz-Credential=AKIA/x&X-Amz-Signature=ab&part=1",
            "https://h/a?X-Amz-Credential=...&X-Amz-Signature=...&part=1",
        ),
        ("https://token@h/", "https://...@h/"),
        ("https://h:8265/user/me@example.com/", "https://h:8265/user/me@example.com/"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("me@example.com", "me@example.com"),
    ],
)
def test_only_credentials_are_removed(text: str, expected: str) -> None:
    assert redacted(text) == expected


def test_credentials_at_the_cut_are_removed_before_it() -> None:
    assert "secret" not in shown("x" * 150 + "https://user:" + "secret" * 100 + "@host/")
