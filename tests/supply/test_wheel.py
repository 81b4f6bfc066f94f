"""The wheel outside of a checkout: built offline, installed beside the packages of this environment, and used."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("m3d", "pipeline", "cluster")
SHORT = (
    "condense.iterations=2",
    "condense.log_every=1",
    "evaluate.epochs=2",
    "evaluate.seeds=1",
    "evaluate.sets=condensed",
)


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and a folder that is no checkout."""

    wheel: Path
    python: Path
    folder: Path

    def run(self, *words: str | Path, timeout: float = 200) -> str:
        """Output of a program of the environment."""
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
        environment |= {"PATH": f"{self.python.parent}:{environment['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run(
            [str(self.python.parent / words[0]), *map(str, words[1:])],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of a copy of the sources, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    build = [
        *pip,
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        folder,
        sources,
    ]
    subprocess.run(build, check=True, timeout=200)
    (wheel,) = folder.glob("*.whl")
    python = folder / "environment" / "bin" / "python"
    venv.create(folder / "environment", with_pip=False, symlinks=True)
    # The path alone: the editable installation in there must not be found.
    (site,) = (folder / "environment").glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    target = [*pip, "--python", python, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel]
    subprocess.run(target, check=True, timeout=200)
    place = folder / "elsewhere"
    place.mkdir()
    return Installed(wheel=wheel, python=python, folder=place)


@pytest.mark.slow
def test_the_wheel_has_all_files_that_are_read_and_nothing_else(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    tracked = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    wanted = {str(path) for path in tracked if "__pycache__" not in path.parts}
    assert wanted <= set(names)
    assert {name.split("/")[0] for name in names} == {*PACKAGES, f"{installed.wheel.name.rsplit('-', 3)[0]}.dist-info"}


@pytest.mark.slow
def test_m3d_runs_in_another_folder(installed: Installed) -> None:
    assert installed.run("m3d", "--version").startswith("m3d-condense 0.")
    where = installed.run("python", "-c", "import m3d, pipeline, cluster; print(m3d.__file__, pipeline.__file__)")
    assert [Path(each).is_relative_to(installed.python.parents[1]) for each in where.split()] == [True, True]
    assert "photos_ipc1" in installed.run("m3d", "presets")
    settings = [word for setting in SHORT for word in ("--set", setting)]
    said = installed.run("m3d", "run", "--preset", "digits_ipc1", *settings, "--out", "runs/demo")
    assert "expected: " in said
    assert (installed.folder / "runs" / "demo" / "report.html").exists()
    installed.run("m3d", "verify", "runs/demo")


@pytest.mark.slow
def test_m3d_submits_to_a_local_cluster(installed: Installed) -> None:
    out = installed.folder / "runs" / "job"
    place = Path(f"/tmp/m3d-wheel-{os.getpid()}")  # short: Ray creates sockets in it
    settings = [word for setting in SHORT for word in ("--set", setting)]
    (installed.folder / "profile.yaml").write_text(f"python: {installed.python}\n")
    try:
        address = installed.run("m3d", "cluster", "up-local", "--nodes", "1", "--cpus", "2", "--folder", place).strip()
        job = ("--", "run", "--preset", "digits_ipc1", *settings, "--out", out)
        said = installed.run(
            "m3d", "cluster", "submit", "--address", address, "--profile", "profile.yaml", *job, timeout=280
        )
    finally:
        installed.run("m3d", "cluster", "down-local", "--folder", place)
        shutil.rmtree(place, ignore_errors=True)
    assert "submitted to" in said
    assert (out / "report.html").exists()
