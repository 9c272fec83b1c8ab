"""Commands whose standard output or error is closed, full, a broken pipe, or has a small character set."""

import json
import os
import subprocess
import sys

import pytest

from dl_lib.cli import train
from dl_lib.utils.standard_streams import tolerant_streams
from tests.helpers.small_run import SMALL
from tests.helpers.training import restore_logging


@pytest.mark.parametrize(
    ("shell", "status", "error"),
    [
        ("{} config | head -n 1", 0, ""),
        ("{} train --help | head -n 1", 0, ""),
        ("{} config >&-", 0, ""),
        ("{} config MODEL.DEVICE > /dev/full", 1, "cannot write to standard output: No space left on device\n"),
        ("{} config MODEL.DEVICE <&- >&- 2>&-", 0, ""),
        ("{} --help > /dev/full", 1, "cannot write to standard output: No space left on device\n"),
    ],
)
def test_streams_of_a_command(shell, status, error):
    """The list of keys is longer than the buffer of a pipe is likely to drain before `head` closes it."""
    command = shell.format(f"{sys.executable} -m dl_lib.cli.main")
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.rpartition("error: ")[2]) == (status, error)


@pytest.mark.parametrize("streams", ["closed", "full"])
def test_a_run_ends_without_standard_output_and_error(tmp_path, monkeypatch, streams):
    (tmp_path / "config.yaml").write_text("")
    words = [
        *("MODEL.BUDGET.CONSTRAIN=False", "DATASETS.TRAIN=[digit_scenes_val]", "DATASETS.TEST=[]", "LOG_PERIOD=1"),
        *("TEST.EVAL_PERIOD=0", "TEST.PRECISE_BN.ENABLED=False", "SOLVER.BEST_METRIC=''", "SOLVER.EMA.DECAY=0"),
        *("SOLVER.LR_SCHEDULER.MAX_ITER=2", "SOLVER.LR_SCHEDULER.WARMUP_ITERS=0", f"OUTPUT_DIR={tmp_path / 'run'}"),
    ]
    with open("/dev/full", "w") as out, open("/dev/full", "w") as error, restore_logging():
        monkeypatch.setattr(sys, "stdout", None if streams == "closed" else out)
        monkeypatch.setattr(sys, "stderr", None if streams == "closed" else error)
        train.main(["--config-file", str(tmp_path), *map(str, SMALL), *words])
    assert (tmp_path / "run" / "model_final.pth").exists()
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "Iteration 2/2" in log and "Run folder" in log
    lines = (tmp_path / "run" / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2]


def test_characters_without_encoding_are_escaped(tmp_path, monkeypatch):
    path = tmp_path / "out.txt"
    with path.open("w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with tolerant_streams():
            print("Straße \udcff")
    assert path.read_text() == "Stra\\xdfe \\udcff\n"


def test_streams_are_restored_and_output_reaches_them(capfd):
    before = sys.stdout, sys.stderr
    with tolerant_streams() as failures:
        print("out", os.getpid())
        print("error", file=sys.stderr)
    assert (sys.stdout, sys.stderr) == before
    assert failures == []
    assert capfd.readouterr() == (f"out {os.getpid()}\n", "error\n")
