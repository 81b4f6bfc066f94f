"""Nothing is read in a way that runs code of the file. Reads the source of the packages as syntax trees."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNS_CODE = {
    *("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "runpy"),
    *("restore_from_dir", "unsafe_load", "full_load", "read_pickle"),
}
"""Modules and functions that read code."""
READERS_OF_STRUCTURE = {
    "pipeline/formats/peers/tensor_claims.py": ["pickle"],  # an unpickler that makes nothing of what a file describes
    "pipeline/storage/safe_yaml.py": ["yaml.load"],  # with a subclass of SafeLoader
    "cluster/jobs/settings_file.py": ["yaml.load"],  # with a subclass of SafeLoader
}
"""Modules that use such a function with a reader of their own, which runs no code."""
LOADERS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
"""Functions that read code unless an argument forbids it."""


def readers(tree: ast.AST) -> list[str]:
    """What a module uses that would run code of a file."""
    used = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used += [name.name for name in node.names if name.name.partition(".")[0] in RUNS_CODE]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").partition(".")[0], *(name.name for name in node.names)]
            used += [name for name in names if name in RUNS_CODE]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.rsplit(".", 1)[-1] in RUNS_CODE or name in ("eval", "exec") or name.endswith("Tuner.restore"):
                used.append(name)
            if name == "yaml.load":
                loader = ast.unparse(node.args[1]) if len(node.args) > 1 else ast.unparse(_option(node, "Loader"))
                used += [name] if "Safe" not in loader else []
            if name in LOADERS:
                option, needed = LOADERS[name]
                value = _option(node, option)
                used += [] if isinstance(value, ast.Constant) and value.value is needed else [name]
    return used


def _option(call: ast.Call, name: str) -> ast.expr:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), ast.Constant(None))


def test_no_module_reads_code() -> None:
    modules = [path for package in ("m3d", "pipeline", "cluster") for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): used for path in modules if (used := readers(ast.parse(path.read_text())))}
    assert found == READERS_OF_STRUCTURE


@pytest.mark.parametrize(
    "code",
    [
        *("import pickle", "from ray import cloudpickle", "from pickle import loads", "torch.load(a)", "eval(a)"),
        *("torch.load(a, weights_only=False)", "np.load(a, allow_pickle=True)", "tune.Tuner.restore(a)"),
        *(
            "yaml.load(a)",
            "yaml.load(a, Loader=yaml.FullLoader)",
            "yaml.unsafe_load(a)",
            "searcher.restore_from_dir(a)",
        ),
    ],
)
def test_what_counts_as_reading_code(code: str) -> None:
    assert readers(ast.parse(code)) != []


@pytest.mark.parametrize(
    "code",
    ["torch.load(a, weights_only=True)", "np.load(a, allow_pickle=False)", "yaml.load(a, Loader=yaml.CSafeLoader)"],
)
def test_what_does_not(code: str) -> None:
    assert readers(ast.parse(code)) == []
