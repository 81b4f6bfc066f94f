"""What ``submit`` finds out before it uploads anything, what a profile's command does, and how far a job is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.cli.main import main
from cluster.errors import ClusterError
from cluster.jobs import listing, progress, upload, validate
from cluster.jobs.client import JobServer

ROOT = str(upload.project())


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run", "--preset", "cifar10_ip1", "--out", "/x"], ["cifar10_ip1", "did you mean 'cifar10_ipc1'"]),
        (["run", "--out", "/x", "--set", "condense.itertions=3"], ["did you mean 'condense.iterations'"]),
        (["run", "--out", "/x", "--set", "encoder.name=convnt3"], ["did you mean 'convnet3'"]),
        (["run", "--otu", "/x"], ["the following arguments are required: --out"]),
        (["prepare", "--preset", "digits_ipc1"], ["--out: not given"]),
        (["plan", "--preset", "digits_ipc1", "--gpus", "0"], ["--gpus 0: allowed"]),
        (["evaluate", "/x", "--architectures", "convnt3"], ["did you mean 'convnet3'"]),
        (["evaluate", "/x", "--seeds", "five"], ["evaluate.seeds"]),
        (["evaluate", "/x", "--set", "condense.factor=3"], ["evaluate accepts evaluate.*"]),
        (["tune", "--out", "/x", "--trials", "3", "--time-budget", "soon"], ["--time-budget soon"]),
        (["evaluate", "/x", "--set", "evaluate.epochs=none"], ["evaluate.epochs"]),
    ],
)
def test_a_mistake_is_found_before_the_upload(words: list[str], parts: list[str]) -> None:
    with pytest.raises(ClusterError) as caught:
        validate.check(words, ROOT)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)
    assert "error:" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--preset", "digits_ipc1", "--out", "/nowhere/run"],
        ["run", "--config", "/nowhere/settings.json", "--out", "/nowhere/run"],
        ["condense", "--preset", "photos_ipc1", "--data", "/nowhere/photos", "--out", "s3://bucket/run"],
        ["evaluate", "/nowhere/run", "--seeds", "5", "--set", "evaluate.on=validation", "--set", "data.cache=/nowhere"],
        ["plan", "--preset", "cifar10_ipc1", "--data", "/nowhere"],
    ],
)
def test_what_only_the_cluster_can_know_is_left_to_it(words: list[str]) -> None:
    validate.check(words, ROOT)


def test_submit_checks_before_it_connects(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["submit", "--address", "http://127.0.0.1:1", "--", "run", "--preset", "digts_ipc1", "--out", "/x"]) == 2
    )
    assert "did you mean 'digits_ipc1'?" in capsys.readouterr().err


def test_a_profile_may_contain_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("address: http://head:8265\ncommand: run --preset digits_ipc1 --out '/shared/two words'\n")
    assert main(["submit", "--profile", str(job), "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith(
        "-- python -m pipeline run --preset digits_ipc1 --out '/shared/two words'\n"
    )
    assert main(["submit", "--profile", str(job), "--dry-run", "--", "run", "--out", "/other"]) == 0
    assert capsys.readouterr().out.endswith("-- python -m pipeline run --out /other\n")
    job.write_text("command: run --out '/shared\n")
    assert main(["submit", "--profile", str(job), "--dry-run"]) == 2
    assert "command: no closing quotation; quote it as in a shell" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("condense: 30%, 0/2 groups, 2.7 it/s, loss 0.7530, 0:31 left\n", "condense 30%, 0:31 left"),
        (
            "condense: 100%, 2/2 groups\nevaluate: 11%, 1/9 networks, 1:01:43 left\nsomething else\n",
            "evaluate 11%, 1:01:43 left",
        ),
        ("prepare: 100%, 1797 of 1797 images\n", "prepare 100%"),
        ("loss: high\n", ""),
        ("", ""),
    ],
)
def test_progress_is_read_from_the_output(output: str, text: str) -> None:
    assert progress.described(output) == text


def test_a_long_hostile_line_is_read_quickly() -> None:
    assert progress.described("condense: 30%" + ", 1 left" * 100_000) == ""


def test_status_and_list_say_how_far_a_running_job_is() -> None:
    server = JobServer(
        address="http://h:1", client=cast(Any, SimpleNamespace(get_job_logs=lambda _: "tune: 5%, 2:00 left\n"))
    )
    running, ended = (
        cast(Any, SimpleNamespace(submission_id="a", status=status, start_time=1000, end_time=2000, metadata={}))
        for status in ("RUNNING", "SUCCEEDED")
    )
    assert progress.progress_of(server, running) == "tune 5%, 2:00 left"
    assert progress.progress_of(server, ended) == ""
    assert listing.described(running, "tune 5%").endswith(", tune 5%")
    assert "tune 5%, 2:00 left" in listing.table([running, ended], lambda job: progress.progress_of(server, job))
