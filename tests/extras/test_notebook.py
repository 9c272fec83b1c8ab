"""Notebook of the examples, executed from the first to the last cell."""

import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

pytestmark = pytest.mark.extras

FILE = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Folder in which the notebook ran, and the outputs of its code cells in one list."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(FILE, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    return folder, [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_results_are_printed(executed):
    _, outputs = executed
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert float(re.search(r"^mIoU (\S+) %, pixel accuracy", printed, re.MULTILINE)[1]) > 10  # chance: 9
    assert int(re.search(r"^(\d+) different routes for 200 images", printed, re.MULTILINE)[1]) > 5
    assert re.search(r"^classes: background\b", printed, re.MULTILINE)
    cheapest, most_expensive = (
        float(re.search(rf"^{name} image: (\S+) GFLOPs", printed, re.MULTILINE)[1])
        for name in ("cheapest", "most expensive")
    )
    assert cheapest < 0.9 * most_expensive


def test_figures_are_shown(executed):
    folder, outputs = executed
    figures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    overlay, *plots = (Image.open(io.BytesIO(base64.b64decode(figure))) for figure in figures)
    assert overlay.size == (384, 384)
    assert len(plots) == 4 and all(min(plot.size) > 400 for plot in plots)
    assert plots[-1].tobytes() == Image.open(folder / "output" / "notebook" / "image_costs.png").tobytes()
