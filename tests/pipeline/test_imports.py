"""What importing the pipeline does and refuses to do, its public names, and the dependencies of the packages."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pipeline
from pipeline.evaluate.results import write_rows
from pipeline.formats.run_folder import RunFolder
from tests.pipeline.support.condensed_sets import write_set
from tests.pipeline.support.rows import stored_row

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


LARGE = {"ray", "torch", "torchvision", "sklearn", "matplotlib", "pyarrow"}


def imported_by(code: str) -> set[str]:
    """Top-level names of the modules that some code imports."""
    done = python(f"{code}\nprint(*{{m.split('.')[0] for m in sys.modules}})")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def command(*arguments: str) -> str:
    """Code that runs a command and hides its output."""
    return (
        "from pipeline.cli.main import main\nimport contextlib, io\n"
        f"with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main({list(arguments)!r})"
    )


def test_importing_pipeline_imports_nothing_large() -> None:
    assert imported_by("import pipeline") & {*LARGE, "pydantic", "fsspec"} == set()


def test_help_imports_nothing_large() -> None:
    for arguments in (["--help"], ["run", "--help"]):
        assert imported_by(command(*arguments)) & {*LARGE, "pydantic", "fsspec"} == set()


def test_show_config_imports_nothing_large(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text("{}")
    for arguments in (["--preset", "cifar10_ipc10", "--set", "data.classes=cat,dog"], ["--config", str(file)]):
        imported = imported_by(command("show-config", *arguments))
        assert imported & {*LARGE, "s3fs", "aiobotocore"} == set()
        assert "pydantic" in imported  # the command did run


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_as_a_module(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: python -m pipeline" in done.stdout


READING = {"ray", "scipy", "sklearn", "matplotlib", "s3fs", "aiobotocore", "botocore", "fsspec", "datasets", "optuna"}
"""What reading a condensed set on this machine does not need."""


def test_reading_a_set_imports_what_it_needs_alone(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set")
    imported = imported_by(
        f"import pipeline\ndataset = pipeline.load_condensed({str(folder)!r})\ndataset[0], dataset.classes, repr(dataset)"
    )
    assert imported & READING == set()
    assert {"torch", "pyarrow"} <= imported  # the set was read


def test_reading_rows_needs_the_core_alone(tmp_path: Path) -> None:
    write_rows(RunFolder.at(tmp_path), [stored_row("condensed", 60.0, std=1.4)])
    without = ("ray", "scipy", "sklearn", "rich", "psutil", "torchvision", "matplotlib", "tensorboardX", "jinja2")
    done = python(
        f"sys.modules.update(dict.fromkeys({without!r}))\n"  # importing one of them raises ImportError
        f"import pipeline\nprint(pipeline.read_rows(pipeline.RunFolder.at({str(tmp_path)!r}))[0]['mean'])"
    )
    assert (done.returncode, done.stdout) == (0, "60.0\n"), done.stderr


# The public names


def test_public_names() -> None:
    assert pipeline.__all__ == [
        "CondensedDataset",
        "FailedError",
        "RunConfig",
        "RunFolder",
        "UserError",
        "load_condensed",
        "load_config",
        "load_test",
        "preset",
        "read_rows",
        "save_condensed",
        "with_settings",
    ]
    for name in pipeline.__all__:
        assert getattr(pipeline, name).__name__ == name
        assert re.search(rf"\b{name}\b", pipeline.__doc__ or ""), "is not documented"
    assert set(pipeline.__all__) <= set(dir(pipeline))
    with pytest.raises(AttributeError, match="no attribute 'load_condensd'"):
        exec("pipeline.load_condensd", {"pipeline": pipeline})


def test_public_names_do_not_need_ray() -> None:
    assert "ray" not in imported_by(f"from pipeline import {', '.join(pipeline.__all__)}")


# The dependencies of the packages


def third_party_imports() -> set[str]:
    """Top-level names that the three packages import, but for their own and the standard library's."""
    names: set[str] = set()
    for package in ("m3d", "pipeline", "cluster"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names.add(node.module.partition(".")[0])
    return names - {*sys.stdlib_module_names, "m3d", "pipeline", "cluster"}


def canonical(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_dependencies_are_what_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in ("run", "s3", "tune", "hub") for line in project["optional-dependencies"][extra]]
    names = [canonical(re.split(r"[\[<>=!~ ]", line)[0]) for line in [*project["dependencies"], *extras]]
    declared = [name for name in names if name != "m3d-condense"]
    declared.remove("ray")  # named twice: tune brings another part of it than run
    providers = importlib.metadata.packages_distributions()
    imported = {canonical(providers[name][0]) for name in third_party_imports()}
    assert sorted(declared) == sorted(imported)  # each once
