"""JSON and YAML of strangers: bounded depth, bounded numbers, no aliases."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage import safe_json
from pipeline.storage.safe_json import DEPTH, parse_json
from pipeline.storage.safe_yaml import parse_yaml

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(-1e90, 1e90) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_json_of_any_value_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False, indent=1)) == value


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\0123456789.eE-+ntfaINy \ud800', max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_json_or_a_value_error(data: bytes | str) -> None:
    try:
        value = parse_json(data)
    except ValueError as error:
        assert len(str(error)) < 400
    else:
        assert json.dumps(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * (DEPTH + 1) + "]" * (DEPTH + 1), "nested more than 64 deep"),
        ('{"a":' * 900 + "1" + "}" * 900, "nested more than 64 deep"),
        ("[" * 100_000, "nested more than 64 deep"),
        ("[1, NaN]", "has NaN"),
        ("[-Infinity]", "has -Infinity"),
        ("[1e999]", "more than 64 bits"),
        ("9" * 5000, "4300 digits"),
        ("9" * 25, "more than 64 bits"),
        (f"[{2**64}]", "more than 64 bits"),
        (f"[-{2**64}]", "more than 64 bits"),
        ("9" * 400 + ".0", "more than 64 bits"),
        ('["' + '\\"' * 200_000, "Unterminated string"),
    ],
)
def test_json_beyond_the_limits(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


@pytest.mark.parametrize("text", ["[[],[],[]]", '[{},{},{"a":1}]', '["[[[["]'])
def test_the_number_of_containers_is_bounded(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert parse_json(text)
    monkeypatch.setattr(safe_json, "CONTAINERS", 3)
    with pytest.raises(ValueError, match="has more than 3 lists and objects"):
        parse_json(text)


def test_brackets_and_digits_in_texts_do_not_count() -> None:
    value = {"a": "[" * 500, 'b"\\': "9" * 50 + "e999", "c": [[1]], "d": 0.12345678901234567890123}
    assert parse_json(json.dumps(value)) == value
    nested: Any = 1
    for _ in range(DEPTH):
        nested = [nested]
    assert parse_json(json.dumps(nested)) == nested


@pytest.mark.parametrize("value", [2**64 - 1, 1 - 2**64, 1e300, -1.5e200, 1e-300, 5e-324])
def test_numbers_of_64_bits_are_read(value: float) -> None:
    assert parse_json(json.dumps([value])) == [value]


def test_numbers_of_other_programs_are_read_if_nobody_uses_them() -> None:
    text = f'{{"a": NaN, "b": -Infinity, "c": {2**70}, "d": 1e999, "e": [1]}}'
    value = parse_json(text, any_number=True)
    assert (value["b"], value["c"], value["e"]) == (-float("inf"), 2**70, [1])
    with pytest.raises(ValueError, match="nested"):
        parse_json("[" * 65 + "]" * 65, any_number=True)


@given(VALUES.filter(lambda value: not isinstance(value, float)))
@settings(max_examples=50, deadline=None)
def test_yaml_of_any_value_is_read_as_yaml(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True)
    assert repr(parse_yaml(text.encode())) == repr(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [x]\nb: *a", "alias"),
        ("a: &a {x: 1}\nb: {<<: [*a, *a]}", "alias"),
        ("&a [*a]", "alias"),
        ("[" * 80 + "]" * 80, "nested more than 64 deep"),
        ("- " * 3000, "nested more than 64 deep"),
        ("9" * 5000, "4300 digits"),
        ("0x" + "f" * 4000, "more than 3000 digits"),
        ("2001-99-99", "month must be in"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: [", "while parsing"),
        ("!!int x", "invalid literal"),
        ("!!bool x", "cannot be read"),
    ],
)
def test_yaml_beyond_the_limits(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_yaml(text.encode())
