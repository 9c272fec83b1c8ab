"""Cost of training: step, trainer overhead, waiting for data, activation checkpointing, several processes.

Run `python tools/benchmarks/training.py --help`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from harness import (
    Run,
    Settings,
    add_parts_option,
    benchmark_parser,
    interleave,
    measure_memory,
    start,
    time_cases,
    timed,
)
from report import Report, Samples, Table, describe_machine, measure_parts
from torch.utils.benchmark import timer
from training_steps import TrainingCase, model_step

from dl_lib.cli.arg_types import positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.config import CfgNode
from dl_lib.engine import DefaultTrainer, Trainer
from dl_lib.engine.hooks import Hook, PeriodicCheckpointer
from dl_lib.experiment.experiment import load_experiment, register_parts
from dl_lib.launch import ProcessRequest
from dl_lib.launch.launch import launch
from dl_lib.utils import comm

CHUNK_STEPS = 5  # timed together; each chunk of the trainer includes one line of the log and of the metrics
LOOP_ROUNDS = 8  # per round of the other parts: chunks differ by a tenth, and the overhead is a few percent
DATA_STEPS = 40
CPU_THREADS = 2  # of all processes together
PROCESS_ROUNDS = 3
Gate = Literal["full_gate", "small_gate"]  # gates read the cell's input at full size, or at a quarter of its sides
Order = Literal["contiguous", "channels_last"]
NOTES = """\
Medians of {rounds} rounds after a warm-up. Training step and activation checkpointing: the default network; peak MiB \
of a fresh process that runs two steps, of which the idle part is interpreter and libraries. Trainer overhead, waiting \
for data and processes: the experiment, {images} images per step. Trainer and bare steps alternate every {chunk} steps \
on one batch in memory; the trainer clips, logs, and writes metrics and TensorBoard events. One process has two \
threads, two have one each."""


class UnsavedTrainer(DefaultTrainer):
    """Trainer that writes no checkpoints."""

    def build_hooks(self) -> list[Hook]:
        return [hook for hook in super().build_hooks() if not isinstance(hook, PeriodicCheckpointer)]


class OneBatchTrainer(UnsavedTrainer):
    """Trainer that repeats one batch, so that it never waits for data."""

    def build_train_loader(self, *, start: int) -> Iterable[list[dict[str, Any]]]:
        return repeat(next(iter(super().build_train_loader(start=start))))


class Alternation(Hook):
    """Hook that alternates chunks of the trainer's steps with chunks of other steps, and records seconds per step."""

    def __init__(self, others: Mapping[str, Run]) -> None:
        self.others = others
        self.seconds: dict[str, list[float]] = {name: [] for name in (*others, "trainer")}
        self.start_seconds = 0.0

    def before_train(self, trainer: Trainer) -> None:
        self.start_seconds = timer()

    def after_step(self, trainer: Trainer) -> None:
        if trainer.iteration % CHUNK_STEPS:
            return
        self.seconds["trainer"].append((timer() - self.start_seconds) / CHUNK_STEPS)
        for name, step in self.others.items():
            seconds, _ = timed(lambda step=step: [step() for _ in range(CHUNK_STEPS)])
            self.seconds[name].append(seconds / CHUNK_STEPS)
        self.start_seconds = timer()


def bare_step(trainer: DefaultTrainer, *, clips: bool) -> Run:
    """Return a step without the library's loop: forward, backward, optimizer.

    The step uses the trainer's network: equal networks differ in speed by a few percent, depending on their memory
    addresses.
    """
    batch = next(iter(trainer.build_train_loader(start=0)))
    max_norm = trainer.cfg.SOLVER.GRAD_CLIP if clips else None
    return model_step(trainer.model, trainer.optimizer, batch, max_norm=max_norm)


def step_case(
    gate: Gate, order: Order, *, images: int = 2, side: int = 256, checkpointed: bool = False
) -> TrainingCase:
    """Return a case; `checkpointed` recomputes the activations of the lattice in the backward pass."""
    options = {
        "MODEL.GATE.SMALL_GATE": gate == "small_gate",
        "MODEL.CHANNELS_LAST": order == "channels_last",
        "MODEL.ACTIVATION_CHECKPOINTING": checkpointed,
    }
    overrides = tuple(word for option in options.items() for word in option)
    return TrainingCase(f"{gate}/{order}", images, side, overrides)


def measure_step(settings: Settings, *, rounds: int) -> tuple[Table, Samples]:
    """Measure the training step of the default network, by gate and memory order."""
    gates: tuple[Gate, ...] = ("full_gate", "small_gate")
    orders: tuple[Order, ...] = ("contiguous", "channels_last")
    cases = {(gate, order): step_case(gate, order) for gate in gates for order in orders}
    memory = {key: measure_memory(case, settings) for key, case in cases.items()}
    timings = time_cases(list(cases.values()), settings, rounds=rounds)
    rows = []
    for (gate, order), case in cases.items():
        timing, base = timings[case.name], timings[cases[gate, "contiguous"].name]
        ratio = timing.median_seconds / base.median_seconds
        rows.append((gate, order, timing.median_seconds, ratio, timing.gflops, memory[gate, order].peak_mib))
    columns = {"gate": "", "variant": "", "seconds": ".4f", "ratio to contiguous": ".3f"}
    table = Table(f"Training step, {case.group}", columns | {"GFLOPs": ".3f", "peak MiB": ".0f"}, rows)
    return table, {name: timing.seconds for name, timing in timings.items()}


def measure_loop(cfg: CfgNode, *, rounds: int) -> tuple[Table, Samples]:
    """Measure the trainer with its hooks against bare steps on the same batch."""
    cfg = cfg.with_values({"SOLVER.LR_SCHEDULER.MAX_ITER": CHUNK_STEPS * (LOOP_ROUNDS * rounds + 1)})
    trainer = OneBatchTrainer(cfg.with_values({"SOLVER.EMA.DECAY": 0.0}))
    bare = {"bare": bare_step(trainer, clips=False), "bare, with clipping": bare_step(trainer, clips=True)}
    alternation = Alternation(bare)
    trainer.hooks.append(alternation)
    trainer.train()
    samples = {name: tuple(seconds[1:]) for name, seconds in alternation.seconds.items()}  # the first warms up
    return ratio_table("Trainer overhead", "loop", samples, base="bare"), samples


def measure_data(cfg: CfgNode) -> tuple[Table, Samples]:
    """Measure the fraction of a step that waits for data; the first quarter of the steps warms up."""
    rows = []
    for workers in (0, 1):
        own = cfg.with_values({"DATALOADER.NUM_WORKERS": workers, "SOLVER.LR_SCHEDULER.MAX_ITER": DATA_STEPS})
        trainer = UnsavedTrainer(own)
        trainer.train()
        scalars = trainer.events.summary(after=DATA_STEPS // 4)
        rows.append((workers, scalars["data_seconds"] / scalars["iteration_seconds"]))
    return Table("Waiting for data", {"worker processes": "d", "fraction of a step": ".1%"}, rows), {}


def measure_activations(settings: Settings, *, side: int) -> tuple[Table, Samples]:
    """Measure the peak memory of a step of one image, with and without activation checkpointing."""
    rows = []
    for name, checkpointed in (("kept", False), ("recomputed", True)):
        case = step_case("full_gate", "channels_last", images=1, side=side, checkpointed=checkpointed)
        memory = measure_memory(case, settings)
        rows.append((name, memory.peak_mib, memory.idle_mib, memory.peak_mib - memory.idle_mib))
    columns = {"activations": "", "peak MiB": ".0f", "idle MiB": ".0f", "difference": ".0f"}
    return Table(f"Activation checkpointing, 1x3x{side}x{side}", columns, rows), {}


def measure_processes(cfg: CfgNode, *, rounds: int) -> tuple[Table, Samples]:
    """Measure a step of the same batch on the same CPU cores with one process and with two."""
    path = Path(cfg.OUTPUT_DIR, "seconds.txt")

    def measure(processes: int) -> float:
        launch(train_in_process, ProcessRequest(processes), device="cpu", args=(cfg, rounds, path))
        return float(path.read_text(encoding="utf-8"))

    measures = {str(count): lambda count=count: measure(count) for count in (1, 2)}
    samples = interleave(measures, rounds=PROCESS_ROUNDS, warmup=0)  # each process warms up itself
    return ratio_table("Processes", "processes", samples, base="1"), samples


def train_in_process(cfg: CfgNode, steps: int, path: Path) -> None:
    """Train on one batch; the main process writes the median step time after two warm-up steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(CPU_THREADS // comm.get_world_size())
    trainer = OneBatchTrainer(cfg.with_values({"SOLVER.LR_SCHEDULER.MAX_ITER": steps + 2}))
    trainer.train()
    torch.set_num_threads(threads)
    if comm.is_main_process():
        path.write_text(str(trainer.events.summary(after=2)["iteration_seconds"]), encoding="utf-8")


def ratio_table(title: str, header: str, samples: Samples, *, base: str) -> Table:
    """Return the medians of samples, and their ratios to one of the medians."""
    medians = {name: median(seconds) for name, seconds in samples.items()}
    rows = [(name, seconds, seconds / medians[base]) for name, seconds in medians.items()]
    return Table(title, {header: "", "s per step": ".4f", f"ratio to {base}": ".3f"}, rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = benchmark_parser("training.py", description="Measure the cost of training.", repeats=7)
    add = parser.add_argument
    add("--config-file", default="playground/Quickstart", metavar="PATH", help="(default: %(default)s)")
    add_parts_option(parser, ("step", "loop", "data", "activations", "processes"))
    add("--memory-side", type=positive_int, default=768, metavar="PIXELS", help="of the image (default: %(default)s)")
    add("opts", nargs="*", metavar="KEY=VALUE", help="overrides of the experiment's configuration")
    arguments = parser.parse_intermixed_args(argv)
    opts, arguments.opts, rounds = arguments.opts, [], arguments.repeats
    with user_errors(parser.prog), tempfile.TemporaryDirectory() as folder:
        settings = start(arguments)
        experiment = load_experiment(arguments.config_file, opts, world_size=2, purpose="training")
        register_parts(experiment)
        disabled = {"TEST.EVAL_PERIOD": 0, "TEST.PRECISE_BN.ENABLED": False, "SOLVER.CHECKPOINT_PERIOD": 0}
        fixed = {"LOG_PERIOD": CHUNK_STEPS, "SEED": 0, "DATALOADER.NUM_WORKERS": 0, "OUTPUT_DIR": folder}
        cfg = experiment.cfg.with_values(disabled | fixed | {"MODEL.DEVICE": settings.device})
        measures: dict[str, Callable[[], tuple[Table, Samples]]] = {
            "step": lambda: measure_step(settings, rounds=rounds),
            "loop": lambda: measure_loop(cfg, rounds=rounds),
            "data": lambda: measure_data(cfg),
            "activations": lambda: measure_activations(settings, side=arguments.memory_side),
            "processes": lambda: measure_processes(cfg, rounds=rounds),
        }
        tables, samples = measure_parts(measures, arguments.parts)
    notes = NOTES.format(rounds=rounds, images=cfg.SOLVER.IMS_PER_BATCH, chunk=CHUNK_STEPS)
    facts = {**describe_machine(settings), "experiment": arguments.config_file}
    Report("Training", facts, notes, tables, samples).write(arguments.output, "training", document=arguments.document)


if __name__ == "__main__":
    main()
