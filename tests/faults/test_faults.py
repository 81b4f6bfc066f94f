"""The logic of the trials without Ray, on a small program that works in steps; and one real trial per stage."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save

from tests.faults import __main__ as command
from tests.faults.outcome import End, Outcome, wrong_ends
from tests.faults.plan import Plan, combinations, drawn
from tests.faults.promise import PRESENT, differences, promised
from tests.faults.reference import Reference
from tests.faults.run import Run, environment
from tests.faults.stages import (
    ACTOR,
    GCS,
    INTERRUPT,
    KILL,
    NODE,
    RAYLET,
    STAGES,
    WORKER,
    Stage,
    take_back_commit,
)
from tests.faults.table import table
from tests.faults.trial import Trial, repeated_iterations
from tests.faults.victims import MARK, _described, is_victim, left_behind
from tests.faults.watch import Steps

PROGRAM = """
import pathlib, signal, sys, time

out, fault = pathlib.Path(sys.argv[1]), sys.argv[2]
signal.signal(signal.SIGTERM, lambda *_: (print("interrupted", file=sys.stderr), sys.exit(130)))
out.mkdir(exist_ok=True)
(out / "lease.json").write_text("mine")
for number in range(6):
    done, beside = out / f"part-{number}", out / f".part-{number}.tmp"
    if not done.exists():
        if beside.exists() and fault == "torn":
            beside.rename(done)
            continue
        beside.write_text("half")
        time.sleep(0.02)
        beside.write_text(f"content {number}")
        beside.rename(done)
if fault != "lease":
    (out / "lease.json").unlink()
"""


@dataclass(frozen=True, kw_only=True)
class Steady(Stage):
    """A program that writes six files in steps and resumes where it ended; it may have a fault."""

    fault: str = "none"

    def arguments(self, out: Path, shards: Path) -> list[str]:
        """The command line of the program."""
        return [sys.executable, "-c", PROGRAM, str(out), self.fault]


def steady(fault: str = "none") -> Steady:
    """The stage ``steady`` with a fault."""
    return Steady(name="steady", command="", settings={}, victims=(KILL,), own_shards=True, verified=False, fault=fault)


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reference:
    """Undisturbed runs, of which that of the program without a fault is made."""
    monkeypatch.setitem(STAGES, "steady", steady())
    made = Reference(tmp_path / "undisturbed")
    made.of("steady")
    return made


def plan(part: float | None = 0.5, victim: str = KILL, signal: str = "SIGKILL", pause_s: float = 0.0) -> Plan:
    """The plan of a trial of the program."""
    return Plan(trial=0, stage="steady", victim=victim, signal=signal, pause_s=pause_s, part=part, rest=0.5, which=0.5)


def outcome(trial: int, *wrong: str) -> Outcome:
    """An outcome of a trial that killed the driver."""
    return Outcome(
        trial=trial,
        stage="condense",
        victim=KILL,
        signal="SIGKILL",
        pause_s=0.0,
        step=3,
        steps=9,
        killed_after_s=1.5,
        codes=(-9, 0),
        said="",
        wrong=wrong,
        seconds=20.0,
    )


def test_fifty_trials_kill_everything_in_every_stage() -> None:
    pairs = [(drawn(number).stage, drawn(number).victim) for number in range(50)]
    assert set(pairs) == set(combinations())
    assert len(set(pairs[: len(combinations())])) == len(combinations())
    assert {stage for stage, _ in pairs} == {
        "prepare",
        "condense",
        "commit",
        "evaluate",
        "report",
        "pretrain",
        "tune",
    }


def test_a_plan_follows_from_its_number() -> None:
    plans = [drawn(number) for number in range(200)]
    assert plans == [drawn(number) for number in range(200)]
    assert {plan.signal for plan in plans if plan.victim == INTERRUPT} == {"SIGINT", "SIGTERM"}
    assert {plan.signal for plan in plans if plan.victim != INTERRUPT} == {"SIGKILL"}
    paused = [plan for plan in plans if plan.pause_s]
    assert 0.1 < len(paused) / len(plans) < 0.4
    assert not any(plan.victim in (INTERRUPT, NODE) for plan in paused)
    starting = [plan for plan in plans if plan.part is None]
    assert 0.02 < len(starting) / len(plans) < 0.3
    assert not any(plan.victim in (WORKER, ACTOR, NODE) for plan in starting)  # they do not run yet


@pytest.mark.parametrize(
    ("part", "expected"), [(None, (1, 1.0)), (0.0, (2, 2.0)), (0.5, (3, 1.0)), (0.999, (4, 0.5)), (1.0, (4, 0.5))]
)
def test_a_moment_is_a_step_and_a_part_of_the_time_to_the_next(part: float | None, expected: tuple[int, float]) -> None:
    assert plan(part).moment((1.0, 3.0, 7.0, 9.0), 10.0) == expected


def test_an_earlier_moment_comes_before() -> None:
    steps = tuple(map(float, range(20)))
    first = plan(0.9)
    moments = [first.moment(steps, 20.0), first.earlier().moment(steps, 20.0)]
    assert moments[0] > moments[1] > first.earlier().earlier().moment(steps, 20.0)
    assert plan(None).earlier().part is None


def test_steps_are_files_that_change(tmp_path: Path) -> None:
    out = tmp_path / "out"
    steps = Steps(out)
    assert steps.look() == 0
    out.mkdir()
    assert steps.look() == 0
    (out / "lease.json").write_text("a")
    assert steps.look() == 1
    (out / "lease.json").write_text("a heartbeat")
    (out / ".lease.lock").touch()
    (out / "search").mkdir()
    (out / "search" / "state").touch()
    assert steps.look() == 1
    (out / "parts").mkdir()
    (out / "parts" / ".one.tmp").write_text("1")
    assert steps.look() == 2
    (out / "parts" / ".one.tmp").rename(out / "parts" / "one")
    assert steps.look() == 3
    (out / "parts" / "one").write_text("12")
    assert steps.look() == 4
    (out / "parts" / "one").unlink()
    assert steps.look() == 5
    assert steps.look() == 5


@pytest.mark.parametrize(
    ("name", "title", "kind"),
    [
        ("raylet", "/x/raylet --raylet_socket_name=y", RAYLET),
        ("gcs_server", "/x/gcs_server --log_dir=y", GCS),
        ("ray::plan", "ray::plan", WORKER),
        ("ray::compare", "ray::compare", WORKER),
        ("ray::pretrain", "ray::pretrain", WORKER),
        ("ray::TaskActor.", "ray::TaskActor.run", WORKER),
        ("ray::evaluate", "ray::evaluate", WORKER),
        ("ray::ImplicitFun", "ray::ImplicitFunc.train()", ACTOR),
        ("ray::CondenseAc", "ray::CondenseActor", ACTOR),
        ("ray::group 0 (0-", "ray::group 0 (0-2)", ACTOR),
        ("ray::IDLE", "ray::IDLE", None),
        ("ray::DashboardAg", "ray::DashboardAgent", None),
        ("python", "python -m pipeline condense", None),
    ],
)
def test_a_process_is_a_victim_of_one_kind(name: str, title: str, kind: str | None) -> None:
    kinds = [other for other in (WORKER, ACTOR, RAYLET, GCS) if is_victim(other, name, title)]
    assert kinds == ([kind] if kind else [])


GOOD = End(code=0)
FAILED = End(code=1, said=("failed: the node was lost",))
INTERRUPTED = End(code=130, said=("interrupted; repeat the command to resume",))


@pytest.mark.parametrize(
    ("victim", "ends"),
    [
        (KILL, [End(code=-9, said=("a line", "of Ray's")), GOOD]),
        (INTERRUPT, [INTERRUPTED, GOOD]),
        (INTERRUPT, [GOOD]),
        (WORKER, [GOOD]),
        (NODE, [GOOD]),
        (RAYLET, [FAILED, GOOD]),
        (GCS, [GOOD]),
    ],
)
def test_ends_as_promised(victim: str, ends: list[End]) -> None:
    assert wrong_ends(plan(victim=victim), ends) == []


@pytest.mark.parametrize(
    ("victim", "ends", "part"),
    [
        (KILL, [End(code=-11), GOOD], "ended with -11, expected -9"),
        (KILL, [End(code=-9), FAILED, GOOD], "command 2 ended with 1"),
        (KILL, [End(code=-9), End(code=None), GOOD], "command 2 did not end in time"),
        (KILL, [End(code=-9), End(code=0, said=("a warning",))], "command 2 ended with 0 and printed 1 lines"),
        (INTERRUPT, [End(code=-2), GOOD], "ended with -2, expected 130 or 0"),
        (INTERRUPT, [End(code=130, said=("Traceback", "KeyboardInterrupt")), GOOD], "printed 2 lines on stderr"),
        (ACTOR, [FAILED, GOOD], "ended with 1, expected 0"),
        (GCS, [End(code=None), GOOD], "did not end in time"),
        (GCS, [End(code=2, said=("error: no cluster",)), GOOD], "ended with 2, expected 1 or 0"),
        (RAYLET, [End(code=1), GOOD], "printed 0 lines on stderr"),
        (RAYLET, [FAILED, FAILED, FAILED], "command 3 ended with 1"),
    ],
)
def test_ends_that_are_not_promised(victim: str, ends: list[End], part: str) -> None:
    wrong = wrong_ends(plan(victim=victim), ends)
    assert part in "; ".join(wrong)


def finished_folder(out: Path) -> Path:
    """A folder with files of several kinds."""
    (out / "condensed").mkdir(parents=True)
    (out / "condensed" / "shard-00000.arrow").write_bytes(b"pixels")
    (out / "config.json").write_text("{}")
    (out / "events.jsonl").write_text("{}\n")
    (out / "trials" / "abc").mkdir(parents=True)
    record = {"key": "abc", "values": {"a": 1}, "outcome": "finished", "facts": {}, "began": 1.0}
    rungs = [{"iteration": 3, "accuracies": [50.0], "seconds": 1.0}]
    (out / "trials" / "abc" / "record.json").write_text(json.dumps({**record, "rungs": rungs}))
    return out


def test_files_are_promised_by_content_by_value_or_by_name(tmp_path: Path) -> None:
    first, second = (finished_folder(tmp_path / name) for name in ("first", "second"))
    expected = promised(first)
    assert set(expected) == {"condensed/shard-00000.arrow", "config.json", "trials/abc/record.json"}
    assert expected["config.json"] == PRESENT
    (second / "config.json").write_text('{"nodes": 2}')
    (second / "events.jsonl").write_text("{}\n{}\n")
    later = json.loads((second / "trials" / "abc" / "record.json").read_text())
    later["began"], later["rungs"][0]["seconds"] = 9.0, 9.0
    (second / "trials" / "abc" / "record.json").write_text(json.dumps(later))
    assert differences(expected, promised(second)) == []

    later["rungs"][0]["accuracies"] = [51.0]
    (second / "trials" / "abc" / "record.json").write_text(json.dumps(later))
    (second / "condensed" / "shard-00000.arrow").write_bytes(b"pixelz")
    (second / "condensed" / ".shard-00001.arrow.ab.tmp").touch()
    (second / "lease.json").touch()
    (second / "config.json").unlink()
    assert differences(expected, promised(second)) == [
        "config.json: is missing",
        "condensed/.shard-00001.arrow.ab.tmp: was left behind",
        "lease.json: was left behind",
        "condensed/shard-00000.arrow: differs",
        "trials/abc/record.json: differs",
    ]


def test_the_metadata_of_a_checkpoint_have_no_order(tmp_path: Path) -> None:
    def saved(name: str, value: float) -> Path:
        out = finished_folder(tmp_path / name)
        path = out / "trials" / "abc" / "checkpoints" / "group-00000.safetensors"
        path.parent.mkdir()
        metadata = {key: key for key in sorted("abcdefgh", reverse=name == "second")}
        path.write_bytes(save({"pixels": torch.full((2,), value)}, metadata))
        return out

    first, second, third = saved("first", 1.0), saved("second", 1.0), saved("third", 2.0)
    expected = promised(first)
    assert differences(expected, promised(second)) == []
    assert differences(expected, promised(third)) == ["trials/abc/checkpoints/group-00000.safetensors: differs"]


def test_times_and_the_name_of_the_folder_on_a_page_are_not_promised(tmp_path: Path) -> None:
    page = (
        "<p>{accuracy}</p><figure><h3>Loss</h3>1</figure><figure><h3>Throughput</h3>{time}</figure>"
        '<section aria-labelledby="run-title">{time}</section>\n<section aria-labelledby="again-title">{time}</section>'
    )
    texts = {
        "first": page.format(accuracy="50.0", time="0:12"),
        "second": page.format(accuracy="50.0", time="0:17"),
        "third": page.format(accuracy="51.0", time="0:12"),
    }
    for name, text in texts.items():
        (finished_folder(tmp_path / name) / "report.html").write_text(text)
    expected = promised(tmp_path / "first")
    assert differences(expected, promised(tmp_path / "second")) == []
    assert differences(expected, promised(tmp_path / "third")) == ["report.html: differs"]


def test_a_damaged_file_differs(tmp_path: Path) -> None:
    out = finished_folder(tmp_path)
    expected = promised(out)
    (out / "trials" / "abc" / "record.json").write_text('{"key"')
    assert differences(expected, promised(out)) == ["trials/abc/record.json: differs"]


def test_a_commit_is_taken_back(tmp_path: Path) -> None:
    out = finished_folder(tmp_path)
    (out / "checkpoints").mkdir()
    (out / "condensed" / "manifest.json").touch()
    take_back_commit(out)
    assert not (out / "condensed").exists()
    assert (out / "checkpoints" / "group-00000.shard.arrow").read_bytes() == b"pixels"


def test_the_iterations_that_a_group_repeats(tmp_path: Path) -> None:
    events = [
        {"event": "begin", "group": 0, "iteration": 0, "time": 1.0},
        {"event": "begin", "stage": "pretrain", "seed": 0, "time": 1.5},
        {"event": "begin", "group": 1, "iteration": 0, "time": 2.0},
        {"event": "begin", "group": 0, "iteration": 40, "time": 9.0},
    ]
    metrics = [{"group": 0, "iteration": iteration, "time": iteration / 10} for iteration in (10, 50, 70, 100)]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in metrics) + '{"gro')
    assert repeated_iterations(tmp_path) == 30
    assert repeated_iterations(tmp_path / "nothing") == 0


def test_what_a_trial_leaves_running_is_found_and_killed(tmp_path: Path) -> None:
    mark = tmp_path.name + "-mark"
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with Run(sleep, environment((MARK, mark)), tmp_path / "sleep") as run:
        (title,) = left_behind(mark, 0.0)
        assert "time.sleep(60)" in title
        assert run.code() == -9
    assert left_behind(mark, 0.0) == []


def test_a_title_is_read_without_its_padding(tmp_path: Path) -> None:
    padded = [sys.executable, "-c", "import time; time.sleep(60)", "ray::_make   "]
    with Run(padded, environment((MARK, tmp_path.name)), tmp_path / "log") as run:
        assert _described(psutil.Process(run.pid))[1].endswith("ray::_make")


def test_a_command_has_its_own_environment_and_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    script = "import os, sys; print(os.environ.get('RAY_ADDRESS'), file=sys.stderr); sys.exit(3)"
    for address, said in ((None, "None"), ("here:2", "here:2")):
        with Run([sys.executable, "-c", script], environment(("A", "b"), address), tmp_path / "log") as run:
            assert run.code() == 3
            assert run.said() == [said]


@pytest.mark.parametrize("part", [None, 0.2, 0.7])
def test_a_trial_of_a_program_that_resumes_passes(part: float | None, reference: Reference, tmp_path: Path) -> None:
    made = Trial(plan(part), tmp_path / "trial", reference).run()
    assert made.passed, made.wrong
    assert made.codes == (-9, 0)
    assert 0 < made.step <= made.steps
    assert promised(tmp_path / "trial" / "run") == reference.of("steady").promised


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL"])
def test_a_trial_sends_the_signals_of_its_plan(signal: str, reference: Reference, tmp_path: Path) -> None:
    victim = INTERRUPT if signal == "SIGTERM" else KILL
    pause_s = 0.3 if victim == KILL else 0.0
    made = Trial(plan(0.4, victim, signal, pause_s), tmp_path / "trial", reference).run()
    assert made.passed, made.wrong
    assert made.codes == ((130, 0) if victim == INTERRUPT else (-9, 0))
    assert made.said == ("interrupted" if victim == INTERRUPT else "")


@pytest.mark.parametrize(("fault", "wrong"), [("lease", "lease.json: was left behind"), ("torn", "differs")])
def test_a_trial_of_a_program_with_a_fault_fails(
    fault: str, wrong: str, reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STAGES, "steady", steady(fault))
    # Some of these moments are in the middle of a write.
    trials = (Trial(plan(part), tmp_path / "trial", reference).run() for part in (0.3, 0.36, 0.42, 0.48, 0.54, 0.6))
    assert any(wrong in "; ".join(made.wrong) for made in trials)


def test_a_trial_without_a_victim_fails(reference: Reference, tmp_path: Path) -> None:
    made = Trial(plan(0.5, RAYLET), tmp_path / "trial", reference).run()
    assert made.wrong == ("there was no raylet to kill: the command ended before, 4 times",)
    assert made.codes == ()


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the trials that ``main`` runs; the fourth one fails until it is run again."""
    numbers: list[int] = []

    class Made:
        def __init__(self, plan: Plan, folder: Path, *_: object) -> None:
            self.plan, self.folder = plan, folder

        def run(self) -> Outcome:
            self.folder.mkdir(exist_ok=True)
            numbers.append(self.plan.trial)
            fails = self.plan.trial == 3 and numbers.count(3) == 1
            return outcome(self.plan.trial, *(["a shard differs"] if fails else []))

    class NoNodes:
        def ready(self) -> None: ...

        def stop(self) -> None: ...

    monkeypatch.setattr(command, "Trial", Made)
    monkeypatch.setattr(command, "Nodes", NoNodes)
    monkeypatch.setattr(Reference, "of", lambda self, name: None)
    return numbers


def test_an_interrupted_call_resumes_and_a_failed_trial_is_kept(
    tried: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command.main(["--trials", "3", "--out", str(out)]) == 0
    assert sorted(tried) == [0, 1, 2]
    (log,) = out.glob("trials-*.jsonl")
    with open(log, "a") as file:
        file.write('{"trial": 4, "stage": "con')  # the call was interrupted here
    assert command.main(["--trials", "6", "--out", str(out)]) == 1
    assert sorted(tried[3:]) == [3, 4, 5]
    said = capsys.readouterr().out
    assert "5 of 6 trials" in said
    assert f"python -m tests.faults --trial 3 --out {out}" in said
    assert [path.name for path in out.glob("trial-*")] == ["trial-003"]

    assert command.main(["--trial", "3", "--out", str(out)]) == 0
    assert tried[6:] == [3]
    assert command.main(["--trials", "6", "--out", str(out)]) == 0
    assert len(tried) == 7
    assert "6 of 6 trials" in capsys.readouterr().out


def test_the_table_has_a_row_for_each_stage_and_victim() -> None:
    other = replace(outcome(2), stage="report", victim=INTERRUPT, codes=(130, 0))
    made = table([outcome(0), outcome(1, "a shard differs"), other])
    cells = [list(column.cells) for column in made.columns]
    assert cells[0] == ["condense", "report"]
    assert cells[2:4] == [["2", "1"], ["1", "1"]]


# Real trials, one per stage. The others run by the hundred in ``make faults``.
REAL = {
    "prepare": RAYLET,
    "condense": NODE,
    "commit": GCS,
    "evaluate": WORKER,
    "report": INTERRUPT,
    "pretrain": ACTOR,
    "tune": KILL,
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """The undisturbed runs that real trials share."""
    return Reference(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("stage", "victim"), REAL.items())
def test_a_kill_changes_nothing(stage: str, victim: str, undisturbed: Reference, tmp_path: Path) -> None:
    number = next(n for n in range(1000) if (drawn(n).stage, drawn(n).victim) == (stage, victim))
    (made,) = command.run([number], tmp_path, undisturbed, tmp_path / "log").values()
    assert made.passed, made.wrong
