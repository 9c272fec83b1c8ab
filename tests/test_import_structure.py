"""Import structure of dl_lib: one-way layers, no cycles between folders, light imports.

Imports inside functions and under `TYPE_CHECKING` count, too. A package's `__init__` is a separate node from the
modules in its folder.
"""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    {"utils", "config", "layers"},
    {"data", "modeling"},
    {"visualization"},
    {"solver", "checkpoint", "launch", "inference"},
    {"evaluation"},
    {"engine", "validation"},
    {"experiment"},
    {"prediction"},
    {"web"},
    {"cli"},
]
RANK = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted((ROOT / "dl_lib").rglob("*.py"))}


def imported_by(path) -> Iterator[str]:
    """Modules of dl_lib that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                if name in FILES:
                    yield name
                elif node.module in FILES:
                    yield node.module


IMPORTS = [(source, target) for source, path in FILES.items() for target in imported_by(path)]


def is_facade(module):
    return FILES[module].name == "__init__.py"


def folder(module):
    """Node of a module: its folder, or the `__init__` itself."""
    return f"{module}.__init__" if is_facade(module) else module.rpartition(".")[0]


def package(module):
    """Top-level package of a module, such as `data`; empty for dl_lib itself."""
    return f"{module}.".split(".")[1]


def assert_no_cycle(node_of):
    graph, reasons = defaultdict(set), defaultdict(list)
    for source, target in IMPORTS:
        edge = node_of(source), node_of(target)
        if edge[0] != edge[1]:
            graph[edge[0]].add(edge[1])
            reasons[edge].append(f"{source} -> {target}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        nodes = error.args[1][::-1]  # graphlib lists a dependency before those that need it
        lines = [reason for edge in pairwise(nodes) for reason in reasons[edge]]
        pytest.fail("import cycle:\n" + "\n".join(lines))


def test_no_cycles_between_folders():
    assert_no_cycle(folder)


def test_no_cycles_between_packages():
    assert_no_cycle(package)


def test_nothing_imports_the_facade_of_its_own_package():
    """Constants in an `__init__` that imports nothing itself are exempt."""
    facades = {source for source, _ in IMPORTS if is_facade(source)}
    assert [f"{a} -> {b}" for a, b in IMPORTS if b in facades and f"{a}.".startswith(f"{b}.")] == []


def test_layers_cover_all_packages():
    assert {package(module) for module in FILES} - {""} == set(RANK)


def test_imports_never_point_upwards():
    packages = ((source, target) for source, target in IMPORTS if package(source) and package(target))
    assert [f"{a} -> {b}" for a, b in packages if RANK.get(package(a), 9) < RANK.get(package(b), 9)] == []


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("dl_lib, dl_lib.config, dl_lib.launch, dl_lib.cli.export, dl_lib.cli.predict", "torch"),
        ("dl_lib.engine, dl_lib.evaluation, dl_lib.cli.train", "matplotlib"),
    ],
)
def test_expensive_imports_are_deferred(modules, absent):
    code = f"import {modules}, sys; assert {absent!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
