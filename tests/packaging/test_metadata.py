"""Package metadata: declared dependencies, pinned versions, entry points, citation."""

import ast
import importlib
import importlib.metadata
import itertools
import re
import sys
from pathlib import Path

import pytest

from dl_lib.config.shipped import shipped_configs, shipped_playground

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]


def normalized(requirement):
    name = re.match(r"[\w.-]+", requirement)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_modules():
    for path in (ROOT / "dl_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield node.module.partition(".")[0]


def test_imported_packages_are_declared():
    third_party = set(imported_modules()) - sys.stdlib_module_names - {"dl_lib"}
    distributions = importlib.metadata.packages_distributions()
    declared = set(map(normalized, DECLARED))
    # A module may be part of several distributions, such as `mlflow`.
    assert [name for name in third_party if declared.isdisjoint(map(normalized, distributions[name]))] == []


def test_declared_packages_are_pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normalized(line) for line in lines if line and not line.startswith("#")}
    assert set(map(normalized, DECLARED)) - pinned == {"dl-lib"}


@pytest.mark.parametrize("reference", PROJECT["scripts"].values())
def test_entry_points_exist(reference):
    module, _, function = reference.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_shipped_files_are_those_of_the_checkout():
    assert shipped_configs() == ROOT / "configs"
    assert shipped_playground() == ROOT / "playground"
    assert not (ROOT / "dl_lib" / "model_zoo").exists()


def test_citation_names_this_version():
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()
