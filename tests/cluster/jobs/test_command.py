"""The command of a job: what is refused before anything is sent."""

import pytest

from cluster.errors import ClusterError
from cluster.jobs.command_line import check, entrypoint, out_of

RUN = ["run", "--preset", "digits_ipc1", "--out", "/shared/demo"]


@pytest.mark.parametrize(
    "words",
    [
        RUN,
        ["evaluate", "s3://bucket/runs/a", "--set", "evaluate.seeds=5"],
        ["plan", "--preset", "digits_ipc1"],
        ["tune", "--preset", "digits_ipc10", "--out", "/shared/search"],
        ["pretrain", "--preset", "digits_ipc10", "--out", "/shared/experts"],
    ],
)
def test_commands_are_accepted(words: list[str]) -> None:
    check(words, {})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to run"),
        (["rnu"], "did you mean 'run'?"),
        (["verify", "/a"], "is not a command for a job; allowed: run, prepare"),
        (["run", "--out", "runs/demo"], "--out runs/demo: is relative"),
        (["run", "--out=runs/demo"], "--out runs/demo: is relative"),
        (["run", "--out", "/a", "--data", "photos"], "--data photos: is relative"),
        (["run", "--out", "/a", "--config", "run.json"], "--config run.json: is relative"),
        (["evaluate", "runs/demo"], "evaluate runs/demo: is relative"),
        (["evaluate", "--seeds", "5", "runs/demo"], "evaluate runs/demo: is relative"),
        (
            ["tune", "--out", "/a", "--space", "space.yaml"],
            "--space space.yaml: is relative, but the job runs on a node",
        ),
        (["tune", "--out", "/a", "--sp", "space.yaml"], "--space space.yaml: is relative"),
        (["run", "--out", "/a", "--set", "data.synsets=map.txt"], "--set data.synsets=map.txt: is relative"),
        (["run", "--out", "/a", "--set", "data.path=photos"], "--set data.path=photos: is relative"),
        (["run", "--out", "/a", "--set", "data.cache=cache"], "--set data.cache=cache: is relative"),
        (["run", "--out", "/a", "--set", "data.disk_cache=~/x"], "--set data.disk_cache=~/x: is relative"),
        (["run", "--out", "file://photos"], "--out file://photos: is relative"),
        (["run", "--out", "runs/" + "x" * 1000], "xxx...: is relative, but"),
        (["run", "--out", "\x1b[2Jx"], "--out \\x1b[2Jx: is relative"),
        (["run", "--out", "/a/\udcff"], "word 3 after --: /a/\\udcff: is not valid UTF-8"),
        (
            ["run", "--out", "s3://minio:se/cret@bucket/a"],
            "word 3 after --: contains a URL with a user name or password",
        ),
        (
            ["run", "--data", "https://h/a?X-Amz-Signature=abc"],
            "word 3 after --: contains a URL with a signature or token",
        ),
        (["run", "--out", "https://me:word@host/a"], "word 3 after --: contains a URL with a user name or password"),
        (["run", "--out", "/a", "--set", "x=AKIAIOSFODNN7EXAMPLE"], "word 5 after --: contains an AWS access key"),
    ],
)
def test_mistakes_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ClusterError) as caught:
        check(words, {})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["http://host:9000/a@b", "s3://bucket/a@b", "/shared/a@b:c", "file:///shared/a"])
def test_what_only_looks_like_a_credential_is_accepted(path: str) -> None:
    check(["run", "--out", path], {})


def test_the_value_of_a_secret_is_refused_and_not_repeated() -> None:
    with pytest.raises(ClusterError, match="the value of AWS_SECRET_ACCESS_KEY") as caught:
        check([*RUN, "--set", "data.name=hunter2hunter2"], {"AWS_SECRET_ACCESS_KEY": "hunter2hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_path_to_a_token_is_not_secret() -> None:
    check(RUN, {"RAY_AUTH_TOKEN_PATH": "/shared/demo"})


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (RUN, "/shared/demo"),
        (["run", "--out=s3://b/c"], "s3://b/c"),
        (["evaluate", "/runs/a"], "/runs/a"),
        (["plan", "--data", "/d"], ""),
    ],
)
def test_the_folder_of_a_command(words: list[str], out: str) -> None:
    assert out_of(words) == out


def test_words_stay_words_in_a_shell() -> None:
    command = entrypoint("/opt/my venv/bin/python", ["run", "--set", "data.classes=a b"])
    assert command == "'/opt/my venv/bin/python' -m pipeline run --set 'data.classes=a b'"
