"""Example scripts, run as in their docstrings."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


# Each with its arguments, in this order in one process: most of the time would be spent on importing torch.
RUNS = {
    "custom_dataset": ("--output", "out"),
    "custom_cell_operation": (),
    "custom_loss": (),
    "custom_hook": (),
    "custom_tracker": (),
    "custom_augmentation": (),
    "layers_in_pytorch": (),
}
RUN_ALL = """
import json, runpy, sys
for path, arguments in json.loads(sys.argv[1]):
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")
    print("\\nEND", flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder in which all examples have run; `printed.json` holds what each of them printed."""
    folder = tmp_path_factory.mktemp("examples")
    scripts = json.dumps([(str(ROOT / "examples" / f"{name}.py"), arguments) for name, arguments in RUNS.items()])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    settings = {"env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, "-c", RUN_ALL, scripts], cwd=folder, **settings)
    assert done.returncode == 0, done.stderr
    (folder / "printed.json").write_text(json.dumps(dict(zip(RUNS, done.stdout.split("\nEND\n"), strict=False))))
    return folder


@pytest.fixture
def printed(folder):
    """Output of the examples by name."""
    return json.loads((folder / "printed.json").read_text())


def test_all_examples_are_run():
    assert set(RUNS) == {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_docstring_contains_the_command(path):
    assert f"\n    python examples/{path.name}" in path.read_text().split('"""')[1]


def test_custom_dataset_trains_and_evaluates(folder, printed):
    assert 0 <= float(re.search(r"mIoU on my_dataset: (\S+)", printed["custom_dataset"])[1]) <= 1
    assert {"config.yaml", "model_final.pth", "results.json"} <= {path.name for path in (folder / "out").iterdir()}


def test_custom_cell_operation_is_counted(printed):
    assert "logits: (19, 64, 128)" in printed["custom_cell_operation"]
    assert float(re.search(r"executed: (\S+) MFLOPs", printed["custom_cell_operation"])[1]) > 0


def test_custom_loss_is_smaller_than_the_cross_entropy(printed):
    losses = re.fullmatch(r"loss_sem_seg (\S+), loss_extra_focal (\S+)\n", printed["custom_loss"]).groups()
    entropy, focal = map(float, losses)
    assert 0 < focal < 0.5 * entropy


def test_custom_tracker_writes_at_each_period(printed):
    lines = [line.split(",") for line in printed["custom_tracker"].splitlines()[-2:]]  # after those of the log
    assert [line[:2] for line in lines] == [["10", "total_loss"], ["20", "total_loss"]]
    first, last = (float(line[2]) for line in lines)
    # Medians of the steps: 0.25 + 2.25 * 0.8 ** (2 * step), the mean of those around the middle.
    assert first == pytest.approx(0.25 + 2.25 * (0.8**8 + 0.8**10) / 2, rel=1e-5)
    assert last == pytest.approx(0.25 + 2.25 * (0.8**28 + 0.8**30) / 2, rel=1e-5)


def test_custom_hook_and_augmentation(printed):
    assert printed["custom_hook"] == "best loss: 0.250\n"  # the minimum of the mean of (w - 1)² and (w - 2)²
    assert printed["custom_augmentation"] == "ignored pixels: 1536 of 6144\n"  # a quarter


def test_layers_in_pytorch_reduce_the_loss(printed):
    first, last = re.findall(r"loss (\S+)", printed["layers_in_pytorch"])
    assert float(last) < 0.5 * float(first)
