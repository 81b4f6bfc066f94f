"""Names of peers' files on the command line."""

import pytest

from pipeline.errors import UserError
from pipeline.formats.peers import FORMATS, PeerFile, is_peer, parse


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("a.pt", ["layout", "a.pt:idc:factor=2"]),
        ("a.pt:idcc", ["'idcc'", "did you mean 'idc'"]),
        ("a.pt:idc:factor", ["'factor'", "factor=N"]),
        ("a.pt:idc:factor=two", ["not a number"]),
        ("a.pt:idc:factor=0", ["1 to 16"]),
        ("a.pt:dc:std=0/1/1", ["above 0"]),
        ("a.pt:dc:std=nan/1/1", ["finite"]),
        ("a.pt:dc:mean=inf/1/1", ["finite"]),
        ("a.pt:idc:ipc=3", ["'ipc=3'"]),
    ],
)
def test_wrong_names_are_refused(argument: str, parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parse(argument)
    assert all(part in str(error.value) for part in parts), str(error.value)


def test_names() -> None:
    assert parse("/x/a.pt:idc:factor=2") == PeerFile(path="/x/a.pt", layout="idc", factor=2)
    assert parse("s3://bucket/a.pt:dc").path == "s3://bucket/a.pt"
    assert [is_peer(name) for name in ("a.pt", "a.pth:dc", "runs/a.pt.d")] == [True, True, False]


def test_every_ending_of_a_format_names_a_file() -> None:
    named = [(f"/a{suffix}:{name}", name) for name, peer in FORMATS.items() for suffix in peer.suffixes]
    assert {suffix for peer in FORMATS.values() for suffix in peer.suffixes} >= {".pt", ".pth"}
    assert [(is_peer(argument), parse(argument).layout) for argument, _ in named] == [(True, name) for _, name in named]
