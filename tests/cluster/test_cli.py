"""The command line, as far as it needs no cluster."""

import ast
import os
import sys
from pathlib import Path

import pytest

from cluster.cli.main import main
from cluster.errors import ClusterError
from cluster.jobs import upload
from cluster.local import lifecycle, state
from cluster.local.node import NodeOptions
from cluster.local.state import LocalCluster, save
from tests.cluster.conftest import ROOT, cluster, one_line

RUN = ["run", "--preset", "digits_ipc1", "--out", "/shared/a"]


def options(folder: Path) -> NodeOptions:
    """Options of nodes with one CPU and no GPU."""
    return NodeOptions(cpus=1, gpus=0, folder=folder, environment={})


def test_dry_run_prints_a_line_and_connects_to_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--address", "http://127.0.0.1:1", "--dry-run", "--", *RUN]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.startswith("ray job submit --address http://127.0.0.1:1 --submission-id m3d-run-a-")
    assert output.out.endswith(f"-- python -m pipeline {' '.join(RUN)}\n")


def test_a_profile_gives_the_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "profile.yaml"
    path.write_text("address: http://head:8265\nupload: false\n")
    assert main(["submit", "--profile", str(path), "--dry-run", "--", *RUN]) == 0
    message = capsys.readouterr().out
    assert "--address http://head:8265" in message
    assert "--working-dir" not in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", "--address", "http://h:1"], "error: nothing to run: write the command after --"),
        (["submit", "--address", "http://h:1", "--", "rum"], "error: -- rum: is not a command for a job"),
        (["submit", "--", *RUN], "error: --address: not given"),
        (["status", "--address", "h:6379", "job"], "error: --address h:6379: is not the address of a job server"),
        (["list", "--", "run"], "error: --: only submit takes a command after it"),
        (["up-local", "--nodes", "0"], "error: --nodes 0: allowed: a number from 1 to 1000"),
        (["up-local", "--gpus", "-1"], "error: --gpus -1: allowed: a number from 0 to 1000"),
        (["up-local", "--folder", "/tmp/" + "x" * 40], "characters long, allowed: 36; Ray creates sockets inside it"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str) -> None:
    assert message in one_line(cluster(*arguments))


def test_down_local_where_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert main(["down-local", "--folder", str(folder)]) == 0
        assert "nothing was running" in capsys.readouterr().out


def test_a_damaged_state_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"nodes": 3}')
    assert "cluster.json: is damaged or was not written by this program" in one_line(
        cluster("down-local", "--folder", str(tmp_path))
    )


def test_a_folder_with_other_things_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lifecycle, "LONGEST", 1000)
    (tmp_path / "src").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ClusterError, match=r"contains other files \((src|notes\.txt)\); choose an empty folder"):
        lifecycle.up(1, options(tmp_path))
    assert lifecycle.down(tmp_path) is None
    assert {path.name for path in tmp_path.iterdir()} == {"src", "notes.txt", ".lock"}
    (tmp_path.parent / "link").symlink_to(tmp_path)
    with pytest.raises(ClusterError, match="is a link"):
        lifecycle.up(1, options(tmp_path.parent / "link"))


def test_only_what_was_written_here_is_deleted(tmp_path: Path) -> None:
    save(tmp_path, LocalCluster(mark="no-such-mark", address="http://127.0.0.1:1", gcs="127.0.0.1:2"))
    for name in ("head", "node1", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "head.log").write_text("x")
    (tmp_path / "other.log").write_text("x")
    assert lifecycle.down(tmp_path) is not None
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "other.log", ".lock"}


def test_a_node_that_does_not_start_is_reported_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(lifecycle, "LONGEST", 1000)
    with pytest.raises(lifecycle.ClusterError, match=r"head: it ended \(without output\); see"):
        lifecycle.up(1, options(tmp_path))
    assert not (tmp_path / "cluster.json").exists()


@pytest.mark.parametrize("failures", [1, 2, 3])
@pytest.mark.parametrize("which", ["head", "node1"])
def test_a_node_that_does_not_start_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failures: int, which: str
) -> None:
    left, mine = [failures], state.started_at(os.getpid()) or ""

    def start(name: str, *others: object) -> state.LocalNode:
        if name == which and left[0]:
            left[0] -= 1
            raise lifecycle.ClusterError(f"{name}: it ended (the machine is busy)")
        return state.LocalNode(name=name, pid=os.getpid(), started=mine, metrics_port=1, cpus=1, gpus=0, first_gpu=0)

    monkeypatch.setattr(lifecycle, "LONGEST", 1000)
    monkeypatch.setattr(lifecycle, "start", start)
    monkeypatch.setattr(lifecycle, "answers", lambda address: True)
    monkeypatch.setattr(lifecycle, "end", lambda find, patience_s: set())  # they are all this process
    if failures < lifecycle.START_ATTEMPTS:
        assert [node.name for node in lifecycle.up(2, options(tmp_path)).nodes] == ["head", "node1"]
        return
    with pytest.raises(lifecycle.ClusterError, match=f"{which}: it ended"):
        lifecycle.up(2, options(tmp_path))


def test_help_does_not_import_ray() -> None:
    import subprocess

    code = "import sys; from cluster.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_cluster_imports_only_the_standard_library_yaml_and_the_job_client() -> None:
    allowed = {*sys.stdlib_module_names, "cluster", "yaml"}
    for path in sorted((ROOT / "cluster").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in allowed or name == "ray.job_submission", f"{path.name}: {name}"


def test_commands_of_a_job_are_those_of_the_pipeline() -> None:
    # The words are free, but a command that neither is nor is planned would mislead.
    from cluster.jobs.command_line import COMMANDS

    message = (ROOT / "pipeline" / "cli" / "parser.py").read_text()
    planned = {"pretrain", "tune"}
    assert [name for name in COMMANDS if f'"{name}"' not in message and name not in planned] == []


def test_the_package_is_that_of_this_checkout() -> None:
    assert upload.project() == ROOT


def test_a_command_without_the_two_dashes_is_reported() -> None:
    message = one_line(cluster("submit", "--address", "http://127.0.0.1:9", "run", "--preset", "digits_ipc1"))
    assert message == "error: run: write the command after --, as in: python -m cluster submit [options] -- run ..."
