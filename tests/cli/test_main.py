"""Dispatcher of the command `dl_lib`: overview, subcommands, unknown names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dl_lib.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "cv2", "numpy", "matplotlib")


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_overview_fits_on_one_screen(capsys, words):
    main(words)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.startswith("  ")][: len(COMMANDS)] == list(COMMANDS)


@pytest.mark.parametrize(("name", "nearest"), [("trane", "nearest: train"), ("find_lr", "nearest: find-lr"), ("", "")])
def test_unknown_command(capsys, name, nearest):
    with pytest.raises(SystemExit) as caught:
        main([name])
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dl_lib: error: ") and captured.err.endswith(f"Received: {name}\n")
    assert nearest in captured.err


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out.startswith("dl_lib 0.")


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_without_heavy_imports(command, tmp_path):
    for name in HEAVY:
        (tmp_path / f"{name}.py").write_text(f"raise AssertionError('{name} was imported')\n")
    words = ["--help"] if command is None else [command, "--help"]
    done = subprocess.run(
        [sys.executable, "-m", "dl_lib.cli.main", *words],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: dl_lib {command or 'COMMAND'}")
    assert max(map(len, done.stdout.splitlines())) <= 88
