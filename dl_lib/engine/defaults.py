"""From a config to a run: the only place of the engine that knows the rest of the library."""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dl_lib.checkpoint import Checkpointer
from dl_lib.config import CfgNode, ConfigError, expand_paths, write_config
from dl_lib.data.build import build_train_loader
from dl_lib.engine.consistency import check_consistent_start
from dl_lib.engine.distributed import take_main_buffers, wrap_distributed
from dl_lib.engine.environment import describe_environment, library_versions
from dl_lib.engine.hooks import (
    BestCheckpointer,
    EarlyStopping,
    EMAHook,
    EvalHook,
    Hook,
    IterationTimer,
    LRScheduler,
    MetricLogger,
    PeriodicCheckpointer,
    PeriodicVisualizer,
    PeriodicWriter,
    PreciseBN,
    ProgressBar,
)
from dl_lib.engine.training.ema import ModelEMA
from dl_lib.engine.training.non_finite import NonFinitePolicy
from dl_lib.engine.training.precision import Precision
from dl_lib.engine.training.train_step import GradientClip
from dl_lib.engine.training.trainer import Trainer
from dl_lib.engine.training.writers import JSONWriter, TensorBoardWriter, Writer
from dl_lib.evaluation import EvaluationResult, evaluate_datasets
from dl_lib.evaluation.report.tables import mean_scores
from dl_lib.evaluation.runner.sample_figures import SampleFigures
from dl_lib.evaluation.runner.validation_loss import validation_losses
from dl_lib.modeling.build import build_model, resolve_device
from dl_lib.solver import build_lr_scheduler, build_optimizer, format_groups
from dl_lib.utils import comm
from dl_lib.utils.allocator import keep_freed_memory
from dl_lib.utils.logger import setup_logger
from dl_lib.utils.run_files import METRICS_NAME

__all__ = ["DefaultTrainer", "build_configured_model", "default_setup", "seed_everything"]

_DEFAULT_OUTPUT_DIR = "output/run"
_NO_SETTINGS = ("params", "lr")  # in a group of the optimizer; the schedule sets the second

_log = logging.getLogger(__name__)


def default_setup(cfg: CfgNode) -> None:
    """What a run needs before anything is built; every process calls it.

    Fills `OUTPUT_DIR` and `SEED` in where they are left open, and freezes the config. Makes the run's folder, sends
    the log there and to the terminal, writes down environment and config (config.yaml, which can be run again as it
    is), and seeds every random generator.

    Args:
        cfg: the whole configuration; is changed.
    """
    cfg.defrost()
    cfg.OUTPUT_DIR = cfg.OUTPUT_DIR or _DEFAULT_OUTPUT_DIR
    expand_paths(cfg)
    if cfg.SEED < 0:
        cfg.SEED = comm.broadcast(secrets.randbelow(2**31))
    cfg.freeze()
    setup_logger(cfg.OUTPUT_DIR, rank=comm.get_rank())
    if comm.is_main_process():
        _log.info("environment:\n%s", describe_environment(uses_gpus=cfg.MODEL.DEVICE != "cpu"))
        path = write_config(cfg, cfg.OUTPUT_DIR)
        _log.info("seed %d; the whole configuration is in %s", cfg.SEED, path.absolute())
    seed_everything(cfg.SEED, rank=comm.get_rank())


def seed_everything(seed: int, *, rank: int = 0) -> None:
    """Seeds the generators of Python, NumPy and torch.

    Args:
        seed: of the run, not negative.
        rank: number of this process; each draws numbers of its own.
    """
    own_seed = (seed + rank) % 2**32  # NumPy takes 32 bits
    random.seed(own_seed)
    np.random.seed(own_seed)
    torch.manual_seed(own_seed)


def build_configured_model(cfg: CfgNode) -> nn.Module:
    """The model of a configuration, on its device.

    A GPU that the configuration numbers becomes the current one: the one whose random state is saved.
    On a CPU, memory once taken is kept for what comes next.

    Raises:
        ConfigError: if a part of the model refuses what the configuration says.
    """
    device = resolve_device(cfg.MODEL.DEVICE)
    if device.type == "cpu":
        keep_freed_memory()
    elif device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    try:
        return build_model(cfg)
    except ValueError as error:
        raise ConfigError(f"the model cannot be built: {error}") from error


class DefaultTrainer(Trainer):
    """A trainer with everything that a config asks for. Override a method to exchange a part.

    Args:
        cfg: the whole configuration, after `default_setup`.

    Attributes:
        results: of the newest evaluation, by the data sets' names.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg
        self.results: dict[str, EvaluationResult] = {}
        self._samples_before = 0
        model = self.build_model()
        optimizer = build_optimizer(cfg, model)
        _log.info("the optimizer's parameters:\n%s", format_groups(optimizer))
        self.scheduler = build_lr_scheduler(cfg, optimizer)
        precision = Precision(cfg.SOLVER.PRECISION, device=resolve_device(cfg.MODEL.DEVICE))
        super().__init__(
            wrap_distributed(model),
            self.build_train_loader(start=0),
            optimizer,
            max_iter=cfg.SOLVER.LR_SCHEDULER.MAX_ITER,
            accumulation_steps=cfg.SOLVER.ACCUMULATION_STEPS,
            clip=GradientClip(cfg.SOLVER.GRAD_CLIP, cfg.SOLVER.GRAD_CLIP_TYPE),
            precision=precision,
            non_finite=NonFinitePolicy(cfg.SOLVER.MAX_NON_FINITE if cfg.SOLVER.NON_FINITE == "skip" else 0),
        )
        self.ema = ModelEMA(model, decay=cfg.SOLVER.EMA.DECAY) if cfg.SOLVER.EMA.DECAY else None
        saved: dict[str, Any] = {"optimizer": optimizer, "scheduler": self.scheduler, "precision": precision}
        if self.ema is not None:
            saved["ema"] = self.ema
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, config=cfg.flat(), trainer=self, **saved)
        self.hooks = self.build_hooks()

    @property
    def evaluated_model(self) -> nn.Module:
        """The average of the weights, where one is kept and wanted, else the model itself."""
        return self.ema.model if self.ema is not None and self.cfg.SOLVER.EMA.EVALUATE else comm.unwrap(self.model)

    def build_model(self) -> nn.Module:
        """The model, on its device."""
        return build_configured_model(self.cfg)

    def build_train_loader(self, *, start: int) -> Iterable[list[dict[str, Any]]]:
        """Endless batches, from where so many samples have been used up."""
        return build_train_loader(self.cfg, start=start)

    def build_hooks(self) -> list[Hook]:
        """All hooks, in the order in which they run."""
        solver, test, log_period = self.cfg.SOLVER, self.cfg.TEST, self.cfg.LOG_PERIOD
        hooks: list[Hook] = [
            IterationTimer(images_per_step=solver.IMS_PER_BATCH),
            LRScheduler(self.scheduler),
            MetricLogger(period=log_period),
            ProgressBar(),
        ]
        if self.ema is not None:
            hooks.append(EMAHook(self.ema))
        if test.PRECISE_BN.ENABLED:
            hooks.append(
                PreciseBN(
                    lambda: self.build_train_loader(start=0),
                    num_batches=test.PRECISE_BN.NUM_ITER,
                    period=test.EVAL_PERIOD,
                    model=self.evaluated_model,
                )
            )
        hooks.append(
            PeriodicCheckpointer(
                self.checkpointer,
                period=solver.CHECKPOINT_PERIOD,
                keep_last=solver.CHECKPOINT_KEEP_LAST,
                keep_every=solver.CHECKPOINT_KEEP_EVERY,
            )
        )
        hooks.append(EvalHook(self.evaluate, period=test.EVAL_PERIOD))
        if solver.BEST_METRIC:
            hooks.append(BestCheckpointer(self.checkpointer, metric=solver.BEST_METRIC, mode=solver.BEST_METRIC_MODE))
        stopping = solver.EARLY_STOPPING
        if stopping.METRIC:
            hooks.append(
                EarlyStopping(
                    metric=stopping.METRIC,
                    mode=stopping.MODE,
                    patience=stopping.PATIENCE,
                    min_delta=stopping.MIN_DELTA,
                )
            )
        writers = self.build_writers()
        if self.cfg.VIS_PERIOD and writers:
            pictures = SampleFigures(self.cfg, self.cfg.DATASETS.TEST[0])
            hooks.append(
                PeriodicVisualizer(lambda: pictures.draw(self.evaluated_model), writers, period=self.cfg.VIS_PERIOD)
            )
        hooks.append(PeriodicWriter(writers, period=log_period))
        return hooks

    def build_writers(self) -> list[Writer]:
        """Where the scalars go; nowhere on processes other than the main one."""
        if not comm.is_main_process():
            return []
        return [JSONWriter(self._folder / METRICS_NAME), TensorBoardWriter(self._folder)]

    def resume_or_load(self, *, resume: bool) -> None:
        """Goes on from the last checkpoint in `OUTPUT_DIR`, or starts from `MODEL.WEIGHTS`.

        A run that starts makes `OUTPUT_DIR` its own: an earlier run's checkpoints stay there, but none of them is the
        last one any more. A run that goes on does so with the present settings, and says which are others than before.

        Args:
            resume: whether to go on, if there is a checkpoint.

        Raises:
            CheckpointError: if what there is cannot be loaded, or the processes have found different things.
        """
        goes_on = resume and self.checkpointer.has_checkpoint()
        if resume and not goes_on:
            _log.warning("there is no checkpoint to go on from: the training starts. Received: %s", self._folder)
        present = [
            {name: value for name, value in group.items() if name not in _NO_SETTINGS}
            for group in self.optimizer.param_groups
        ]
        self.checkpointer.resume_or_load(
            self.cfg.MODEL.WEIGHTS,
            resume=resume,
            allow_missing_keys=self.cfg.MODEL.ALLOW_MISSING_KEYS,
            allow_unexpected_keys=self.cfg.MODEL.ALLOW_UNEXPECTED_KEYS,
        )
        check_consistent_start(comm.unwrap(self.model), iteration=self.start_iteration, folder=self.cfg.OUTPUT_DIR)
        if goes_on:
            self._apply(present)
            _log.info("going on after iteration %d of %d", self.start_iteration, self.max_iter)
            self.loader = self.build_train_loader(start=self._samples_before)
        elif comm.is_main_process():
            self._forget_earlier_run()

    def state_dict(self) -> dict[str, Any]:
        """What `Trainer` keeps, the place in the stream of samples, and the versions of what computed it."""
        return {**super().state_dict(), "samples": self._samples, "versions": library_versions()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a saved run was, and says which versions have changed since."""
        super().load_state_dict(state)
        self._samples_before = int(state["samples"])
        for name, version in library_versions().items():
            before = state["versions"].get(name)
            if before != version:
                _log.warning("%s was %s in the checkpoint and is %s now: results may differ", name, before, version)

    @property
    def _samples(self) -> int:
        """Training samples used up by all processes, over all runs: the place in the sampler's stream."""
        return self._samples_before + (self.iteration - self.start_iteration) * self.cfg.SOLVER.IMS_PER_BATCH

    def _apply(self, settings: Sequence[Mapping[str, Any]]) -> None:
        """Undoes that a loaded optimizer and its schedule bring settings of their own."""
        self.scheduler.base_lrs = [group["initial_lr"] for group in settings]
        factors = [factor(self.scheduler.last_epoch) for factor in self.scheduler.lr_lambdas]
        for group, own, factor in zip(self.optimizer.param_groups, settings, factors, strict=True):
            group.update(own, lr=own["initial_lr"] * factor)

    def _forget_earlier_run(self) -> None:
        """Takes away what `--resume` would go on from, before this run has saved anything itself."""
        earlier = self.checkpointer.archive_earlier_run()
        if earlier:
            _log.warning(
                "%s held a run already. This one starts anew, and --resume will no longer go on from %s, which stays "
                "until a checkpoint of the same name is written; to go on with that run, name it as MODEL.WEIGHTS",
                self._folder,
                earlier,
            )

    @property
    def _folder(self) -> Path:
        return Path(self.cfg.OUTPUT_DIR)

    def evaluate(self) -> dict[str, float]:
        """Evaluates on all of `DATASETS.TEST`, keeps the `results`, and returns what is followed over the training.

        What is evaluated is what the main process saves; every process has to call this.
        """
        model = self.evaluated_model
        take_main_buffers(model)
        self.results = evaluate_datasets(self.cfg, model, self._folder)
        scores = {
            f"{name}/{score}": value
            for name, result in self.results.items()
            for score, value in _followed_scores(result).items()
        }
        return scores | (validation_losses(self.cfg, model) if self.cfg.TEST.VALIDATION_LOSS else {})


def _followed_scores(result: EvaluationResult) -> dict[str, float]:
    scores = {} if result.metrics is None else mean_scores(result.metrics)
    return {
        **scores,
        "expt_gflops": result.costs.expected.average,
        "real_gflops": result.costs.real.average,
    }
