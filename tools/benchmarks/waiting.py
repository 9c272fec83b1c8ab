"""Training step time by OpenMP wait policy, with two cores and with both threads on one.

Threads share a core when another process takes the other one. Run `python tools/benchmarks/waiting.py --help`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from unittest.mock import patch

from harness import Settings, benchmark_parser, in_fresh_process, interleave, start, timed
from networks import quickstart_config
from report import Report, Table, describe_machine
from training_steps import library_step

from dl_lib.cli.arg_types import positive_int
from dl_lib.cli.errors import user_errors

POLICIES = {
    "libgomp's default": {},
    **{f"GOMP_SPINCOUNT={count}": {"GOMP_SPINCOUNT": str(count)} for count in (3_000, 30_000, 100_000, 300_000)},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
WARMUP_STEPS, MAX_SECONDS = 3, 20.0
NOTES = """\
Medians of the processes' median seconds per step of the quickstart's network, 16 images of 96x96 pixels, in {rounds} \
rounds of fresh processes. One core: after the warm-up, all threads are moved to one core. Ratio: \
to libgomp's default with two cores."""


def step_seconds(is_on_one_core: bool, steps: int, settings: Settings) -> float:
    """Return the median duration of a training step in this process."""
    settings.apply()
    cfg = quickstart_config(Settings(device="cpu"))
    step = library_step(cfg, num_images=cfg.SOLVER.IMS_PER_BATCH)
    for _ in range(WARMUP_STEPS):
        step()
    if is_on_one_core:
        core = min(os.sched_getaffinity(0))
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})
    seconds: list[float] = []
    while len(seconds) < steps and sum(seconds) < MAX_SECONDS:
        seconds.append(timed(step)[0])
    return median(seconds)


def main(argv: Sequence[str] | None = None) -> None:
    parser = benchmark_parser("waiting.py", description="Compare wait policies of OpenMP threads.", repeats=3)
    parser.add_argument(
        "--steps", type=positive_int, default=30, metavar="N", help="timed steps (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    arguments.keep_memory = True

    def measure(policy: str, is_on_one_core: bool) -> Callable[[], float]:
        def seconds() -> float:
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
            with patch.dict(os.environ, kept | POLICIES[policy], clear=True):
                return in_fresh_process(step_seconds, is_on_one_core, arguments.steps, settings)

        return seconds

    with user_errors(parser.prog):
        settings = start(arguments)
        cases = {(policy, one): measure(policy, one) for policy in POLICIES for one in (False, True)}
        samples = interleave(cases, rounds=arguments.repeats, warmup=0)  # each process warms up itself
    quiet = median(samples["libgomp's default", False])
    rows = []
    for policy in POLICIES:
        two, one = (median(samples[policy, is_on_one_core]) for is_on_one_core in (False, True))
        rows.append((policy, two, two / quiet, one, one / quiet))
    columns = {"policy": "", "two cores s": ".3f", "ratio": ".2f", "one core s": ".3f", "ratio of one core": ".2f"}
    table = Table("Seconds per training step", columns, rows)
    named = {f"{policy}/{'one core' if one else 'two cores'}": values for (policy, one), values in samples.items()}
    facts, notes = describe_machine(settings), NOTES.format(rounds=arguments.repeats)
    Report("Waiting of threads", facts, notes, [table], named).write(
        arguments.output, "waiting", document=arguments.document
    )


if __name__ == "__main__":
    main()
