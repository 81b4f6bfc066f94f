"""Whether Ray Tune's own files of a search can be gone on with: a kill may have come in, or between, two of them.

Ray writes the trials, the searcher and the wrappers around the searcher one after another under one stamp, and copies them
one by one. Where they are of different moments, a limiter waits for ever for a trial that is unknown, or a searcher is
told of one that it does not know. The trials' own records are written at once, the state some seconds apart.
"""

import json
import pickle
import re
from collections.abc import Callable, Mapping, Set
from typing import Any

from pipeline import storage

STATE = re.compile(r"(experiment_state|searcher-state|search_gen_state|basic-variant-state)-(.+)\.(?:json|pkl)")
TRIALS = "experiment_state"
ENDED = ("TERMINATED", "ERROR")
"""Ray's states of a trial that has ended."""
WHOLE = ({TRIALS, "searcher-state", "search_gen_state"}, {TRIALS, "basic-variant-state"})
"""Kinds of files of a search by Optuna, and of one by a grid or at random."""


def is_whole(folder: str, recorded: Set[str], key: Callable[[Mapping[str, Any]], str]) -> bool:
    """Whether the newest state below ``folder`` is there, can be read, is of one moment, and agrees with the records.

    Args:
        folder: of Ray Tune's own files.
        recorded: keys of the trials that have a record.
        key: of a trial's values.
    """
    try:
        names = storage.files_below(folder)
        newest = _newest(names)
        if "tuner.pkl" not in names or set(newest) not in WHOLE:
            return False
        if len({stamp for stamp, _ in newest.values()}) > 1:
            return False
        pickle.loads(storage.read_bytes(storage.join(folder, "tuner.pkl")))  # names of another version are gone
        held = {kind: storage.read_bytes(storage.join(folder, name)) for kind, (_, name) in newest.items()}
        trials = [json.loads(trial) for trial, _ in json.loads(held.pop(TRIALS))["trial_data"]]
        live = {trial["trial_id"] for trial in trials if trial["status"] not in ENDED}
        known = {key(trial["config"]) for trial in trials}
        ended = {key(trial["config"]) for trial in trials if trial["status"] in ENDED}
        # A record that the state has not heard of would be run beyond the number asked for; an ended trial without one is lost.
        if not ended <= recorded <= known:
            return False
        return all(_agrees(pickle.loads(text), live) for text in held.values())
    except Exception:  # whatever a cut file makes of a pickle
        return False


def _newest(names: list[str]) -> dict[str, tuple[str, str]]:
    """Stamp and name of the newest file of each kind: those that Ray reads."""
    found = [(hit[1], hit[2], name) for name in names if (hit := STATE.fullmatch(name))]
    return {kind: (stamp, name) for kind, stamp, name in sorted(found)}


def _agrees(state: Mapping[str, Any], live: set[str]) -> bool:
    """Whether a searcher, or what wraps one, knows the trials that have not ended, and waits for no others."""
    if "_ot_trials" in state:  # Optuna's: those that ended are in it too
        return live <= set(state["_ot_trials"])
    waited = [state.get("_live_trials")]
    waited += [wrapper.get("live_trials") for wrapper in state.values() if isinstance(wrapper, Mapping)]
    return all(ids is None or set(ids) == live for ids in waited)
