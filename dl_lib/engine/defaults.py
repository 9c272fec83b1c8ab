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
from dl_lib.engine.distributed import wrap_distributed
from dl_lib.engine.environment import describe_environment
from dl_lib.engine.hooks import (
    Evaluation,
    Hook,
    IterationTimer,
    LogLines,
    LRSchedule,
    PeriodicCheckpoint,
    PreciseBN,
    Progress,
    WriteMetrics,
)
from dl_lib.engine.trainer import Trainer
from dl_lib.engine.writers import JSONWriter, TensorBoardWriter, Writer
from dl_lib.evaluation import EvaluationResult, evaluate_datasets
from dl_lib.evaluation.report.tables import mean_scores
from dl_lib.modeling.build import build_model, resolve_device
from dl_lib.solver import build_lr_scheduler, build_optimizer
from dl_lib.utils import comm
from dl_lib.utils.allocator import keep_freed_memory
from dl_lib.utils.files import LAST_CHECKPOINT_NAME
from dl_lib.utils.logger import setup_logger

__all__ = ["DefaultTrainer", "build_configured_model", "default_setup", "seed_everything"]

_DEFAULT_OUTPUT_DIR = "output/run"
_FOLLOWED_SETTINGS = ("SOLVER.OPTIMIZER.", "SOLVER.LR_SCHEDULER.", "SOLVER.IMS_PER_BATCH", "SOLVER.GRAD_CLIP", "SEED")
_GROUP_SETTINGS = ("initial_lr", "weight_decay", "momentum")

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
        _log.info("environment:\n%s", describe_environment())
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
    """The model of a configuration, on its device; on a CPU, memory once taken is kept for what comes next.

    Raises:
        ConfigError: if a part of the model refuses what the configuration says.
    """
    if resolve_device(cfg.MODEL.DEVICE).type == "cpu":
        keep_freed_memory()
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
        model = self.build_model()
        optimizer = build_optimizer(cfg, model)
        self.scheduler = build_lr_scheduler(cfg, optimizer)
        super().__init__(
            wrap_distributed(model),
            self.build_train_loader(start_iteration=0),
            optimizer,
            max_iter=cfg.SOLVER.LR_SCHEDULER.MAX_ITER,
            max_gradient_norm=cfg.SOLVER.GRAD_CLIP,
        )
        self.checkpointer = Checkpointer(
            model,
            cfg.OUTPUT_DIR,
            trainer=self,
            optimizer=optimizer,
            scheduler=self.scheduler,
        )
        self.hooks = self.build_hooks()

    def build_model(self) -> nn.Module:
        """The model, on its device."""
        return build_configured_model(self.cfg)

    def build_train_loader(self, *, start_iteration: int) -> Iterable[list[dict[str, Any]]]:
        """Endless batches, from those of an iteration on."""
        return build_train_loader(self.cfg, start_iteration=start_iteration)

    def build_hooks(self) -> list[Hook]:
        """All hooks, in the order in which they run."""
        test, log_period = self.cfg.TEST, self.cfg.LOG_PERIOD
        hooks: list[Hook] = [IterationTimer(), LRSchedule(self.scheduler), LogLines(period=log_period), Progress()]
        if test.PRECISE_BN.ENABLED:
            hooks.append(
                PreciseBN(
                    lambda: self.build_train_loader(start_iteration=0),
                    num_batches=test.PRECISE_BN.NUM_ITER,
                    period=test.EVAL_PERIOD,
                )
            )
        hooks.append(PeriodicCheckpoint(self.checkpointer, period=self.cfg.SOLVER.CHECKPOINT_PERIOD))
        hooks.append(Evaluation(self.evaluate, period=test.EVAL_PERIOD))
        hooks.append(WriteMetrics(self.build_writers(), period=log_period))
        return hooks

    def build_writers(self) -> list[Writer]:
        """Where the scalars go; nowhere on processes other than the main one."""
        if not comm.is_main_process():
            return []
        return [JSONWriter(self._folder / "metrics.json"), TensorBoardWriter(self._folder)]

    def resume_or_load(self, *, resume: bool) -> None:
        """Goes on from the last checkpoint in `OUTPUT_DIR`, or starts from `MODEL.WEIGHTS`.

        A run that starts makes `OUTPUT_DIR` its own: an earlier run's checkpoints stay there, but none of them is the
        last one any more. A run that goes on does so with the present settings, and says which are others than before.

        Args:
            resume: whether to go on, if there is a checkpoint.
        """
        goes_on = resume and self.checkpointer.has_checkpoint()
        if resume and not goes_on:
            _log.warning("there is no checkpoint to go on from: the training starts. Received: %s", self._folder)
        present = [
            {name: group[name] for name in _GROUP_SETTINGS if name in group} for group in self.optimizer.param_groups
        ]
        weights, may_lack = self.cfg.MODEL.WEIGHTS, self.cfg.MODEL.WEIGHTS_MAY_LACK
        self.checkpointer.resume_or_load(weights, resume=resume, may_lack=may_lack)
        if goes_on:
            self._apply(present)
            _log.info("going on after iteration %d of %d", self.start_iteration, self.max_iter)
            self.loader = self.build_train_loader(start_iteration=self.start_iteration)
        elif comm.is_main_process():
            self._forget_earlier_run()

    def state_dict(self) -> dict[str, Any]:
        """What `Trainer` keeps, and the settings that the optimizer steps are made with."""
        return {**super().state_dict(), "settings": self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a saved run was, and warns of settings that have changed since."""
        super().load_state_dict(state)
        before = state.get("settings", {})
        for key, value in self._settings().items():
            if key in before and before[key] != value:
                _log.warning("%s was %r in the checkpoint and is %r now: %r applies", key, before[key], value, value)

    def _settings(self) -> dict[str, Any]:
        return {key: value for key, value in self.cfg.flat().items() if key.startswith(_FOLLOWED_SETTINGS)}

    def _apply(self, settings: Sequence[Mapping[str, float]]) -> None:
        """Undoes that a loaded optimizer and its schedule bring settings of their own."""
        self.scheduler.base_lrs = [group["initial_lr"] for group in settings]
        factors = [factor(self.scheduler.last_epoch) for factor in self.scheduler.lr_lambdas]
        for group, own, factor in zip(self.optimizer.param_groups, settings, factors, strict=True):
            group.update(own, lr=own["initial_lr"] * factor)

    def _forget_earlier_run(self) -> None:
        """Takes away what `--resume` would go on from, before this run has saved anything itself."""
        earlier = self.checkpointer.get_checkpoint_file()
        if earlier:
            _log.warning(
                "%s held a run already. This one starts anew, and --resume will no longer go on from %s, which stays "
                "until a checkpoint of the same name is written; to go on with that run, name it as MODEL.WEIGHTS",
                self._folder,
                earlier,
            )
            (self._folder / LAST_CHECKPOINT_NAME).unlink()

    @property
    def _folder(self) -> Path:
        return Path(self.cfg.OUTPUT_DIR)

    def evaluate(self) -> dict[str, float]:
        """Evaluates on all of `DATASETS.TEST`, keeps the `results`, and returns what is followed over the training."""
        self.results = evaluate_datasets(self.cfg, comm.unwrap(self.model), self._folder)
        return {
            f"{name}/{score}": value
            for name, result in self.results.items()
            for score, value in _followed_scores(result).items()
        }


def _followed_scores(result: EvaluationResult) -> dict[str, float]:
    scores = {} if result.metrics is None else mean_scores(result.metrics)
    return {
        **scores,
        "expt_gflops": result.costs.expected.average,
        "real_gflops": result.costs.real.average,
    }
