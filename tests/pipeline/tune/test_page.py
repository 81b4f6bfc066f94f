"""The page of a search: it shows every plot and every kind of trial, and loads nothing from elsewhere."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.tune.page import write_page
from pipeline.tune.page.heat_map import heat_map
from pipeline.tune.page.importance import importance
from pipeline.tune.page.learning_curves import learning_curves
from pipeline.tune.page.parallel_coordinates import parallel_coordinates
from pipeline.tune.page.scale import lowest_shown, position, ticks
from pipeline.tune.space import Domain
from tests.pipeline.support.runs import small_config
from tests.pipeline.support.searches import FINAL_ROW, example_search


def page_of(folder: Path, *, rows: bool = True) -> str:
    """The page of the example search."""
    result, space = example_search()
    write_page(str(folder / "tune.html"), small_config(), result, space, [FINAL_ROW] if rows else [], name="digits")
    return (folder / "tune.html").read_text()


def test_the_page_is_complete_and_loads_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert page.count("<svg") == page.count("</svg>") == 4
    assert page.count("<h2>") == 9
    assert page.count("aria-label=") >= 8
    assert "88.5 ± 0.5" in page
    assert "the loss is not finite" in page
    assert "7 trials: 3 finished, 2 stopped early, 2 failed" in page
    loaded = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert all(target.startswith("data:") for target in loaded)


def test_without_the_test_set_the_page_does_not_mention_it(tmp_path: Path) -> None:
    assert "On the test set" not in page_of(tmp_path, rows=False)


def test_a_search_of_one_list_has_no_heat_map() -> None:
    result, space = example_search()
    listed = replace(space, domains={"kernel.name": space.domains["kernel.name"]})
    assert heat_map(result, listed) == ""
    assert parallel_coordinates(result, listed) == ""


def test_plots_of_a_search_with_a_single_trial() -> None:
    result, space = example_search()
    alone = replace(result, trials=result.trials[:1])
    assert heat_map(alone, space) == ""
    assert importance(alone, space) == {}
    assert "<svg" in learning_curves(alone)
    assert "<svg" in parallel_coordinates(alone, space)


def test_importance_finds_the_setting_that_matters() -> None:
    result, space = example_search()
    trials = [trial for trial in result.trials if trial.rungs] * 4
    varied = [
        replace(
            trial,
            key=f"k{i}",
            values={**space.start, "condense.learning_rate": 0.05 + 0.4 * i, "kernel.scales": (1, 3, 5, 7)[i % 4]},
            rungs=(replace(trial.rungs[0], accuracies=(10.0 + 3 * i, 11.0 + 3 * i)),),
        )
        for i, trial in enumerate(trials)
    ]
    importances = importance(replace(result, trials=tuple(varied)), space)
    assert max(importances, key=lambda key: importances[key]) == "condense.learning_rate"


@pytest.mark.parametrize(
    ("domain", "value", "expected"),
    [
        (Domain(kind="loguniform", low=0.1, high=10), 1.0, 0.5),
        (Domain(kind="uniform", low=2, high=4), 2.5, 0.25),
        (Domain(kind="choice", values=(5, 1, 3)), 3, 0.5),
        (Domain(kind="choice", values=("b", "a")), "b", 0.0),
        (Domain(kind="choice", values=("b",)), "b", 0.5),
    ],
)
def test_positions_on_an_axis(domain: Domain, value: object, expected: float) -> None:
    assert position(domain, value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("accuracies", "lowest"),
    [([90.0, 91.0, 92.0], 90.0), ([10.0, 90.0, 91.0, 93.0], 85.5), ([10.0, 93.0, 93.0], 10.0), ([50.0], 50.0)],
)
def test_very_poor_trials_do_not_take_up_the_scale(accuracies: list[float], lowest: float) -> None:
    assert lowest_shown(accuracies) == lowest


def test_a_scale_names_the_number_of_trials_below_it() -> None:
    result, space = example_search()
    shown = [replace(t, rungs=(replace(t.rungs[0], accuracies=(92.0, 93.0, 94.0)),)) for t in result.trials[4:5] * 6]
    trials = (*result.trials, *(replace(trial, key=f"more{number}") for number, trial in enumerate(shown)))
    svg = learning_curves(replace(result, trials=trials))
    # The sixth was not measured, the fourth and the seventh ended at 31 and 61.
    assert f"2 of {len(trials) - 1} trials ended below this scale" in svg
    assert "below this scale" not in learning_curves(replace(result, trials=result.trials[:3]))
    assert heat_map(replace(result, trials=trials), space)


def test_ticks_of_a_logarithmic_axis() -> None:
    positions, labels = ticks(Domain(kind="loguniform", low=0.03, high=10.0))
    assert labels == ["0.03", "0.1", "1", "10"]
    assert positions == sorted(positions)
    assert (positions[0], positions[-1]) == (0, 1)


def test_the_scale_contains_the_start_of_the_winner_and_of_the_given_configuration() -> None:
    result, _ = example_search()
    low = replace(
        result.winner, rungs=(replace(result.winner.rungs[0], accuracies=(20.0, 21.0)), *result.winner.rungs[1:])
    )
    trials = tuple(low if trial.key == low.key else trial for trial in result.trials)
    changed = replace(result, trials=trials)
    assert changed.winner.key == low.key
    assert ">20</text>" in learning_curves(changed)
