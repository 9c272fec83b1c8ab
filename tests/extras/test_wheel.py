"""Built wheel in a fresh environment that cannot see the repository: commands, shipped experiments, shipped bases."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.extras

ROOT = Path(__file__).parents[2]
SHORT = ["SOLVER.LR_SCHEDULER.MAX_ITER=2", "SOLVER.IMS_PER_BATCH=2", "DATALOADER.NUM_WORKERS=0", "TEST.EVAL_PERIOD=0"]
CONFIG = """
_BASE_: dl_lib://Base-DynamicNet4Seg.yaml
MODEL: {DEVICE: cpu, SEM_SEG_HEAD: {NUM_CLASSES: 11}}
DATASETS: {TRAIN: [absent_dataset], TEST: []}
"""


# Without the checkout on the module search path.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DL_DATASETS")}


def execute(*words, cwd):
    line = [str(word) for word in words]
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500)


def check(*words, cwd):
    done = execute(*words, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory):
    """Scripts of an environment with the wheel, which is built from an sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    source, dist, venv = (folder / name for name in ("source", "dist", "venv"))
    for name in ("configs", "dl_lib", "playground"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "output"))
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, source)
    check(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, cwd=source)
    check(sys.executable, "-m", "venv", "--without-pip", venv, cwd=source)
    python = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps"]
    check(*pip, *dist.glob("*.whl"), cwd=source)
    # Dependencies come from this environment. The path of a .pth file is searched last, and .pth files in there, such
    # as that of an editable installation, have no effect.
    paths = sysconfig.get_paths(vars={"base": str(venv), "platbase": str(venv)})
    Path(paths["purelib"], "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    shutil.rmtree(source)
    return venv / "bin"


@pytest.fixture
def run(bin_folder, tmp_path):
    """Function that runs a command of the wheel in an empty folder."""
    return lambda script, *words: execute(bin_folder / script, *words, cwd=tmp_path)


def test_import_comes_from_the_wheel(run, bin_folder):
    printed = run("python", "-c", "import dl_lib; print(dl_lib.__file__)").stdout
    assert printed.startswith(str(bin_folder.parent))


def test_overview_and_shipped_experiments(run, tmp_path):
    done = run("dl_lib")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: dl_lib COMMAND")
    done = run("dl_lib", "config", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split()[0] for line in done.stdout.splitlines()]
    experiments = (path.parent for path in (ROOT / "playground").rglob("config.yaml") if "output" not in path.parts)
    assert sorted(names) == sorted(path.relative_to(ROOT / "playground").as_posix() for path in experiments)
    assert list(tmp_path.iterdir()) == []


def test_aliases(run):
    for script in ("dl_train", "dl_test"):
        assert run(script, "--help").stdout.startswith(f"usage: {script}")


def test_quickstart_in_an_empty_folder(run, tmp_path):
    done = run("dl_lib", "train", "--config-file", "Quickstart", *SHORT)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["output"]
    folder = tmp_path / "output" / "Quickstart"
    done = run("dl_lib", "evaluate", "--config-file", "output/Quickstart")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (results,) = (folder / "evaluations").glob("*/results.json")
    (scores,) = json.loads(results.read_text())["datasets"].values()
    assert 0 <= scores["mIoU"] <= 1


def test_own_config_on_a_shipped_base(run, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    done = run("dl_lib", "train")
    assert done.returncode == 2
    assert "absent_dataset" in done.stderr and "_BASE_" not in done.stderr


@pytest.mark.parametrize("base", ["dl_lib://../../setup.py", "dl_lib:///etc/passwd"])
def test_a_shipped_base_outside_its_folder_is_refused(run, tmp_path, base):
    (tmp_path / "config.yaml").write_text(f"_BASE_: {base}\n")
    done = run("dl_lib", "train")
    assert done.returncode == 2
    assert done.stderr.startswith("dl_lib train: error: ") and base in done.stderr
    assert "Traceback" not in done.stderr
