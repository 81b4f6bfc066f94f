"""The line of ``--dry-run`` does the same as ``submit``, whatever the words contain."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

from cluster.cli.main import main
from cluster.jobs import job, upload
from cluster.jobs.client import JobServer
from cluster.jobs.profile import Profile

ADDRESS = "http://head:8265/team a&b"
WORDS = [
    "run",
    "--out",
    "/shared/two words",
    "--set",
    'data.classes=it\'s,"quoted",$HOME,`id`,$(id),*,~,!x,#,;,&&,|,>o,\\n,\\,%PATH%,{a,b},[a-z],é,日本',
    "--set",
    "data.name=first\nsecond\r\n\tthird",
    "--data",
    "-- --dashes",
    "--config=",
    "",
    "--preset=\x1b[0m",
]
SHOW = f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps(sys.argv[1:]))\n"


def prepared(folder: Path) -> job.Job:
    profile = Profile(
        python=f"{folder}/my venv/python",
        env={"A": "it's $HOME\n*"},
        entrypoint_num_cpus=0.5,
        entrypoint_memory=10**9,
        entrypoint_resources={"head": 1},
        metadata={"team": "a 'b' \"c\" $d"},
    )
    return job.prepare(profile, WORDS, {}, upload.project())


def in_a_shell(line: str, folder: Path, shell: str) -> list[str]:
    """The arguments that a program gets which a line calls: ``ray`` or the interpreter."""
    (folder / "my venv").mkdir()
    for path in (folder / "ray", folder / "my venv" / "python"):
        path.write_text(SHOW)
        path.chmod(0o755)
    done = subprocess.run(
        [shell, "-c", line],
        capture_output=True,
        text=True,
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        cwd=folder,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sent_here(sent: job.Job) -> dict[str, Any]:
    """What the client of ``submit`` is asked to send."""
    calls: list[dict[str, Any]] = []
    client = SimpleNamespace(list_jobs=list, submit_job=lambda **values: calls.append(values))
    job.submit(JobServer(address=ADDRESS, client=cast(Any, client)), sent, WORDS)
    return calls[0]


def sent_by_ray(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Ray's own command sends for these arguments of ``ray``."""
    from ray.dashboard.modules.job import cli

    calls: list[dict[str, Any]] = []
    client = SimpleNamespace(submit_job=lambda **values: calls.append(values), get_version=lambda: "0")
    monkeypatch.setattr(cli, "_get_sdk_client", lambda address, **others: calls.append({"address": address}) or client)
    done = CliRunner().invoke(cli.submit, arguments[2:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert arguments[:2] == ["job", "submit"]
    return {**calls[0], **calls[1]}


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_pasted_line_sends_what_submit_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    sent = prepared(tmp_path)
    arguments = in_a_shell(job.command_line(sent, ADDRESS), tmp_path, shell)
    pasted = sent_by_ray(arguments, monkeypatch)
    assert pasted.pop("address") == ADDRESS
    assert {key: value for key, value in pasted.items() if value is not None} == sent_here(sent)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_every_word_arrives_as_it_was_given(tmp_path: Path, shell: str) -> None:
    # Ray runs the entrypoint in a shell of the node.
    assert in_a_shell(sent_here(prepared(tmp_path))["entrypoint"], tmp_path, shell) == ["-m", "pipeline", *WORDS]


RUN = ["--dry-run", "--", "run", "--preset", "digits_ipc1", "--out", "/shared/a"]


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_an_address_in_the_environment_does_not_redirect_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    # Ray prefers the variables to its own option.
    monkeypatch.setenv(name, "http://other:8265")
    assert main(["submit", "--address", "http://head:8265", *RUN]) == 0
    line = capsys.readouterr().out
    assert line.startswith("RAY_API_SERVER_ADDRESS=http://head:8265 ray job submit --address http://head:8265 ")
    monkeypatch.setenv(name, "http://head:8265")
    assert main(["submit", "--address", "http://head:8265", *RUN]) == 0
    assert capsys.readouterr().out.startswith("ray job submit --address http://head:8265 ")


def test_the_line_names_the_token_of_a_local_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from cluster.cli import commands

    found = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{tmp_path}/my token"}
    monkeypatch.setattr(commands.token, "variables_for", lambda *others: found)
    assert main(["submit", "--address", "http://127.0.0.1:1", *RUN]) == 0
    start = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH='{tmp_path}/my token' ray job submit "
    assert capsys.readouterr().out.startswith(start)


def test_a_line_that_stdout_would_change_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["submit", "--address", "http://h:1", "--dry-run", "--", "run", "--out", "/shared/é"]
    for encoding, code in (("ascii", 2), ("utf-8", 0)):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert main(arguments) == code
    message = "error: --dry-run: the command has characters that ascii, the encoding of stdout, lacks;"
    assert capsys.readouterr().err.startswith(message)
