"""Extras that are not installed, and other projects of the same names."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pipeline
from cluster import installation as of_cluster
from cluster.cli.main import main as cluster_main
from cluster.errors import ClusterError
from pipeline import installation
from pipeline.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> "subprocess.CompletedProcess[str]":
    """Runs code in a fresh interpreter in the project's folder."""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)


def test_extras_are_those_of_the_project() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    providers = importlib.metadata.packages_distributions()
    for extra, modules in installation.EXTRAS.items():
        declared = {re.split(r"[\[<>=!~ ]", requirement)[0].lower() for requirement in extras[extra]}
        found = {re.sub(r"[-_.]+", "-", providers[module][0]).lower() for module in modules}
        others = {"ray", "m3d-condense"} if extra == "tune" else set()
        assert declared == found | others
    assert extras["all"] == ["m3d-condense[run,s3,tune]"]
    assert "m3d-condense[all]" in extras["test"]


def test_every_missing_package_has_its_command() -> None:
    for extra, modules in installation.EXTRAS.items():
        for module in modules:
            said = installation.advice(ModuleNotFoundError(name=f"{module}.inner"))
            assert said == f"this needs {module}, which is not installed: pip install 'm3d-condense[{extra}]'"
    assert installation.advice(ModuleNotFoundError(name="torch")) is None


@pytest.mark.parametrize(("missing", "words"), [("ray", ["run", "--out", "OUT"]), ("shtab", ["completion", "bash"])])
def test_a_missing_package_is_one_line(tmp_path: Path, missing: str, words: list[str]) -> None:
    words = [str(tmp_path / "run") if word == "OUT" else word for word in words]
    done = python(
        f"import sys; sys.modules[{missing!r}] = None\nfrom pipeline.cli.main import main\nsys.exit(main({words!r}))"
    )
    last = f"error: this needs {missing}, which is not installed: pip install 'm3d-condense[run]'"
    assert (done.returncode, done.stderr.splitlines()) == (2, [last])


def test_a_cluster_without_ray_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def without_ray(_: object) -> int:
        raise ModuleNotFoundError("No module named 'ray'", name="ray")

    monkeypatch.setattr("cluster.cli.commands.list_jobs", without_ray)
    assert cluster_main(["list"]) == 2
    said = capsys.readouterr().err
    assert said == "error: this needs ray, which is not installed: pip install 'm3d-condense[run]'\n"


def test_reading_a_set_needs_the_core_alone() -> None:
    """What the extras bring is not even looked for."""
    forbidden = [module for modules in installation.EXTRAS.values() for module in modules]
    done = python(
        f"import sys\nfor name in {forbidden!r}: sys.modules[name] = None\n"
        "import m3d\nfor name in m3d.__all__: getattr(m3d, name)\n"
        "from pipeline import load_condensed, RunFolder, load_config, preset, with_settings\n"
        "from pipeline.errors import UserError\n"
        "try: load_condensed('nowhere')\nexcept UserError as error: print(error)\n"
    )
    assert done.returncode == 0, done.stderr
    assert "nowhere: does not exist" in done.stdout


@pytest.mark.parametrize("name", ["pipeline", "m3d", "cluster"])
def test_another_project_of_the_same_name_is_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / f"{name}-0.3.dist-info").mkdir()
    (tmp_path / "m3d_condense-0.1.0.dist-info").mkdir()
    for module, error in ((installation, UserError), (of_cluster, ClusterError)):
        monkeypatch.setattr(module, "__file__", str(tmp_path / "pipeline" / "installation.py"))
        with pytest.raises(
            error, match=f"another project called {name} was installed over .*pip uninstall --yes {name} "
        ):
            module.check()


def test_an_overwritten_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    installation.check()
    of_cluster.check()
    monkeypatch.delattr(pipeline, "DISTRIBUTION")
    with pytest.raises(UserError, match="another project called pipeline was installed over"):
        installation.check()
