"""Following a job, with a client that plays back what a job server sends."""

import asyncio
import io
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cluster.errors import ClusterError, NoSuchJobError
from cluster.jobs import follow, listing, outcome
from cluster.jobs.client import JobServer

ADDRESS = "http://head:8265"


def known(status: str, code: int | None = None, message: str = "") -> Any:
    return SimpleNamespace(
        status=status,
        driver_exit_code=code,
        message=message,
        submission_id="m3d-run-a-1",
        job_id=None,
        start_time=1_700_000_000_000,
        end_time=1_700_000_012_400,
        metadata={"command": "run", "out": "/shared/a"},
    )


class Client:
    """Plays back connections, each a list of chunks with an error or nothing at its end, and states of the job."""

    def __init__(self, connections: list[list[Any]], states: list[Any]) -> None:
        self.connections, self.states, self.stopped = connections, states, False

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        for chunk in self.connections.pop(0) if self.connections else []:
            if isinstance(chunk, BaseException):
                raise chunk
            if chunk is None or isinstance(chunk, float):
                await asyncio.sleep(chunk or 60)
            else:
                yield chunk

    def get_job_info(self, job: str) -> Any:
        details = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(details, BaseException):
            raise details
        return details

    def stop_job(self, job: str) -> bool:
        self.stopped = True
        return True


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PAUSE_S", 0.0)


def server(client: Client) -> JobServer:
    return JobServer(address=ADDRESS, client=cast(Any, client))


def followed(client: Client) -> tuple[Any, str]:
    to = io.StringIO()
    return follow.follow(server(client), "job-1", to), to.getvalue()


def test_output_is_printed_until_the_end() -> None:
    details, text = followed(Client([["one\n", "two\n"]], [known("SUCCEEDED", 0)]))
    assert (text, outcome.exit_code(details)) == ("one\ntwo\n", 0)


def test_a_broken_connection_continues_where_it_broke() -> None:
    broken = RuntimeError("WebSocket connection closed unexpectedly")
    client = Client(
        [["one\ntw", broken], ["one\ntwo\nthr", broken], ["one\n", "two\nthree\n"]],
        [known("RUNNING"), ConnectionError("gone for a moment"), known("SUCCEEDED", 0)],
    )
    assert followed(client)[1] == "one\ntwo\nthree\n"


def test_a_job_whose_output_breaks_off_at_its_end_is_ended() -> None:
    client = Client([["one\n", RuntimeError("closed")]], [known("FAILED", 3)])
    details, text = followed(client)
    assert (text, outcome.exit_code(details)) == ("one\n", 3)


def test_a_silent_job_is_followed_as_long_as_the_server_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SILENCE_S", 0.01)
    states = [known("RUNNING")] * (3 * follow.RETRIES) + [known("SUCCEEDED", 0)]
    client = Client([["one\n", None], ["one\n", "two\n"], ["never"]], states)
    details, text = followed(client)
    assert (outcome.status_of(details), text) == ("SUCCEEDED", "one\ntwo\n")
    assert client.connections == [
        ["never"]
    ]  # silence alone opens no other connection, which would send everything again


def test_output_after_a_silence_comes_from_the_same_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SILENCE_S", 0.01)
    client, to = Client([["one\n", 0.1, "two\n"]], []), io.StringIO()
    monkeypatch.setattr(client, "get_job_info", lambda job: known("SUCCEEDED" if "two" in to.getvalue() else "RUNNING"))
    follow.follow(server(client), "job-1", to)
    assert to.getvalue() == "one\ntwo\n"


def test_a_server_that_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SILENCE_S", 0.01)
    with pytest.raises(ClusterError, match="does not answer"):
        followed(Client([["one\n", None]] + [[None]] * 20, [known("RUNNING"), ConnectionError("ReadTimeout")]))


def test_a_cluster_that_is_gone_is_reported() -> None:
    with pytest.raises(ClusterError, match="does not answer"):
        followed(Client([["one\n", OSError("closed")]], [OSError("refused")]))


def test_a_job_that_does_not_exist() -> None:
    with pytest.raises(NoSuchJobError, match=r"job-1: is not a job of http://head:8265"):
        followed(
            Client([[RuntimeError("404")]], [RuntimeError("Request failed with status code 404: Job does not exist")])
        )


def test_an_output_that_never_comes_ends() -> None:
    with pytest.raises(ClusterError, match="its output cannot be followed"):
        followed(Client([], [known("RUNNING")]))


@pytest.mark.parametrize(
    ("details", "code", "message"),
    [
        (known("SUCCEEDED", 0), 0, "succeeded"),
        (known("FAILED", 2), 2, "failed with exit code 2; the last lines of its output say why"),
        (known("FAILED", -9), 137, "failed with exit code 137; the last lines of its output say why"),
        (known("FAILED", None, "setup failed\nno module x"), 1, "failed before it started: no module x"),
        (known("FAILED", None), 1, "failed before it started: no reason given"),
        (known("STOPPED", 130), 130, "was stopped; submit the same command again to resume"),
    ],
)
def test_the_end_of_a_job_is_an_exit_code_and_a_line(details: Any, code: int, message: str) -> None:
    assert (outcome.exit_code(details), outcome.summary(details)) == (code, message)


def test_a_stop_waits_for_the_end() -> None:
    client = Client([], [known("RUNNING"), known("RUNNING"), known("STOPPED", 130)])
    details = follow.stop(server(client), "job-1")
    assert client.stopped
    assert outcome.status_of(details) == "STOPPED"


def test_a_stop_that_does_not_work_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "STOP_S", 0.0)
    with pytest.raises(ClusterError, match=r"job-1: is still RUNNING after 0 s"):
        follow.stop(server(Client([], [known("RUNNING")])), "job-1")


@pytest.mark.parametrize(
    ("flag", "terminal", "answer", "stopped"),
    [
        (True, False, "", True),
        (False, False, "", False),
        (False, True, "s\n", True),
        (False, True, "\n", False),
        (False, True, "l\n", False),
    ],
)
def test_an_interrupt_stops_the_job_or_leaves_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flag: bool,
    terminal: bool,
    answer: str,
    stopped: bool,
) -> None:
    typed = io.StringIO(answer)
    monkeypatch.setattr(typed, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stdin", typed)
    client = Client([], [known("STOPPED", 130)])
    assert follow.decide(server(client), "job-1", flag) == 130
    assert client.stopped is stopped
    message = capsys.readouterr().err
    assert ("was stopped" if stopped else "keeps running; follow it with") in message


def test_jobs_are_listed() -> None:
    assert listing.described(known("FAILED", 2)).startswith("job m3d-run-a-1: FAILED, exit code 2, began ")
    rows = listing.table([known("RUNNING"), known("SUCCEEDED", 0)]).splitlines()
    assert rows[0].split() == list(listing.COLUMNS)
    assert [row.split()[1] for row in rows[1:]] == ["RUNNING", "SUCCEEDED"]
    assert rows[1].endswith("12 s  run      /shared/a")
    assert listing.table([]) == "no jobs"


def test_what_others_wrote_does_not_command_the_terminal() -> None:
    job = known("FAILED", message="\x1b[2Jcause at s3://key:secret@bucket/a\x07")
    job.submission_id = "m3d\x1b]0;owned\x07\u202e"
    job.metadata = {"command": "run\r\nfake  SUCCEEDED", "out": "s3://key:sec/ret@bucket/" + "x" * 1000}
    text = "\n".join([listing.table([job]), listing.described(job), outcome.summary(job)])
    assert all(line.isprintable() for line in text.splitlines())
    assert "m3d\\x1b]0;owned\\x07\\u202e" in text
    assert "run\\r\\nfake" in text
    assert "\\x1b[2Jcause at s3://...@bucket/a\\x07" in text
    assert "sec" not in text
    assert max(map(len, text.splitlines())) < 700
