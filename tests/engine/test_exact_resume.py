"""A run that is killed and goes on is the run that was not, bit for bit."""

import multiprocessing
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
from tests.helpers.small_run import assert_same_run, final_state, metrics, train, train_and_kill

# A server that has imported everything forks each process: they start at once, and share no locks with the tests.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.helpers.small_run", "torch.utils.tensorboard", "sklearn.datasets"])
KILLS = 20
ROOT = Path(__file__).parents[2]
SMALL_RUN = str(ROOT / "tests" / "helpers" / "small_run.py")


def run(target, *args):
    """The status of a process of its own; a signal that ended it is a negative number."""
    process = CONTEXT.Process(target=target, args=args)
    process.start()
    process.join(120)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(train, folder) == 0
    return folder


@pytest.mark.parametrize(
    ("after", "iteration"),
    [
        ("IterationTimer", 3),  # nothing of the iteration is saved
        ("PreciseBN", 6),  # statistics were recomputed, and are not saved
        ("PeriodicCheckpointer", 6),  # saved, and neither evaluated nor written down
        ("EvalHook", 6),  # evaluated, but neither written down nor the best one saved
        ("BestCheckpointer", 3),  # the best one is newer than the last one
        ("PeriodicWriter", 6),
        ("PeriodicWriter", 7),  # lines are written that the next run writes again
    ],
)
def test_wherever_it_died(tmp_path, undisturbed, after, iteration):
    assert run(train_and_kill, tmp_path, after, iteration) == -signal.SIGKILL
    assert run(train, tmp_path) == 0
    assert_same_run(tmp_path, undisturbed)


def test_no_line_is_missing_or_there_twice(undisturbed):
    iterations = [line["iteration"] for line in metrics(undisturbed)]
    assert iterations == [3, 6, 8]


def test_loaders_in_other_processes_change_nothing(tmp_path, undisturbed):
    workers = ["DATALOADER.NUM_WORKERS", 2]
    assert run(train_and_kill, tmp_path, "PeriodicCheckpointer", 4, workers) == -signal.SIGKILL
    assert run(train, tmp_path, workers) == 0
    assert_same_run(tmp_path, undisturbed)


def test_two_processes_of_torchrun_one_of_which_is_killed(tmp_path):
    """torchrun starts both anew, and they come to where two processes come that another starts and nobody disturbs."""
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
    # As on machines that leave: one process goes on where two were, with the whole batch of four.
    assert run(train, tmp_path / "killed", ["SOLVER.LR_SCHEDULER.MAX_ITER", 10]) == 0
    alone = final_state(tmp_path / "killed")["trainer"]
    assert (alone["iteration"], alone["samples"], len(alone["random_states"])) == (10, 40, 1)
    assert "World size changed from 2 to 1" in (tmp_path / "killed" / "log.txt").read_text()


def test_killed_at_random_moments(tmp_path, undisturbed):
    """Twenty times, also in the middle of a save; every other one after the first seconds of a run."""
    moments = random.Random(0)
    overrides = ["SOLVER.CHECKPOINT_PERIOD", 1]
    reference = tmp_path / "reference"
    assert run(train, reference, overrides) == 0
    folder = tmp_path / "killed"
    seconds = 1.0
    for _ in range(KILLS):
        process = CONTEXT.Process(target=train, args=(folder, overrides))
        start = time.monotonic()
        process.start()
        process.join(moments.uniform(0.2, 1) * seconds)
        process.kill()
        process.join()
        if process.exitcode == 0:  # it was done: once more from the start, a little less patiently
            seconds = max(0.3, 0.8 * (time.monotonic() - start))
            assert_same_run(folder, reference)
            folder = tmp_path / f"killed_{time.monotonic_ns()}"
        else:
            seconds = min(4.0, 1.1 * seconds)
    assert run(train, folder, overrides) == 0
    assert_same_run(folder, reference)
