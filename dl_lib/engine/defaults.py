"""Trainer built from a config."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import nn

from dl_lib.checkpoint import Checkpointer, CheckpointError, allowed_keys
from dl_lib.checkpoint.earlier_run import archive_earlier_run
from dl_lib.checkpoint.state_check import check_range
from dl_lib.config import CfgNode, write_config
from dl_lib.data.build import build_train_loader
from dl_lib.engine.consistency import check_consistent_start
from dl_lib.engine.hooks import (
    HOOK_REGISTRY,
    BestCheckpointer,
    BudgetCalibration,
    BudgetController,
    EarlyStopping,
    EMAHook,
    EvalHook,
    Hook,
    IterationTimer,
    LabelCheck,
    LRScheduler,
    MetricLogger,
    PeriodicCheckpointer,
    PeriodicVisualizer,
    PeriodicWriter,
    PreciseBN,
    ProgressBar,
    SlowStepWarning,
)
from dl_lib.engine.hooks.budget_calibration import CALIBRATION_IMAGES
from dl_lib.engine.setup import build_configured_model
from dl_lib.engine.trackers import build_trackers
from dl_lib.engine.training.debug_files import DebugFiles
from dl_lib.engine.training.distributed import broadcast_buffers, wrap_distributed
from dl_lib.engine.training.ema import ModelEMA
from dl_lib.engine.training.non_finite import NonFinitePolicy
from dl_lib.engine.training.precision import Precision
from dl_lib.engine.training.train_step import GradientClip
from dl_lib.engine.training.trainer import Trainer
from dl_lib.engine.training.writers import JSONWriter, Writer
from dl_lib.evaluation import EvaluationResult, IncompleteEvaluationError, evaluate_datasets
from dl_lib.evaluation.runner.logged import logged_metrics
from dl_lib.evaluation.runner.sample_check import warn_about_invalid_samples
from dl_lib.evaluation.runner.sample_figures import SampleFigures, mean_routing_figures
from dl_lib.evaluation.runner.validation_loss import validation_losses
from dl_lib.modeling import DynamicNet4Seg
from dl_lib.modeling.build import resolve_device
from dl_lib.modeling.losses.budget import TargetBudget
from dl_lib.solver import build_lr_scheduler, build_optimizer, format_groups
from dl_lib.utils import comm
from dl_lib.utils.environment import library_versions
from dl_lib.utils.logger import write_held_back_lines
from dl_lib.utils.run_files import METRICS_NAME

__all__ = ["DefaultTrainer"]

_MAX_SAMPLES = 2**53  # far more than any run uses; larger numbers do not fit the samplers
_NOT_SETTINGS = ("params", "lr")  # of a parameter group; the scheduler sets the learning rate

_log = logging.getLogger(__name__)


class DefaultTrainer(Trainer):
    """Trainer built from a config. Override a `build_*` method to replace a part.

    Args:
        cfg: Full config, after `default_setup`.

    Attributes:
        results: Results of the latest evaluation, by dataset name.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg
        self.results: dict[str, EvaluationResult] = {}
        self._failed_evaluation: IncompleteEvaluationError | None = None
        self._samples_before = 0
        model = self.build_model()
        optimizer = build_optimizer(cfg, model)
        _log.info("Optimizer parameter groups:\n%s", format_groups(optimizer))
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
            non_finite=NonFinitePolicy(
                cfg.SOLVER.MAX_NON_FINITE if cfg.SOLVER.NON_FINITE == "skip" else 0,
                debug_files=DebugFiles(self._folder, config=cfg.flat()),
            ),
        )
        self.ema = ModelEMA(model, decay=cfg.SOLVER.EMA.DECAY) if cfg.SOLVER.EMA.DECAY else None
        saved: dict[str, Any] = {"optimizer": optimizer, "scheduler": self.scheduler, "precision": precision}
        if self.ema is not None:
            saved["ema"] = self.ema
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, config=cfg.flat(), trainer=self, **saved)
        self.hooks = self.build_hooks()

    @property
    def evaluated_model(self) -> nn.Module:
        """Model to evaluate: the EMA if it is enabled and `SOLVER.EMA.EVALUATE` is set, otherwise the trained model."""
        return self.ema.model if self.ema is not None and self.cfg.SOLVER.EMA.EVALUATE else comm.unwrap(self.model)

    def build_model(self) -> nn.Module:
        """Build the model on its device."""
        return build_configured_model(self.cfg)

    def build_train_loader(self, *, start: int) -> Iterable[list[dict[str, Any]]]:
        """Build an infinite loader of batches that begins after `start` samples of the sampler's sequence."""
        return build_train_loader(self.cfg, start=start)

    def build_hooks(self) -> list[Hook]:
        """Build all hooks, in the order in which they run."""
        solver, test, log_period = self.cfg.SOLVER, self.cfg.TEST, self.cfg.LOG_PERIOD
        hooks: list[Hook] = [
            IterationTimer(images_per_step=solver.IMS_PER_BATCH),
            SlowStepWarning(),
            LRScheduler(self.scheduler),
        ]
        budget = getattr(comm.unwrap(self.model), "budget", None)
        if isinstance(budget, TargetBudget):
            hooks.append(BudgetController(budget))
        hooks += [MetricLogger(period=log_period), ProgressBar(period=log_period)]
        if self.ema is not None:
            hooks.append(EMAHook(self.ema))
        make_loader = partial(self.build_train_loader, start=0)  # always the same batches
        if test.PRECISE_BN.ENABLED:
            hooks.append(
                PreciseBN(
                    make_loader,
                    num_batches=test.PRECISE_BN.NUM_ITER,
                    period=test.EVAL_PERIOD,
                    model=self.evaluated_model,
                )
            )
        if isinstance(budget, TargetBudget):
            hooks.append(
                BudgetCalibration(
                    make_loader,
                    num_batches=math.ceil(CALIBRATION_IMAGES * solver.ACCUMULATION_STEPS / solver.IMS_PER_BATCH),
                    model=cast(DynamicNet4Seg, self.evaluated_model),  # has a budget
                    budget=budget,
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
        # After a checkpoint that is due, so that an error of the labels costs no more steps than necessary.
        hooks.append(LabelCheck(self.cfg.DATASETS.TRAIN, images_per_step=solver.IMS_PER_BATCH))
        hooks.append(EvalHook(self.evaluate, period=test.EVAL_PERIOD))
        hooks += self._metric_hooks()
        hooks += [HOOK_REGISTRY.get(name)(self.cfg) for name in self.cfg.EXTRA_HOOKS]
        writers = self.build_writers()
        if self.cfg.VIS_PERIOD and writers:
            hooks += self._figure_hooks(writers)
        hooks.append(PeriodicWriter(writers, period=log_period))
        return hooks

    def _figure_hooks(self, writers: Sequence[Writer]) -> Iterator[Hook]:
        """Yield the hooks that draw a test sample, and the mean route of each evaluation."""
        figures = SampleFigures(self.cfg, self.cfg.DATASETS.TEST[0])
        yield PeriodicVisualizer(lambda: figures.draw(self.evaluated_model), writers, period=self.cfg.VIS_PERIOD)
        yield PeriodicVisualizer(
            lambda: mean_routing_figures(self.results, model=self.evaluated_model),
            writers,
            period=self.cfg.TEST.EVAL_PERIOD,
        )

    def _metric_hooks(self) -> Iterator[Hook]:
        """Yield the hooks that compare a metric of the evaluations."""
        solver, stopping = self.cfg.SOLVER, self.cfg.SOLVER.EARLY_STOPPING
        if solver.BEST_METRIC:
            yield BestCheckpointer(self.checkpointer, metric=solver.BEST_METRIC, mode=solver.BEST_METRIC_MODE)
        if stopping.METRIC:
            yield EarlyStopping(
                metric=stopping.METRIC,
                mode=stopping.MODE,
                patience=stopping.PATIENCE,
                min_delta=stopping.MIN_DELTA,
            )

    def build_writers(self) -> list[Writer]:
        """Build the writers of scalars and images; empty on all but the main process."""
        if not comm.is_main_process():
            return []
        return [JSONWriter(self._folder / METRICS_NAME), *build_trackers(self.cfg)]

    def resume_or_load(self, *, resume: bool) -> None:
        """Resume from the last checkpoint in `OUTPUT_DIR`, or load `MODEL.WEIGHTS`; then write the full config there.

        A run from scratch first moves the files of an earlier run in the folder to a subfolder. A resumed run uses the
        current config and logs changes since the checkpoint. If nothing can be loaded, the folder keeps its files.

        Args:
            resume: Whether to resume if there is a checkpoint.

        Raises:
            CheckpointError: If a file cannot be loaded, or the processes have loaded different checkpoints.
        """
        is_resumed = resume and self.checkpointer.has_checkpoint()
        if resume and not is_resumed:
            start = "starting from MODEL.WEIGHTS" if self.cfg.MODEL.WEIGHTS else "training from scratch"
            _log.warning("No checkpoint to resume from in %s; %s", self._folder, start)
        current = [
            {name: value for name, value in group.items() if name not in _NOT_SETTINGS}
            for group in self.optimizer.param_groups
        ]
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume, **allowed_keys(self.cfg))
        check_consistent_start(comm.unwrap(self.model), iteration=self.start_iteration, folder=self.cfg.OUTPUT_DIR)
        if is_resumed:
            if self.scheduler.last_epoch != self.start_iteration:
                raise CheckpointError(
                    f"the checkpoint's trainer and scheduler must have the same iteration; use another checkpoint. "
                    f"Received: trainer={self.start_iteration}, scheduler={self.scheduler.last_epoch}"
                )
            self._apply_settings(current)
            _log.info("Resuming from iteration %d/%d", self.start_iteration, self.max_iter)
            self.loader = self.build_train_loader(start=self._samples_before)
        if comm.is_main_process():
            if not is_resumed:
                self._archive_earlier_run()
            path = write_config(self.cfg, self._folder)
            _log.info("Full config written to %s; seed %d", path.absolute(), self.cfg.SEED)
        comm.synchronize()  # the main process has moved the logs of the earlier run
        write_held_back_lines()

    def train(self) -> None:
        """Run all remaining steps; see `Trainer.train`.

        Raises:
            IncompleteEvaluationError: If the last evaluation failed on some datasets, when everything is saved.
        """
        if comm.is_main_process() and self.iteration < self.max_iter:
            warn_about_invalid_samples(self.cfg)
        super().train()
        if self._failed_evaluation is not None:
            raise self._failed_evaluation

    def state_dict(self) -> dict[str, Any]:
        """Return the state of `Trainer`, the number of samples used, and the library versions."""
        return {**super().state_dict(), "samples": self._samples, "versions": library_versions()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state returned by `state_dict`, and log changed library versions."""
        super().load_state_dict(state)
        check_range(state["samples"], name="samples", maximum=_MAX_SAMPLES)
        self._samples_before = state["samples"]
        for name, version in library_versions().items():
            before = state["versions"].get(name)
            if before != version:
                _log.warning("%s changed from %s to %s since the checkpoint; results may differ", name, before, version)

    def evaluate(self) -> dict[str, float]:
        """Evaluate on all datasets in `DATASETS.TEST`, store the `results` and return the metrics to log.

        The running statistics are those of the main process, as in its checkpoints. An invalid dataset has no metrics
        and does not end the training; `train` raises its error at the end. Every process must call this.
        """
        model = self.evaluated_model
        broadcast_buffers(model)
        self._failed_evaluation = None
        try:
            self.results = evaluate_datasets(self.cfg, model, self._folder)
        except IncompleteEvaluationError as error:
            self.results, self._failed_evaluation = error.results, error
        metrics = logged_metrics(self.results)
        if self.cfg.TEST.VALIDATION_LOSS:
            metrics |= validation_losses(self.cfg, model, dataset_names=self.results)
        return metrics

    @property
    def _folder(self) -> Path:
        return Path(self.cfg.OUTPUT_DIR)

    @property
    def _samples(self) -> int:
        """Training samples used by all processes over all runs: the position in the sampler's sequence."""
        return self._samples_before + (self.iteration - self.start_iteration) * self.cfg.SOLVER.IMS_PER_BATCH

    def _apply_settings(self, settings: Sequence[Mapping[str, Any]]) -> None:
        """Apply the current config's options of the parameter groups, which loading the checkpoint has overwritten."""
        self.scheduler.base_lrs = [group["initial_lr"] for group in settings]
        factors = [factor(self.scheduler.last_epoch) for factor in self.scheduler.lr_lambdas]
        for group, current, factor in zip(self.optimizer.param_groups, settings, factors, strict=True):
            group.update(current, lr=current["initial_lr"] * factor)

    def _archive_earlier_run(self) -> None:
        """Move an earlier run away; the initial weights, if they are one of its checkpoints, get their new path."""
        archive = archive_earlier_run(self._folder)
        if archive is None:
            return
        _log.warning(
            "Starting a new run in %s, which contains an earlier run; moved its metrics, checkpoints, results and logs "
            "to %s (set MODEL.WEIGHTS to start from one of its checkpoints)",
            self._folder,
            archive,
        )
        weights = Path(self.cfg.MODEL.WEIGHTS)
        if weights.parent.absolute() == self._folder.absolute() and (archive / weights.name).is_file():
            self.cfg.defrost()
            self.cfg.MODEL.WEIGHTS = str(archive / weights.name)
            self.cfg.freeze()
