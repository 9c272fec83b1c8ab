"""Processes whose launcher is killed before they have asked to hear of its end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("how", ["spawn", "as torchrun"])
def test_a_launcher_that_has_ended_is_missed(tmp_path, how):
    found = tmp_path / "found"
    launcher = subprocess.run(
        [sys.executable, "-m", "tests.launch.orphan", how, str(found)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert launcher.returncode == 0  # it was there when it was looked for first
    deadline = time.monotonic() + 30
    while not found.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "the launcher ended while this process was starting" in found.read_text()
