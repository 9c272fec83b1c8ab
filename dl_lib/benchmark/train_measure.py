"""Measuring what a training costs beside its bare steps: the loop, the data, memory, several processes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dl_lib.benchmark.cases import Settings, TrainingCase
from dl_lib.benchmark.measure import WARM_UP_ROUNDS, Memory, Timing, measure_memory, take_turns
from dl_lib.config import CfgNode
from dl_lib.engine import DefaultTrainer
from dl_lib.engine.hooks import Hook, PeriodicCheckpointer
from dl_lib.engine.training.trainer import Trainer
from dl_lib.launch.launch import launch
from dl_lib.launch.request import ProcessRequest
from dl_lib.utils import comm
from dl_lib.utils.progress import progress_bar

__all__ = ["MEMORY_SIDE", "TrainResults", "measure_training"]

MEMORY_SIDE = 768  # pixels: the published crop
CHUNK = 5  # steps that are timed together; each chunk of the trainer holds one line of the log and of the metrics
LOOP_ROUNDS = 8  # for each round of the other parts: single chunks differ by a tenth, and three percent are looked for
DATA_STEPS = 40
THREADS = 2  # of all processes together
PROCESS_ROUNDS = 3
NO_EXTRAS = ("TEST.EVAL_PERIOD", 0, "TEST.PRECISE_BN.ENABLED", False, "SOLVER.CHECKPOINT_PERIOD", 0)


@dataclass(frozen=True)
class TrainResults:
    """What was measured; seconds are those of a step.

    Attributes:
        loop: the bare step, the same with clipping, and the trainer with its hooks.
        data_shares: by the number of loader processes, the part of a step that waits for data.
        memory_orders: a step by the memory order of its maps.
        memory: a step of one image of `MEMORY_SIDE` squared, with and without activation checkpointing.
        processes: by their number, of a step of the same batch on the same cores.
        images: of a step of the experiment.
    """

    loop: dict[str, Timing]
    data_shares: dict[str, float]
    memory_orders: dict[str, Timing]
    memory: dict[str, Memory]
    processes: dict[str, Timing]
    images: int


def measure_training(cfg: CfgNode, *, repeats: int, memory_side: int = MEMORY_SIDE) -> TrainResults:
    """Measures everything, one thing after the other; what a ratio is made of takes turns.

    Args:
        cfg: a whole configuration, for the CPU; the trainer's other costs (evaluation, saving) are switched off.
        repeats: timed rounds.
        memory_side: pixels, height and width of the image that memory is measured with.
    """
    settings = Settings("cpu")
    orders = {order: TrainingCase("full_gate", order) for order in ("contiguous", "channels_last")}
    cases = {
        name: TrainingCase("full_gate", "channels_last", images=1, side=memory_side, checkpointed=checkpointed)
        for name, checkpointed in (("kept", False), ("computed again", True))
    }
    turns = 2 + len(orders) * (WARM_UP_ROUNDS + repeats)
    with tempfile.TemporaryDirectory() as folder, progress_bar(turns, description="benchmark", unit="part") as bar:
        cfg = _without_extras(cfg, folder=folder)
        loop = _measure_loop(cfg, repeats=repeats)
        bar.update()
        data_shares = {str(n): _measure_data(cfg, workers=n, steps=DATA_STEPS) for n in (0, 1)}
        bar.update()
        runs = {name: case.prepare(settings) for name, case in orders.items()}
        memory_orders = take_turns(runs, repeats=repeats, bar=bar, uses_gpu=False)
        memory = {name: measure_memory(case, settings) for name, case in cases.items()}
        processes = _measure_processes(cfg, folder=Path(folder), repeats=repeats)
    return TrainResults(loop, data_shares, memory_orders, memory, processes, cfg.SOLVER.IMS_PER_BATCH)


def _without_extras(cfg: CfgNode, *, folder: str) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    extras = ("LOG_PERIOD", CHUNK, "SEED", 0, "OUTPUT_DIR", folder, "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0)
    cfg.merge_from_list([*NO_EXTRAS, *extras])
    return cfg


class _UnsavedTrainer(DefaultTrainer):
    """Saves nothing."""

    def build_hooks(self) -> list[Hook]:
        return [hook for hook in super().build_hooks() if not isinstance(hook, PeriodicCheckpointer)]


class _OneBatchTrainer(_UnsavedTrainer):
    """Trains on the same batch again and again, so that no data are waited for."""

    def build_train_loader(self, *, start: int) -> Iterable[list[dict[str, Any]]]:
        return _repeated(next(iter(super().build_train_loader(start=start))))


def _repeated(batch: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while True:
        yield batch


class _Turns(Hook):
    """After each chunk of the trainer's steps, runs as many of the others, and keeps the seconds of all."""

    def __init__(self, others: dict[str, Callable[[], None]]) -> None:
        self.others = others
        self.seconds: dict[str, list[float]] = {name: [] for name in (*others, "trainer")}
        self._start_seconds = 0.0

    def before_train(self, trainer: Trainer) -> None:
        self._start_seconds = time.perf_counter()

    def after_step(self, trainer: Trainer) -> None:
        if trainer.iteration % CHUNK:
            return
        self.seconds["trainer"].append((time.perf_counter() - self._start_seconds) / CHUNK)
        for name, step in self.others.items():
            start_seconds = time.perf_counter()
            for _ in range(CHUNK):
                step()
            self.seconds[name].append((time.perf_counter() - start_seconds) / CHUNK)
        self._start_seconds = time.perf_counter()


def _measure_loop(cfg: CfgNode, *, repeats: int) -> dict[str, Timing]:
    cfg = cfg.clone()
    steps = CHUNK * (LOOP_ROUNDS * repeats + 1)
    cfg.merge_from_list(["SOLVER.LR_SCHEDULER.MAX_ITER", steps, "SOLVER.EMA.DECAY", 0.0])
    trainer = _OneBatchTrainer(cfg)
    others = {"bare": _bare_step(trainer, clips=False), "bare, with clipping": _bare_step(trainer, clips=True)}
    turns = _Turns(others)
    trainer.hooks.append(turns)
    trainer.train()
    return {name: Timing(tuple(seconds[1:]), gflops=0.0) for name, seconds in turns.seconds.items()}  # one warms up


def _bare_step(trainer: DefaultTrainer, *, clips: bool) -> Callable[[], None]:
    """What a loop without this library does: forward, backward, step.

    On the trainer's own network, at the same place in the training: two equal networks differ by some percent, by where
    they happen to lie in memory.
    """
    model, optimizer = trainer.model, trainer.optimizer
    batch = next(iter(trainer.build_train_loader(start=0)))
    parameters = list(model.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        losses, _ = model(batch, step_rate=trainer.iteration / trainer.max_iter)
        torch.stack(list(losses.values())).sum().backward()
        if clips:
            nn.utils.clip_grad_norm_(parameters, trainer.cfg.SOLVER.GRAD_CLIP)
        optimizer.step()

    return step


def _measure_data(cfg: CfgNode, *, workers: int, steps: int) -> float:
    """The part of the steps' time that waits for data; the first quarter of the steps warms up."""
    cfg = cfg.clone()
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", workers, "SOLVER.LR_SCHEDULER.MAX_ITER", steps])
    trainer = _UnsavedTrainer(cfg)
    trainer.train()
    window = steps * 3 // 4
    return trainer.events.median("data_seconds", window=window) / trainer.events.median(
        "iteration_seconds", window=window
    )


def _measure_processes(cfg: CfgNode, *, folder: Path, repeats: int) -> dict[str, Timing]:
    """One process with two threads and two with one each, in turn."""
    seconds: dict[str, list[float]] = {"1": [], "2": []}
    for _ in range(PROCESS_ROUNDS):
        for number in seconds:
            path = folder / "seconds.txt"
            launch(_train_in_process, ProcessRequest(int(number)), device="cpu", args=(cfg, repeats, path))
            seconds[number].append(float(path.read_text()))
    return {number: Timing(tuple(values), gflops=0.0) for number, values in seconds.items()}


def _train_in_process(cfg: CfgNode, steps: int, path: Path) -> None:
    """Some steps on one batch; the main process writes down the median of those after the first two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS // comm.get_world_size())
    cfg = cfg.clone()
    cfg.merge_from_list(["SOLVER.LR_SCHEDULER.MAX_ITER", steps + 2])
    trainer = _OneBatchTrainer(cfg)
    trainer.train()
    torch.set_num_threads(threads)
    if comm.is_main_process():
        path.write_text(str(trainer.events.median("iteration_seconds", window=steps)))
