"""Results of a search: ties, the winner, the table in Parquet, and the configuration for ``run``."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.cli.main import main
from pipeline.config.parsing import from_dict, to_dict
from pipeline.config.presets import preset
from pipeline.errors import FailedError
from pipeline.observability.progress import console
from pipeline.tune.results import remark, tied, trials_table, write_best, write_trials
from pipeline.tune.trial_store import Rung, TrialFolder, TrialRecord
from tests.pipeline.support.searches import example_search, example_trial, rung


def test_the_standard_error_is_that_of_the_mean() -> None:
    assert rung(1, 90, 92, 94).mean == 92
    assert rung(1, 90, 92, 94).error == pytest.approx(2 / 3**0.5)


def test_a_tie_is_a_difference_within_its_standard_error() -> None:
    error = (2 * (2 / 3**0.5) ** 2) ** 0.5
    assert tied(
        rung(1, 90, 92, 94), Rung(iteration=1, accuracies=tuple(a + error - 0.01 for a in (90, 92, 94)), seconds=0)
    )
    assert not tied(
        rung(1, 90, 92, 94), Rung(iteration=1, accuracies=tuple(a + error + 0.01 for a in (90, 92, 94)), seconds=0)
    )


def test_the_winner_is_the_best_at_the_last_rung() -> None:
    result, _ = example_search()
    assert result.winner.key == "key2"  # key5 was better at the first rung, but was stopped there
    assert result.ties == {"key3"}
    remarks = [remark(result, trial, result.ties) for trial in result.trials]
    assert remarks == ["given", "winner", "tied", "stopped", "stopped", "failed", "failed"]


def test_the_given_configuration_wins_if_it_is_as_good() -> None:
    result, _ = example_search()
    same = replace(result.trials[0], rungs=result.trials[1].rungs)
    assert replace(result, trials=(*result.trials[1:], same)).winner.key == "key1"


def test_no_trial_finished() -> None:
    result, _ = example_search()
    with pytest.raises(FailedError, match="the loss is not finite"):
        _ = replace(result, trials=result.trials[3:]).winner


def test_trials_in_parquet(tmp_path: Path) -> None:
    result, _ = example_search()
    write_trials(str(tmp_path / "trials.parquet"), result)
    rows = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert [row["trial"] for row in rows] == list(range(1, 8))
    assert [row["outcome"] for row in rows].count("failed") == 2
    assert [row["key"] for row in rows if row["winner"]] == ["key2"]
    assert [row["key"] for row in rows if row["tied"]] == ["key3"]
    assert rows[1]["kernel.bandwidth_multiplier"] == 0.5
    assert rows[1]["rung_accuracies"] == [[75, 76, 77], [90, 91, 92]]
    assert rows[5]["accuracy"] is None
    assert rows[5]["why"] == "the loss is not finite"


def test_values_of_several_types_share_a_column(tmp_path: Path) -> None:
    result, _ = example_search()
    mixed = [
        replace(trial, values={**trial.values, "kernel.scales": value})
        for trial, value in zip(result.trials, (1, 2.5, 3, 4, 5, 6, 7), strict=True)
    ]
    words = [
        replace(trial, values={**trial.values, "kernel.name": value})
        for trial, value in zip(mixed, ("a", None, 3, 4, 5, 6, 7), strict=True)
    ]
    write_trials(str(tmp_path / "trials.parquet"), replace(result, trials=tuple(words)))
    rows = pq.read_table(tmp_path / "trials.parquet").to_pylist()
    assert rows[1]["kernel.scales"] == 2.5
    assert [json.loads(row["kernel.name"]) for row in rows[:3]] == ["a", None, 3]


def test_best_is_a_full_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = preset("cifar10_ipc10")
    values = {"kernel.bandwidth_multiplier": 0.5, "condense.learning_rate": 7.5}
    path = tmp_path / "best.json"
    write_best(str(path), given, example_trial(1, values, [], "finished"))
    best = from_dict(json.loads(path.read_text()), origin="best.json")
    assert best.kernel.bandwidth_multiplier == 0.5
    assert best.condense == replace(given.condense, learning_rate=7.5)  # the full schedule, and an absolute rate
    assert (best.data, best.evaluate) == (given.data, given.evaluate)  # all classes, its own split and seeds
    assert main(["show-config", "--config", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == to_dict(best)


def test_a_rate_that_was_not_searched_is_absolute_too(tmp_path: Path) -> None:
    write_best(
        str(tmp_path / "best.json"), preset("cifar10_ipc10"), example_trial(1, {"kernel.scales": 3}, [], "finished")
    )
    assert json.loads((tmp_path / "best.json").read_text())["condense"]["learning_rate"] == 10


def test_the_table_names_the_winner_first() -> None:
    result, _ = example_search()
    screen = console()
    with screen.capture() as captured:
        screen.print(trials_table(result))
    lines = [line for line in captured.get().splitlines() if "±" in line]
    assert "winner" in lines[1]  # after the title
    assert "91.0 ± 0.6" in lines[1]
    assert "not finite" not in captured.get()


def test_a_record_round_trips(tmp_path: Path) -> None:
    folder = TrialFolder(str(tmp_path), "abc")
    begun = folder.begin({"kernel.scales": 3})
    assert folder.begin({"kernel.scales": 3}) == begun == folder.read()
    complete = folder.write(replace(begun, rungs=(rung(3, 1.5, 2.5),), outcome="finished", facts={"device": "CPU"}))
    assert folder.read() == complete
    assert folder.settle("failed", "late") == complete  # an outcome is recorded once


def test_a_damaged_record_is_ignored(tmp_path: Path) -> None:
    folder = TrialFolder(str(tmp_path), "abc")
    folder.begin({"kernel.scales": 3})
    path = tmp_path / "abc" / "record.json"
    path.write_text(path.read_text().replace('"running"', '"finished"'))
    assert folder.read() is None
    assert isinstance(folder.begin({}), TrialRecord)
