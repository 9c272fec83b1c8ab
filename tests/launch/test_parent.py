"""Processes whose launcher is killed, before or after they have asked to hear of it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GONE = "the launcher ended while this process was starting"


@pytest.mark.parametrize(
    ("how", "when", "expected"), [("spawn", "late", GONE), ("start", "late", GONE), ("start", "early", "TERM")]
)
def test_the_end_of_a_launcher_is_heard_of(tmp_path, how, when, expected):
    heard = tmp_path / "heard"
    command = [sys.executable, "-m", "tests.launch.orphan", how, when, str(heard)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=True)
    deadline = time.monotonic() + 60
    while not heard.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert heard.read_text().startswith(expected)
