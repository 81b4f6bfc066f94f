"""The house: how folders, modules and parameter lists stay small, so that a newcomer finds the place to change.

Reads the source of the three packages as text and as syntax trees; imports none of them.
"""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("m3d", "pipeline", "cluster")
MODULES = 14
"""Largest number of modules in a folder."""
LINES = 300
"""Largest number of lines in a module."""
PARAMETERS = 7
"""Largest number of parameters of a function or method, self and cls not counted."""
MANY_PARAMETERS: frozenset[str] = frozenset()
"""Functions that may have more parameters, as FILE:NAME; each needs a reason beside it."""
LAYERS = {"pipeline": 12, "m3d": 7}
"""Largest number of layers in a package's contract."""
FREE_FORM = 30
"""``dict[str, Any]`` occurs fewer times than this: only where a JSON document of free form is meant."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> tuple[Path, ...]:
    """All modules of the packages, relative to the root of the project."""
    return tuple(sorted(path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py")))


@cache
def source(module: Path) -> str:
    """The text of a module."""
    return (ROOT / module).read_text()


def folders() -> list[Path]:
    """All folders with modules."""
    return sorted({module.parent for module in modules()})


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """All functions and methods in a syntax tree with their dotted names, nested ones included."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.ClassDef | Function):
            yield from functions(node, prefix)
            continue
        name = f"{prefix}{node.name}"
        if isinstance(node, Function):
            yield name, node
        yield from functions(node, f"{name}.")


def parameters(function: Function) -> list[str]:
    """Names of the parameters without self and cls. ``**settings`` go to a constructor of settings and do not count."""
    declared = function.args
    names = [argument.arg for argument in (*declared.posonlyargs, *declared.args)]
    names = names[1:] if names[:1] in (["self"], ["cls"]) else names
    others = [*declared.kwonlyargs, *([declared.vararg] if declared.vararg is not None else [])]
    return [*names, *(argument.arg for argument in others)]


def free_form(module: Path) -> list[int]:
    """Lines with ``dict[str, Any]``, as often as it occurs there."""
    lines = enumerate(source(module).splitlines(), start=1)
    return [number for number, line in lines for _ in range(line.count("dict[str, Any]"))]


def test_the_packages_are_read() -> None:
    assert {module.parts[0] for module in modules()} == set(PACKAGES)
    assert len(modules()) > 100


def test_a_folder_has_few_modules() -> None:
    counts = {folder: sum(module.parent == folder for module in modules()) for folder in folders()}
    # __init__.py describes the folder and is not counted.
    crowded = {str(folder): count - 1 for folder, count in counts.items() if count - 1 > MODULES}
    assert crowded == {}, f"more than {MODULES} modules; group those of one subject in a folder"


def test_a_folder_is_a_package_with_a_docstring() -> None:
    silent = [
        str(folder)
        for folder in folders()
        if not (ROOT / folder / "__init__.py").exists()
        or not ast.get_docstring(ast.parse(source(folder / "__init__.py")))
    ]
    assert silent == [], "say in the docstring of __init__.py what the folder contains"


def test_a_module_is_short() -> None:
    long = {str(module): lines for module in modules() if (lines := len(source(module).splitlines())) > LINES}
    assert long == {}, f"more than {LINES} lines; one idea per module"


def test_a_function_has_few_parameters() -> None:
    many = {
        f"{module}:{name}": len(names)
        for module in modules()
        for name, function in functions(ast.parse(source(module)))
        if len(names := parameters(function)) > PARAMETERS
    }
    excess = {name: count for name, count in many.items() if name not in MANY_PARAMETERS}
    assert excess == {}, f"more than {PARAMETERS} parameters; pass a frozen dataclass"
    assert set(many) >= MANY_PARAMETERS, "an exception that is no longer needed"


@pytest.mark.parametrize("package", sorted(LAYERS))
def test_a_contract_has_few_layers(package: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (
        contract["layers"]
        for contract in contracts
        if contract["type"] == "layers" and contract["containers"] == [package]
    )
    assert len(layers) <= LAYERS[package]


def test_dictionaries_of_free_form_are_rare() -> None:
    places = [f"{module}:{line}" for module in modules() for line in free_form(module)]
    assert len(places) < FREE_FORM, "\n".join(["give these a type:", *places])


def test_parameters_are_counted_without_self() -> None:
    tree = ast.parse(
        "class A:\n  def f(self, a, *b, c=1, **d):\n    def g(e, /): ...\n@staticmethod\nasync def h(): ..."
    )
    found = {name: parameters(function) for name, function in functions(tree)}
    assert found == {"A.f": ["a", "c", "b"], "A.f.g": ["e"], "h": []}
