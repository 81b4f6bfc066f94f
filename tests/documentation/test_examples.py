"""The examples run: each program on small data, the notebook cell by cell, the manifest against its schema."""

import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

import pipeline
from cluster.jobs import command_line, profile
from pipeline.config import presets
from pipeline.tune.space_file import space_of_file
from tests.cluster.deploy import kuberay
from tests.documentation.commands import check
from tests.documentation.pages import ROOT
from tests.pipeline.support.images import CLASSES, write_folder

EXAMPLES = ROOT / "examples"
SHORTER = {"iterations=60": "iterations=2", "epochs=100": "epochs=2"}
"""What the tests change in the notebook, for time."""


def run(name: str, *words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a program in this process."""
    monkeypatch.setattr(sys, "argv", [name, *words])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images of 20 px in each of three class folders."""
    return write_folder(tmp_path / "photos", {"": 5}, size=20)


def test_photos_become_a_set_on_which_timm_trains(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "set")
    run("photos_to_set.py", str(photos), out, "--size", "16", "--iterations", "2", monkeypatch=monkeypatch)
    dataset = pipeline.load_condensed(out)
    assert dataset.class_names == list(CLASSES)
    assert dataset.images.shape == (12, 3, 16, 16)
    capsys.readouterr()
    run("train_with_timm.py", out, str(photos), "--epochs", "1", monkeypatch=monkeypatch)
    assert "resnet18: " in (shown := capsys.readouterr().out)
    assert "% of 15 photos" in shown


def test_a_set_of_other_classes_is_not_scored(demo: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="has the classes"):
        run("train_with_timm.py", str(demo / "runs/demo"), str(photos), "--epochs", "0", monkeypatch=monkeypatch)


def test_duckdb_queries_a_set(demo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run("query_with_duckdb.py", str(demo / "runs/demo/condensed"), monkeypatch=monkeypatch)
    shown = capsys.readouterr().out
    assert "brightness" in shown
    assert "10 images in 2 shards" in shown


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict[str, Any] = {}
    for number, source in enumerate(cells()):
        for long, short in SHORTER.items():
            source = source.replace(long, short)
        exec(compile(source, f"cell {number} of tour.ipynb", "exec"), names)
    assert set(names["scores"]) == {"condensed", "random"}
    assert len(pipeline.load_condensed(f"{names['folder']}/digits")) == 40


def cells() -> list[str]:
    """The code of the notebook."""
    notebook = json.loads((EXAMPLES / "tour.ipynb").read_text())
    assert notebook["nbformat"] == 4
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_space_is_one() -> None:
    space = space_of_file(str(EXAMPLES / "space.yaml"), presets.preset("photos_ipc1"))
    assert len(space.domains) == 3


@pytest.mark.slow
def test_tune_on_photos(tmp_path: Path) -> None:
    """The script as it is typed, with fewer and shorter trials."""
    photos = write_folder(tmp_path / "photos", {"": 20}, size=20)
    shorter = ["data.image_size=16", "encoder.name=convnet2", "encoder.width=8", "evaluate.architectures=convnet2"]
    shorter += ["condense.iterations=4", "evaluate.epochs=2", "evaluate.seeds=1", "tune.rungs=1", "tune.seeds=2"]
    options = [word for setting in shorter for word in ("--set", setting)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(EXAMPLES / "tune_on_photos.sh"), str(photos), str(tmp_path / "out"), "--trials", "2", *options],
        env={**os.environ, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/run/report.html").exists()


def test_the_job_file_is_a_profile_with_a_command() -> None:
    job = profile.read(str(EXAMPLES / "job.yaml"), {})
    words = shlex.split(job.command)
    command_line.check(words, {})
    check(["m3d", *words])


def test_the_manifest_is_one_of_kuberay_and_runs_our_command() -> None:
    manifest = yaml.safe_load((EXAMPLES / "ray_job.yaml").read_text())
    jsonschema.validate(manifest, kuberay.schema("RayJob"))
    check(manifest["spec"]["entrypoint"].split())
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    (container,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    real = yaml.safe_load((ROOT / "cluster/deploy/kuberay/rayjob.yaml").read_text())
    (of_real,) = real["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert container["image"] == of_real["image"]
    assert container["securityContext"] == of_real["securityContext"]


def test_every_example_is_listed() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    page = (EXAMPLES / "README.md").read_text()
    assert {name for name in files if f"]({name})" in page} == files
