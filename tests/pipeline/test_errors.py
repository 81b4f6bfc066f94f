"""Messages: one line, nothing that a terminal obeys, no long value and no credential."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table

from cluster import text as of_cluster
from m3d.config import ConfigError, check, shown
from pipeline import errors
from pipeline.config.run_config import Resources
from pipeline.observability import progress
from tests.pipeline.conftest import Told

Shown = Callable[[str], str]
PRINTABLE = pytest.mark.parametrize(
    "printable",
    [errors.printable, lambda text: of_cluster.printable(of_cluster.redacted(text))],
    ids=["pipeline", "cluster"],
)
ONE_LINE = pytest.mark.parametrize("one_line", [errors.one_line, of_cluster.one_line], ids=["pipeline", "cluster"])


@PRINTABLE
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[2Jb\x9bc\x07", r"a\x1b[2Jb\x9bc\x07"),
        ("photo\u202egnp.exe", r"photo\u202egnp.exe"),
        ("name\udcff", r"name\udcff"),
        ("Zürich, 猫", "Zürich, 猫"),
        ("http://me:secret@host:9000/a", "http://...@host:9000/a"),
        ("s3://KEY:SEC/RET@bucket/a", "s3://...@bucket/a"),
        ("https://host/a?X-Amz-Signature=0123456789&x=1", "https://host/a?X-Amz-Signature=...&x=1"),
        ("https://host/a?sig=0123456789abc", "https://host/a?sig=..."),
        ("AWS_SECRET_ACCESS_KEY=0123456789", "AWS_SECRET_ACCESS_KEY=..."),
        ("key AKIAEXAMPLEEXAMPLE00", "key AKIA..."),
        ("Authorization: Bearer 0123456789abcdef", "Authorization: Bearer ..."),
        ("s3://bucket/a@b and /data/a@b", "s3://bucket/a@b and /data/a@b"),
        ("set RAY_AUTH_MODE=token, or a bearer token", "set RAY_AUTH_MODE=token, or a bearer token"),
    ],
)
def test_printable(printable: Shown, text: str, expected: str) -> None:
    assert printable(text) == expected


def test_tabs_and_line_ends_of_tables_stay() -> None:
    assert errors.printable("a\tb\nc") == "a\tb\nc"


@ONE_LINE
@pytest.mark.parametrize("value", ["x" * 5000, "'" + "two words " * 500 + "'", '"' + "two words " * 500 + '"'])
def test_a_message_repeats_no_long_value(one_line: Shown, value: str) -> None:
    line = one_line(f"a: given {value}, allowed: b\nc")
    assert len(line) < 250
    assert line.startswith("a: given ")
    assert line.endswith(", allowed: b c")


@ONE_LINE
def test_a_long_message_takes_no_long(one_line: Shown) -> None:
    for part in ("x", "://", "://a:", "token", "'", "bearer ", "\x1b", "a "):
        began = time.monotonic()
        one_line(part * 200_000)
        assert time.monotonic() - began < 10


def test_a_value_of_a_setting_is_cut() -> None:
    assert shown("short") == "'short'"
    assert len(shown("x" * 10**6)) < 200
    assert "1000000 characters" in shown("x" * 10**6)
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert len(shown(nested)) < 200
    with pytest.raises(ConfigError) as caught:
        check("scales", "7 " * 1000, False, "a number")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["show-config", "--preset", "digits_ipc1", "--set", "data.source=" + "a b " * 300],
        ["show-config", "--preset", "digits_ipc1", "--set", "a b " * 300],
        ["show-config", "--preset", "digits_ipc1", "--set", "kernel.scales=" + "a b " * 300],
        ["show-config", "--preset", "a b " * 300],
        ["show-config", "--config", "/a/" + "b c " * 300],
        ["evaluate", "x", "--sets", "a b " * 300],
        ["tune", "--trials", "2", "--time-budget", "a b " * 300, "--out", "x"],
        ["report", "http://" + "a" * 3000],
    ],
)
def test_a_command_line_is_not_repeated(call: Callable[..., Told], arguments: list[str]) -> None:
    code, lines, _ = call(*arguments)
    assert (code, len(lines)) == (2, 1)
    assert "a b " * 60 not in lines[0]
    assert "a" * 201 not in lines[0]


def test_argparse_repeats_no_long_value(call: Callable[..., Told], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call("tune", "--trials", "x" * 5000, "--out", "a\x1b[2J")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "x" * 201 not in said
    assert "invalid int value: 'xxx" in said


def test_nothing_that_is_printed_is_obeyed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b]0;owned\x07\x9b2J http://me:secret@host/a"
    progress.say(name)
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    progress.console().print(table)
    with progress.Display(name, 2) as display:
        display.note(name)
        display.update(1, name)
    said = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b"} & set(said)
    assert "secret" not in said
    assert r"\x1b]0;owned" in said


def test_a_terminal_still_gets_its_own_controls() -> None:
    target = io.StringIO()
    console = progress._PrintableConsole(file=target, force_terminal=True, color_system="standard")
    console.print("[red]a[/red]\x1b[2J")
    assert "\x1b[31ma" in target.getvalue()
    assert "\x1b[2J" not in target.getvalue()


def test_an_address_with_a_user_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match=r"^resources\.address: given an address that contains a user name") as caught:
        Resources(address="http://me:secret@host:6379")
    assert "secret" not in str(caught.value)


def test_a_damaged_file_is_one_line(call: Callable[..., Told], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"\\u001b[2J' + "k" * 3000 + '": 1}')
    code, lines, _ = call("show-config", "--config", str(tmp_path / "config.json"))
    assert (code, len(lines)) == (2, 1)
    assert "\x1b" not in lines[0]
    assert "k" * 201 not in lines[0]
