"""Who may import whom: read from the sources, and from what a running interpreter has loaded."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import evonas

PACKAGE = Path(evonas.__file__).parent
SHARED = {"types", "errors", "seeding", "files", "parts", "plugins", "ranges", "lazy", "devices", "graphs", "_version"}
ALL = {
    "networks",
    "data",
    "attacks",
    "costs",
    "certify",
    "spaces",
    "training",
    "adversarial_sets",
    "objectives",
    "executors",
    "search",
    "gradient",
    "report",
    "evaluation",
    "audit",
    "ship",
    "runs",
    "methods",
}
"""Rooms that others may import."""

EVALUATION = {"data", "networks", "spaces", "costs", "training", "objectives"}
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),  # evonas/__init__.py; its lazy names are strings
    "_version": set(),
    "types": set(),
    "errors": set(),
    "seeding": set(),
    "files": set(),
    "parts": set(),
    "plugins": set(),
    "devices": set(),
    "graphs": set(),
    "ranges": set(),
    "lazy": set(),
    "networks": set(),
    "data": set(),
    "attacks": set(),
    "costs": {"networks"},
    "certify": {"networks"},
    "spaces": {"networks", "costs"},
    "training": {"data", "attacks", "costs", "certify"},
    "adversarial_sets": {"data", "attacks", "networks", "training", "costs", "executors"},
    "objectives": {"costs", "data", "networks", "attacks", "training", "adversarial_sets", "certify", "ship"},
    "executors": set(),
    "search": {"executors"},
    "gradient": {"networks", "spaces", "costs", "attacks", "certify", "data", "training"},
    "report": {"search", "spaces"},
    "ship": {"networks", "spaces", "costs", "attacks", "data"},
    "evaluation": EVALUATION | {"ship"},
    "audit": EVALUATION | {"ship", "evaluation", "attacks", "certify", "adversarial_sets", "executors", "search"},
    "runs": ALL - {"gradient", "methods"},
    "methods": ALL,
    "doctor": ALL - {"gradient"},
    "completion": set(),
    "studies": {"methods", "runs", "report", "audit"},
    "commands": ALL | {"doctor", "studies"},
    "cli": ALL | {"commands", "completion"},
    "__main__": {"cli"},
}
"""Room -> rooms it may import, besides itself and the shared ones."""

LIVES_IN = {
    "torchvision": {"data"},
    "pymoo": {"search"},
    "moocore": {"search"},
    "ray": {"executors"},
    "pandas": {"report", "runs"},
    "matplotlib": {"report"},
    "altair": {"report"},
    "vl_convert": {"report"},
    "onnx": {"ship"},
    "onnxruntime": {"ship"},
    "executorch": {"ship"},
}
"""Packages that only some rooms may import."""

WITHOUT_TORCH = SHARED - {"devices", "graphs"} | {"executors", "search"}


class Import(NamedTuple):
    module: str
    """Dotted and absolute."""
    lazy: bool
    """Inside a function."""


def imports_of(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """Every import of a source: at the top, in functions, for the type checker alone, and by name."""
    package = module.split(".") if is_package else module.split(".")[:-1]

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (Import(f"{origin}.{alias.name}", lazy) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield Import(node.args[0].value, lazy)
        inner = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inner)

    yield from visit(ast.parse(source), False)


def room_of(module: str) -> str:
    """`evonas.search.journal` -> `search`; a name of the package itself, such as `evonas.__version__` -> ``."""
    parts = module.split(".")
    known = len(parts) > 1 and parts[0] == "evonas" and (parts[1] == "__main__" or not parts[1].startswith("__"))
    return parts[1] if known else ""


BY_GRADIENT = {"cells", "cell_search", "cell_search_words", "cell_retraining", "darts", "dsrna", "e2rnas"}
"""Files of `methods` that stand on the optional room `gradient`; the others work without it."""


def is_optional(module: str) -> bool:
    """Of the room `gradient`, or of the methods that stand on it."""
    parts = module.split(".")
    by_gradient = parts[:2] == ["evonas", "methods"] and len(parts) > 2 and parts[2] in BY_GRADIENT
    return room_of(module) == "gradient" or by_gradient


def violations(imports: list[Import], module: str) -> list[str]:
    """What a module imports and must not."""
    room, wrong = room_of(module), []
    for name, lazy in imports:
        top, target = name.split(".")[0], room_of(name)
        if top == "evonas" and target not in {"", room} | SHARED | MAY_IMPORT[room]:
            wrong.append(f"{module} imports {name}: {room or 'evonas'} may not import {target}")
        if is_optional(name) and not is_optional(module) and not lazy:
            wrong.append(f"{module} imports {name} at the top: gradient is optional")
        if top in ("experiments", "benchmarks", "tests"):
            wrong.append(f"{module} imports {name}: nothing does")
        if room not in LIVES_IN.get(top, {room}):
            wrong.append(f"{module} imports {name}: {top} lives in {', '.join(sorted(LIVES_IN[top]))}")
        if top == "torch" and room in WITHOUT_TORCH:
            wrong.append(f"{module} imports {name}: {room} is free of torch")
        if top == "torchvision" and not lazy:
            wrong.append(f"{module} imports {name} at the top: everything works without it")
    return wrong


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.mark.lengthy
@pytest.mark.parametrize(("module", "path"), modules().items(), ids=modules())
def test_imports_keep_to_the_table(module: str, path: Path) -> None:
    assert room_of(module) in MAY_IMPORT, f"{module} is in no room of the table"
    imports = list(imports_of(path.read_text(), module, path.name == "__init__.py"))
    assert violations(imports, module) == []


def test_the_table_has_no_circles() -> None:
    """Rooms can be put in an order in which each imports earlier ones alone."""
    left = {room: set(others) for room, others in MAY_IMPORT.items()}
    while left:
        free = {room for room, others in left.items() if not others & left.keys() - {room}}
        assert free, f"these import each other: {sorted(left)}"
        left = {room: others for room, others in left.items() if room not in free}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn as nn", [Import("torch.nn", False)]),
        ("import os, ray", [Import("os", False), Import("ray", False)]),
        ("from evonas import search", [Import("evonas.search", False)]),
        ("from evonas.search import Job", [Import("evonas.search.Job", False)]),
        ("from . import journal", [Import("evonas.search.journal", False)]),
        ("from ..data import load_data", [Import("evonas.data.load_data", False)]),
        ("def f():\n    import pandas", [Import("pandas", True)]),
        ("class A:\n    import pandas", [Import("pandas", False)]),
        ("if TYPE_CHECKING:\n    import torch", [Import("torch", False)]),
        ("try:\n    import torch\nexcept ImportError:\n    pass", [Import("torch", False)]),
        (
            "import importlib\nx = importlib.import_module('torch')",
            [Import("importlib", False), Import("torch", False)],
        ),
        ("import_module('torch', package)", [Import("torch", False)]),
        ("text = 'import torch'", []),
    ],
)
def test_every_kind_of_import_is_seen(source: str, expected: list[Import]) -> None:
    assert list(imports_of(source, "evonas.search.problem")) == expected


def test_relative_imports_of_a_package_start_at_itself() -> None:
    assert list(imports_of("from .journal import Entry", "evonas.search", is_package=True)) == [
        Import("evonas.search.journal.Entry", False)
    ]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("evonas.search.problem", "import torch"),
        ("evonas.search.problem", "import ray"),
        ("evonas.executors.base", "from evonas.search import Journal"),
        ("evonas.executors.base", "import pymoo"),
        ("evonas.search.problem", "from evonas.spaces import PhaseSpace"),
        ("evonas.search.problem", "def f():\n    from evonas import data"),
        ("evonas.files", "from torch import Tensor"),
        ("evonas.types", "import evonas.search"),
        ("evonas.spaces.phase", "from evonas.evaluation import Evaluator"),
        ("evonas.methods.roco", "from evonas.gradient import bilevel"),
        ("evonas.methods.stored", "from evonas.methods.cells import compose"),
        ("evonas.methods.roco", "from evonas import cli"),
        ("evonas.runs.run", "from evonas.methods import METHODS"),
        ("evonas.methods.roco", "def f():\n    import pandas as pd"),
        ("evonas.methods.roco", "from experiments.roco_cifar10 import main"),
        ("evonas.data.loader", "import torchvision"),
        ("evonas.attacks.pgd", "def f():\n    import torchvision"),
        ("evonas.report.table", "from pymoo.indicators.hv import Hypervolume"),
        ("evonas.evaluation", "import ray"),
    ],
)
def test_what_the_table_forbids_is_found(module: str, source: str) -> None:
    assert len(violations(list(imports_of(source, module)), module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("evonas.executors.ray_tasks", "def f():\n    import ray"),
        ("evonas.search.problem", "from evonas.executors import Job"),
        ("evonas.search.problem", "from evonas.types import Space\nfrom evonas.search import pareto\nimport pymoo"),
        ("evonas.methods.roco", "def f():\n    from evonas.gradient import bilevel"),
        ("evonas.data.loader", "def f():\n    import torchvision"),
        ("evonas.runs.folder", "from evonas import __version__"),
        ("evonas.cli", "from evonas.runs import Run"),
    ],
)
def test_what_the_table_allows_is_left_alone(module: str, source: str) -> None:
    assert violations(list(imports_of(source, module)), module) == []


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("names", "absent"),
    [
        (
            tuple(f"evonas.{room}" for room in sorted(SHARED - {"devices", "graphs"})),
            {"torch", "pymoo", "pandas", "ray"},
        ),
        (("evonas.executors",), {"torch", "pymoo", "pandas", "ray", "evonas.search"}),
        (("evonas.search",), {"torch", "ray", "torchvision", "pandas", "matplotlib", "evonas.spaces", "evonas.data"}),
        (("evonas.spaces", "evonas.evaluation", "evonas.objectives"), {"torchvision", "pymoo", "pandas", "ray"}),
    ],
)
def test_importing_a_room_loads_no_more_than_it_needs(names: tuple[str, ...], absent: set[str]) -> None:
    """Whatever is imported by way of others counts, too."""
    code = f"import sys, {', '.join(names)}; print(*({absent!r} & set(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.split() == []
