"""Example scripts, run as in their docstrings."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name, *arguments, cwd):
    return run_python(str(ROOT / "examples" / name), *arguments, cwd=cwd)


def run_python(*arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_docstring_contains_the_command(path):
    assert f"\n    python examples/{path.name}" in path.read_text().split('"""')[1]


def test_predict_image_saves_an_overlay_of_the_same_size(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    printed = run("predict_image.py", "image.png", "--config-file", "Quickstart", cwd=tmp_path)
    overlay = np.asarray(Image.open(tmp_path / "overlay.png"))
    assert overlay.shape == image.shape and (overlay != image).any()
    assert re.search(r"^\d+\.\d MFLOPs executed; classes: ", printed)


def test_custom_dataset_trains_and_evaluates(tmp_path):
    printed = run("custom_dataset.py", "--output", "out", cwd=tmp_path)
    assert 0 <= float(re.search(r"mIoU on my_dataset: (\S+)", printed)[1]) <= 1
    assert {"config.yaml", "model_final.pth", "results.json"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_custom_parts(tmp_path):
    names = [f"custom_{part}.py" for part in ("cell_operation", "loss", "hook", "augmentation")]
    code = "import runpy, sys\nfor path in sys.argv[1:]: runpy.run_path(path, run_name='__main__')"
    printed = run_python("-c", code, *(str(ROOT / "examples" / name) for name in names), cwd=tmp_path)
    assert "logits: (19, 64, 128)" in printed
    assert float(re.search(r"executed: (\S+) MFLOPs", printed)[1]) > 0
    entropy, focal = map(float, re.search(r"loss_sem_seg (\S+), loss_extra_focal (\S+)", printed).groups())
    assert 0 < focal < 0.5 * entropy
    assert "best loss: 0.250" in printed  # the minimum of the mean of (w - 1)² and (w - 2)²
    assert "ignored pixels: 1536 of 6144" in printed  # a quarter


def test_layers_in_pytorch_reduce_the_loss(tmp_path):
    first, last = re.findall(r"loss (\S+)", run("layers_in_pytorch.py", cwd=tmp_path))
    assert float(last) < 0.5 * float(first)
