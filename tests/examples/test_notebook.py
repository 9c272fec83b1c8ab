"""Notebook of the examples as it is stored: without outputs, with names and config keys that exist.

`tests/extras/test_notebook.py` executes it.
"""

import ast
import importlib
import json
import re
from pathlib import Path

import pytest

from dl_lib.config import get_cfg

NOTEBOOK = json.loads((Path(__file__).parents[2] / "examples" / "quickstart.ipynb").read_text())
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def source():
    """Code of all cells, without the lines of IPython."""
    lines = "\n".join("".join(cell["source"]) for cell in CODE).split("\n")
    return "\n".join(line for line in lines if not line.startswith("%"))


def test_is_stored_without_outputs():
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)
    assert all(cell["metadata"] == {} for cell in NOTEBOOK["cells"])
    assert set(NOTEBOOK["metadata"]) == {"kernelspec", "language_info"}


def test_imported_names_and_config_keys_exist(source):
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
    for node in imports:
        if node.module.startswith("dl_lib"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
    keys = re.findall(r'"([A-Z_.]+)=', source)
    assert keys and set(keys) <= get_cfg().flat().keys()


def test_linked_files_exist():
    text = "\n".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\((\S+?)\)", text)
    assert links and all((Path(__file__).parents[2] / "examples" / link).is_file() for link in links)
