"""Fuzzing of all file formats until a time limit: `python -m tests.fuzz --minutes 60`.

Each format runs in a process of its own, for a slice of the time in turn, so that a crash of native code is counted.
Counts per format are printed after each round: contents read, valid ones, refused ones (user errors), failures (any
other error, an invalid value, more than 20 s for one content) and crashes (signals, hanging processes). The first
content of each failure is kept in the output folder.
"""

import argparse
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

KINDS = ("contents", "valid", "refused", "failures", "crashes")
SECONDS_PER_CONTENT = 20
MEMORY_BYTES = 8 * 2**30  # address space of a process
CONTENTS_PER_SEED = 500


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--slice-seconds", type=float, default=60.0, help="time of each format in a round")
    parser.add_argument("--formats", nargs="*", help="names of formats (default: all)")
    parser.add_argument("--output", type=Path, default=Path("output/fuzz"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.child:
        fuzz_format(
            arguments.child, seconds=arguments.slice_seconds, first_seed=arguments.seed, output=arguments.output
        )
    else:
        fuzz_all(arguments)


def fuzz_all(arguments: argparse.Namespace) -> None:
    """Run all formats in turn until the time limit."""
    from tests.fuzz.formats import FORMATS

    totals = {name: Counter() for name in arguments.formats or FORMATS}
    end, number = time.monotonic() + 60 * arguments.minutes, arguments.seed
    while time.monotonic() < end:
        number += 1
        for name, total in totals.items():
            seconds = min(arguments.slice_seconds, end - time.monotonic())
            if seconds > 1:
                total.update(run_child(name, seconds=seconds, number=number * 10**6, output=arguments.output))
        print_counts(totals)


def run_child(name: str, *, seconds: float, number: int, output: Path) -> dict[str, int]:
    """Run one format in its own process and return its counts; a crash keeps the folder with the content."""
    counts_file, folder = output / "counts.json", Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    counts_file.unlink(missing_ok=True)
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", "--child", name, "--output", str(output)]
    command += ["--slice-seconds", str(seconds), "--seed", str(number)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, env=environment)
        reason = f"status {done.returncode}\n{done.stderr[-4000:]}"
    except subprocess.TimeoutExpired:
        reason = "the process does not respond"
    counts = json.loads(counts_file.read_text()) if counts_file.exists() else {}
    if counts.pop("finished", False):
        shutil.rmtree(folder, ignore_errors=True)
        return counts
    print(f"{name}: crash with seed {number}; its files are kept in {folder}: {reason}", flush=True)
    return {**counts, "crashes": 1}


def fuzz_format(name: str, *, seconds: float, first_seed: int, output: Path) -> None:
    """Read contents of one format until the time limit; write counts and failures to the output folder."""
    from tests.fuzz.formats import FORMATS, USER_ERRORS

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _raise_timeout)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    form = FORMATS[name](Path(tempfile.mkdtemp()))
    counts, end = Counter(), time.monotonic() + seconds

    def check(content: object) -> None:
        if time.monotonic() > end:
            return
        counts["contents"] += 1
        if counts["contents"] % 100 == 0:
            (output / "counts.json").write_text(json.dumps(counts))
        signal.alarm(SECONDS_PER_CONTENT)
        try:
            form.read(content)
            counts["valid"] += 1
        except USER_ERRORS:
            counts["refused"] += 1
        except Exception as error:
            counts["failures"] += 1
            record_failure(name, error, content, output=output)
        finally:
            signal.alarm(0)

    number = first_seed
    while time.monotonic() < end:
        number += 1
        many = settings(
            max_examples=CONTENTS_PER_SEED,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        seed(number)(many(given(form.contents)(check)))()
    (output / "counts.json").write_text(json.dumps({**counts, "finished": True}))


def record_failure(name: str, error: Exception, content: object, *, output: Path) -> None:
    """Keep the first content of each kind of failure: type and line of the error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/dl_lib/" in frame.filename]
    place = f"{Path(frames[-1].filename).stem}-{frames[-1].lineno}" if frames else "reader"
    path = output / f"{name}-{type(error).__name__}-{place}.txt"
    if not path.exists():
        path.write_text(f"{''.join(traceback.format_exception(error))}\ncontent = {content!r}\n")
        print(f"{name}: {type(error).__name__}: {error!s:.200}; see {path}", file=sys.stderr)


def print_counts(totals: dict[str, Counter]) -> None:
    print(time.strftime("%H:%M:%S"))
    for name, total in {**totals, "total": sum(totals.values(), Counter())}.items():
        print(f"  {name:12}" + ", ".join(f"{total[kind]:9,} {kind}" for kind in KINDS), flush=True)


def _raise_timeout(number: int, frame: object) -> None:
    raise TimeoutError(f"reading one content takes longer than {SECONDS_PER_CONTENT} s")


if __name__ == "__main__":
    main()
