"""Bit-exact equality of killed and resumed runs with uninterrupted ones."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dl_lib.launch import ProcessRequest
from dl_lib.launch.launch import launch
from tests.helpers.forked import CONTEXT
from tests.helpers.forked import run_forked as run
from tests.helpers.small_run import assert_same_run, final_state, metrics, train, train_and_kill

KILLS = 20
ROOT = Path(__file__).parents[2]
SMALL_RUN = str(ROOT / "tests" / "helpers" / "small_run.py")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run(train, folder) == 0
    return folder


@pytest.mark.parametrize(
    ("after", "iteration"),
    [
        ("IterationTimer", 3),  # before any save in this iteration
        ("PreciseBN", 6),  # statistics are recomputed but not saved
        ("PeriodicCheckpointer", 6),  # saved but neither evaluated nor written
        ("EvalHook", 6),  # evaluated, but neither written nor saved as best
        ("BestCheckpointer", 3),  # the best checkpoint is newer than the last one
        ("PeriodicWriter", 6),
        ("PeriodicWriter", 7),  # the resumed run rewrites these lines
    ],
)
def test_killed_after_each_hook(tmp_path, uninterrupted, after, iteration):
    assert run(train_and_kill, tmp_path, after, iteration) == -signal.SIGKILL
    assert run(train, tmp_path) == 0
    assert_same_run(tmp_path, uninterrupted)


def test_each_line_is_written_once(uninterrupted):
    iterations = [line["iteration"] for line in metrics(uninterrupted)]
    assert iterations == [3, 6, 8]


def test_worker_processes_do_not_affect_the_result(tmp_path, uninterrupted):
    workers = ["DATALOADER.NUM_WORKERS", 2]
    assert run(train_and_kill, tmp_path, "PeriodicCheckpointer", 4, workers) == -signal.SIGKILL
    assert run(train, tmp_path, workers) == 0
    assert_same_run(tmp_path, uninterrupted)


def test_torchrun_restart_after_one_process_is_killed(tmp_path):
    """Two processes restarted by torchrun equal two spawned, uninterrupted processes."""
    launch(train, ProcessRequest(2), device="cpu", args=(tmp_path / "whole",))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1", SMALL_RUN]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [sys.executable, *command, tmp_path / "killed"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert killed.returncode == 0, killed.stderr
    assert "Resuming from iteration 4/8" in killed.stdout
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert len(final_state(tmp_path / "whole")["trainer"]["random_states"]) == 2
    # The world size shrinks: one process resumes with the whole batch of four.
    assert run(train, tmp_path / "killed", ["SOLVER.LR_SCHEDULER.MAX_ITER", 10]) == 0
    single = final_state(tmp_path / "killed")["trainer"]
    assert (single["iteration"], single["samples"], len(single["random_states"])) == (10, 40, 1)
    assert "World size changed from 2 to 1" in (tmp_path / "killed" / "log.txt").read_text()


def test_killed_at_random_times(tmp_path, uninterrupted):
    """Kill the run twenty times at random, also during saves."""
    rng = random.Random(0)
    overrides = ["SOLVER.CHECKPOINT_PERIOD", 1]
    reference = tmp_path / "reference"
    assert run(train, reference, overrides) == 0
    folder = tmp_path / "killed"
    seconds = 1.0
    for _ in range(KILLS):
        process = CONTEXT.Process(target=train, args=(folder, overrides))
        start = time.monotonic()
        process.start()
        process.join(rng.uniform(0.2, 1) * seconds)
        process.kill()
        process.join()
        if process.exitcode == 0:  # finished before it was killed: start again with a shorter delay
            seconds = max(0.3, 0.8 * (time.monotonic() - start))
            assert_same_run(folder, reference)
            folder = tmp_path / f"killed_{time.monotonic_ns()}"
        else:
            seconds = min(4.0, 1.1 * seconds)
    assert run(train, folder, overrides) == 0
    assert_same_run(folder, reference)
