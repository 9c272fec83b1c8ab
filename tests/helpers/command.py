"""Runs of the command line in the process of the test."""

from dl_lib.cli import main as cli
from tests.helpers.training import restore_logging


def run_command(*words):
    """Run a command; return its exit status."""
    with restore_logging():
        try:
            cli.main([str(word) for word in words])
        except SystemExit as exit:
            return exit.code
    return 0
