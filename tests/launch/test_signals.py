"""Child processes whose launcher exits before or after they call `exit_with_parent`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXITED = "the launcher exited while this process was starting"


@pytest.mark.parametrize(
    ("how", "when", "expected"), [("spawn", "late", EXITED), ("popen", "late", EXITED), ("popen", "early", "TERM")]
)
def test_child_is_notified_of_launcher_exit(tmp_path, how, when, expected):
    notification = tmp_path / "notification"
    command = [sys.executable, "-m", "tests.launch.orphan", how, when, str(notification)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=True)
    deadline = time.monotonic() + 60
    while not notification.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert notification.read_text().startswith(expected)
