"""Functions and commands in new processes, forked from a server that has imported the library.

They start in milliseconds, share no locks with the test process, and do not change its registries.
"""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("tests.helpers.small_run", "torch.utils.tensorboard", "sklearn.datasets", "dl_lib.validation"),
        *("dl_lib.visualization.confusion_matrix", "dl_lib.visualization.routing"),
    ]
)


def run_forked(target, *args):
    """Run a function in a new process and return its exit code; a signal is a negative number."""
    process = CONTEXT.Process(target=target, args=args)
    process.start()
    process.join(120)
    assert process.exitcode is not None, "timeout"
    return process.exitcode


def run_command(command, *words, cwd):
    """Run a command of dl_lib in a new process in a folder; return the lines that it prints."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdout", "stderr")]
        status = run_forked(_main, [command, *map(str, words)], cwd, files, dict(os.environ))
        printed, errors = (file.read_text() for file in files)
    assert status == 0, printed + errors
    assert errors == ""
    return printed.splitlines()


def _main(words, folder, files, environment):
    from dl_lib.cli.main import main

    os.chdir(folder)
    os.environ.update(environment)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    main(words)
