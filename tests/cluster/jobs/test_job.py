"""What Ray is values of a job, and what travels with it."""

import json
import shlex
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

from cluster.errors import ClusterError
from cluster.jobs import job, upload
from cluster.jobs.profile import Profile

WORDS = ["run", "--preset", "digits_ipc1", "--out", "s3://bucket/runs/My demo"]
ROOT = upload.project()


def prepared(profile: Profile | None = None, environment: dict[str, str] | None = None) -> job.Job:
    return job.prepare(profile or Profile(), WORDS, environment or {}, ROOT)


def test_a_submission_id_follows_from_the_command() -> None:
    assert job.submission_id(WORDS) == job.submission_id(list(WORDS)) == prepared().submission_id
    assert job.submission_id(WORDS).startswith("m3d-run-My-demo-")
    assert job.submission_id([*WORDS, "--debug"]) != job.submission_id(WORDS)
    assert job.submission_id(WORDS, 2) == f"{job.submission_id(WORDS)}-2"


def test_only_variables_that_are_no_secrets_are_passed_on() -> None:
    environment = {
        "AWS_ENDPOINT_URL": "http://minio:9000",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "hunter2hunter2",
        "AWS_SESSION_TOKEN": "hunter3hunter3",
        "RAY_AUTH_TOKEN": "hunter4hunter4",
        "HOME": "/home/me",
    }
    sent = prepared(environment=environment)
    assert sent.runtime_env["env_vars"] == {
        "RAY_JOB_STOP_WAIT_TIME_S": "30",
        "RAY_DEDUP_LOGS_SKIP_REGEX": "Raylet is terminated|has been marked dead",
        "AWS_ENDPOINT_URL": "http://minio:9000",
        "AWS_REGION": "eu-west-1",
    }
    everything = json.dumps([sent.entrypoint, sent.runtime_env, sent.metadata]) + job.command_line(
        sent, "http://head:8265"
    )
    assert "hunter" not in everything
    assert "AKIA" not in everything


def test_a_credential_in_a_variable_that_would_be_passed_on_is_refused() -> None:
    with pytest.raises(ClusterError, match="the variable AWS_ENDPOINT_URL: contains a URL with a user name"):
        prepared(environment={"AWS_ENDPOINT_URL": "http://me:word@minio:9000"})


def test_a_profile_says_what_the_nodes_need() -> None:
    profile = Profile(
        python="/opt/venv/bin/python",
        upload=False,
        pip=["m3d-condense==0.1.0"],
        env={"A": "b"},
        entrypoint_num_cpus=1,
        metadata={"team": "vision"},
    )
    sent = prepared(profile)
    assert sent.entrypoint.startswith("/opt/venv/bin/python -m pipeline run")
    assert "working_dir" not in sent.runtime_env
    assert sent.runtime_env.get("pip") == ["m3d-condense==0.1.0"]
    assert sent.runtime_env["env_vars"]["A"] == "b"
    assert sent.resources == {"entrypoint_num_cpus": 1}
    assert sent.metadata == {
        "project": "m3d-condense",
        "command": "run",
        "out": "s3://bucket/runs/My demo",
        "team": "vision",
    }


def test_the_line_for_ray_says_the_same() -> None:
    sent = prepared(Profile(entrypoint_num_cpus=1, entrypoint_resources={"head": 0.1}))
    words = shlex.split(job.command_line(sent, "http://head:8265"))
    options, entrypoint = words[3 : words.index("--")], words[words.index("--") + 1 :]
    values = dict(zip(options[::2], options[1::2], strict=True))
    assert words[:3] == ["ray", "job", "submit"]
    assert entrypoint == ["python", "-m", "pipeline", *WORDS]
    assert values["--submission-id"] == sent.submission_id
    assert json.loads(values["--metadata-json"]) == sent.metadata
    assert {**json.loads(values["--runtime-env-json"]), "working_dir": values["--working-dir"]} == sent.runtime_env
    assert (values["--entrypoint-num-cpus"], values["--entrypoint-resources"]) == ("1", '{"head": 0.1}')


def test_the_packages_are_uploaded_and_nothing_else(tmp_path: Path) -> None:
    import zipfile

    root = tmp_path / "project"
    for name in ("m3d/a.py", "pipeline/b.py", "pipeline/sources/c.py", "tests/d.py", "secret.env", "runs/x/e.arrow"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x" * 100)
    for name in ("m3d", "pipeline", "pipeline/sources"):
        (root / name / "__init__.py").touch()
    (root / "m3d" / "__pycache__").mkdir()
    (root / "m3d" / "__pycache__" / "a.pyc").write_bytes(b"0")
    create_package(str(root), tmp_path / "made.zip", include_gitignore=True, excludes=list(upload.EXCLUDES))
    with zipfile.ZipFile(tmp_path / "made.zip") as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    assert names == {
        "m3d/__init__.py",
        "m3d/a.py",
        "pipeline/__init__.py",
        "pipeline/b.py",
        "pipeline/sources/__init__.py",
        "pipeline/sources/c.py",
    }
    assert (tmp_path / "made.zip").stat().st_size <= upload.check_size(root)


def test_this_project_is_far_below_the_limit() -> None:
    assert upload.check_size(ROOT) < 2 * 2**20


def test_too_large_a_package_is_refused_before_the_upload(tmp_path: Path) -> None:
    for name in upload.NEEDED:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    with open(tmp_path / "pipeline" / "data.bin", "wb") as file:
        file.truncate(upload.LIMIT_BYTES + 1)
    with pytest.raises(
        ClusterError, match=r"100 MiB would be uploaded, .* the largest file is pipeline/data.bin with 100 MiB"
    ):
        upload.check_size(tmp_path)


def test_a_folder_without_the_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ClusterError, match=r"m3d: is not a package; run this from a complete checkout, or set 'upload: false'"
    ):
        upload.check_size(tmp_path)
