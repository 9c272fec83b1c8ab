"""One training run of `does_routing_pay.py`: network, training time, scores, costs and routes."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from fixed_routes import connected_route
from harness import Settings
from report import describe_machine
from smp_models import build_smp_model
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from dl_lib.config import CfgNode
from dl_lib.data import build_test_loader
from dl_lib.engine import DefaultTrainer, default_setup
from dl_lib.engine.hooks import Hook
from dl_lib.engine.training.trainer import Trainer
from dl_lib.evaluation import evaluation_mode
from dl_lib.experiment.experiment import load_experiment
from dl_lib.modeling.build import place_model
from dl_lib.modeling.dynamic.configured_route import ROUTE_KEY
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.utils.allocator import keep_freed_memory
from dl_lib.utils.run_files import CHECKPOINT_SUFFIX, RESULTS_NAME

ROUTE_IMAGES = 200  # training images from which the frequency of edges is measured


@dataclass(frozen=True)
class RunSettings:
    """Settings that determine the result of a training run.

    Attributes:
        experiment: Folder of the experiment, relative to the repository.
        opts: Overrides of its config.
        route: Names of the edges of a network without gates, see `connected_route`; None for the network of the config.
        smp: Name in `SMP_MODELS`, to train that network instead; empty for the network of the config.
        training_seconds: Duration of the training loop; None for the iterations of the config.
    """

    experiment: str
    opts: tuple[str, ...]
    route: tuple[str, ...] | None = None
    smp: str = ""
    training_seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the values as JSON types."""
        return json.loads(json.dumps(asdict(self)))


class Stopwatch(Hook):
    """Hook that measures the seconds of the training loop, without set-up and final evaluation."""

    def __init__(self) -> None:
        self._start = self.seconds = 0.0

    def before_train(self, trainer: Trainer) -> None:
        self._start = time.perf_counter()

    def after_step(self, trainer: Trainer) -> None:
        self.seconds = time.perf_counter() - self._start


class TimeLimit(Stopwatch):
    """Hook that ends training after some time; the learning rate follows its schedule by time instead of iterations.

    Must come before the hook that steps the scheduler.

    Args:
        scheduler: Scheduler of the run.
        limit_seconds: Duration of the training loop; the last step exceeds it.
    """

    def __init__(self, scheduler: LRScheduler, *, limit_seconds: float) -> None:
        super().__init__()
        self._scheduler, self._limit_seconds, self._scheduled = scheduler, limit_seconds, 0

    def before_train(self, trainer: Trainer) -> None:
        super().before_train(trainer)
        self._scheduled = trainer.max_iter

    def after_step(self, trainer: Trainer) -> None:
        super().after_step(trainer)
        progress = min(1.0, self.seconds / self._limit_seconds)
        self._scheduler.last_epoch = round(progress * self._scheduled) - 1  # its step adds one
        if progress == 1:
            trainer.stop_after_step()
        else:  # an estimate, from which the log computes the remaining time
            trainer.max_iter = max(trainer.iteration + 1, round(trainer.iteration / progress))


class RunTrainer(DefaultTrainer):
    """Trainer of the network of some `RunSettings`."""

    def __init__(self, cfg: CfgNode, settings: RunSettings) -> None:
        self.settings = settings
        super().__init__(cfg)
        limit = settings.training_seconds
        self.stopwatch = Stopwatch() if limit is None else TimeLimit(self.scheduler, limit_seconds=limit)
        self.hooks.insert(0, self.stopwatch)

    def build_model(self) -> nn.Module:
        if self.settings.smp:
            return place_model(build_smp_model(self.cfg, self.settings.smp), self.cfg)
        return super().build_model()


def train_run(settings: RunSettings, *, folder: Path, root: Path, threads: int) -> dict[str, Any]:
    """Train and evaluate a network; return its measurements as JSON types.

    Args:
        settings: Settings of the run.
        folder: Run folder; checkpoints are deleted at the end.
        root: Folder of the repository.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    with ExitStack() as stack:
        null = stack.enter_context(open(os.devnull, "w"))  # the log is in the run folder
        stack.enter_context(redirect_stdout(null))
        stack.enter_context(redirect_stderr(null))
        cfg = load_config(settings, root=root, opts=[f"OUTPUT_DIR={folder}", "SOLVER.CHECKPOINT_PERIOD=0"])
        default_setup(cfg)
        trainer = RunTrainer(cfg, settings)
        trainer.resume_or_load(resume=False)
        trainer.train()
        measured = _measure(trainer, folder=folder)
    for checkpoint in folder.glob(f"*{CHECKPOINT_SUFFIX}*"):
        checkpoint.unlink()
    return measured


def load_config(settings: RunSettings, *, root: Path, opts: Sequence[str] = ()) -> CfgNode:
    """Return the validated config of a run, with further overrides."""
    folder, opts = str(root / settings.experiment), [*settings.opts, *opts]
    cfg = load_experiment(folder, opts).cfg
    if settings.route is None:
        return cfg
    route = connected_route(Lattice(cfg.MODEL.BACKBONE.CELL_NUM_LIST), settings.route)
    return load_experiment(folder, [*opts, f"{ROUTE_KEY}={route.entries()}"]).cfg


def _measure(trainer: RunTrainer, *, folder: Path) -> dict[str, Any]:
    cfg, model = trainer.cfg, trainer.evaluated_model
    (scores,) = json.loads((folder / RESULTS_NAME).read_bytes())["datasets"].values()
    (result,) = trainer.results.values()
    routes, correlations = result.routes, result.cost_correlations
    packages = ("segmentation_models_pytorch",) if trainer.settings.smp else ()  # optional for the other networks
    versions = {package: importlib.metadata.version(package) for package in packages}
    training_images = itertools.islice(build_test_loader(cfg, cfg.DATASETS.TRAIN[0]), ROUTE_IMAGES)
    return {
        "mIoU": scores["mIoU"],
        "class_IoU": {name: values["IoU"] for name, values in scores["classes"].items()},
        "costs_gflops": scores["costs_gflops"],
        "distinct_routes": routes and len(routes.routes),
        "image_dependent_edges": routes and routes.dependent_ratio,
        "entropy_bits": routes and routes.entropy_bits,
        "cost_correlations": correlations and {name: one.value for name, one in correlations.items()},
        "open_fractions": routes and open_fractions(model, training_images),
        # Stages that no decoder uses receive no gradient.
        "parameters": sum(p.numel() for p in trainer.model.parameters() if p.grad is not None),
        "iterations": trainer.iteration,
        "training_seconds": trainer.stopwatch.seconds,
        "machine": describe_machine(Settings(device=model.device.type, keep_memory=True)) | versions,
    }


def open_fractions(model: nn.Module, batches: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Return the fraction of the images that open each edge, by the name of the edge."""
    with evaluation_mode(model), torch.inference_mode():
        open_BE = torch.stack([output["gates"] > 0 for batch in batches for output in model(batch)])
    return dict(zip(map(str, model.backbone.lattice.edges), open_BE.double().mean(dim=0).tolist(), strict=True))
