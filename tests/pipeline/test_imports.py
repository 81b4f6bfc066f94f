"""What importing the pipeline does, and refuses to do."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def python(code: str, *, path: Path = ROOT, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Runs code in a fresh interpreter with a folder at the beginning of sys.path."""
    start = f"import sys; sys.path[:0] = [{str(path)!r}, {str(ROOT)!r}]\n"
    return subprocess.run([sys.executable, "-c", start + code], cwd=cwd, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("package", [True, False])
def test_a_foreign_m3d_is_refused(tmp_path: Path, package: bool) -> None:
    stranger = tmp_path / "m3d" / "__init__.py" if package else tmp_path / "m3d.py"
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text("name = 'a package of other people'\n")
    done = python("import pipeline", path=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: pipeline needs the m3d package beside it")
    assert str(stranger) in last
    assert "pip install m3d-condense" in last


def test_our_own_m3d_is_taken_from_anywhere(tmp_path: Path) -> None:
    done = python("import pipeline", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def imported_by(code: str) -> set[str]:
    """Which of the large modules some code imports."""
    done = python(f"{code}\nprint(*{{m.split('.')[0] for m in sys.modules}})")
    assert done.returncode == 0, done.stderr
    return {"ray", "torch", "torchvision", "sklearn", "matplotlib", "pyarrow"} & set(done.stdout.split())


def test_importing_pipeline_imports_nothing_large() -> None:
    assert imported_by("import pipeline") == set()


def test_help_does_not_import_ray() -> None:
    code = "from pipeline.cli.main import main\nimport contextlib, io\nwith contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main(['run', '--help'])"
    assert imported_by(code) <= {"torch"}  # with m3d.config


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_as_a_module(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: python -m pipeline" in done.stdout
