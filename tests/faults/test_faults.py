"""A few of the trials that ``make faults`` runs in large numbers."""

from pathlib import Path

import pytest

from tests.faults.__main__ import _Nodes
from tests.faults.trial import KINDS, PHASES, run_trial, undisturbed


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """The class shards of an undisturbed run, and its condensed shards."""
    folder = tmp_path_factory.mktemp("quiet")
    return folder / "class-shards", undisturbed(folder / "run", folder / "class-shards")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(1, id="node-before"),
        pytest.param(3, id="actor-after"),
        pytest.param(5, id="driver-after"),
    ],
)
def test_a_kill_changes_nothing(
    number: int, quiet: tuple[Path, list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cache, expected = quiet
    assert expected
    kind, nodes = KINDS[number % len(KINDS)], _Nodes()
    try:
        cluster = nodes.ready() if kind == "node" else None
        outcome = run_trial(number, tmp_path, cache, expected, cluster, kind)
    finally:
        nodes.stop()
    assert (outcome.kind, outcome.phase) == (kind, PHASES[number // 3 % 2])
    assert outcome.finished, outcome.said
    assert outcome.identical
    assert outcome.passed, outcome
