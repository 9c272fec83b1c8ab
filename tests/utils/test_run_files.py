"""File names of a run folder are declared once."""

import ast
from pathlib import Path

from dl_lib.utils import run_files

PACKAGE = Path(run_files.__file__).parents[1]
VALUES = [getattr(run_files, name) for name in run_files.__all__ if name.isupper()]
NAMES = {value for value in VALUES if isinstance(value, str)}
GENERIC = {
    run_files.EVALUATIONS_NAME,
    run_files.CONFUSION_STEM,
    run_files.GATES_STEM,
    run_files.PER_IMAGE_STEM,
    run_files.ROUTE_STEM,
}  # also words, keys and figures


def last_components(path):
    """Last path components of the string constants of a module, parts of f-strings included."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {str(node.value).rpartition("/")[2] for node in nodes if isinstance(node, ast.Constant)}


def test_no_module_repeats_a_file_name():
    repeated = {
        path.relative_to(PACKAGE).as_posix(): found
        for path in PACKAGE.rglob("*.py")
        if path.name != "run_files.py" and (found := last_components(path) & (NAMES - GENERIC))
    }
    assert repeated == {}


def test_names_of_logs_and_checkpoints():
    assert [run_files.log_name(rank) for rank in (0, 3)] == ["log.txt", "log_rank3.txt"]
    assert run_files.numbered_checkpoint(500) == "model_0000500"
