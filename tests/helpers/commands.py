"""Commands of dl_lib, run in this process, which saves the import of torch."""

import contextlib
import io
import os

from dl_lib.cli.main import main
from tests.helpers.training import restore_logging


def run_command(command, *words, cwd):
    """Run a command in a folder; return the lines that it prints."""
    printed, errors, before = io.StringIO(), io.StringIO(), os.getcwd()
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors), restore_logging():
            main([command, *map(str, words)])
    finally:
        os.chdir(before)
    assert errors.getvalue() == ""
    return printed.getvalue().splitlines()
