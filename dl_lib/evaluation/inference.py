"""Running a model over data sets and writing down how it did."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from fvcore.common.config import CfgNode
from torch import nn

from dl_lib.data import DatasetCatalog, build_test_loader
from dl_lib.evaluation.budget import BudgetTarget, budget_target
from dl_lib.evaluation.evaluator import EvaluationResult, SemSegEvaluator
from dl_lib.evaluation.report import format_text, write_report
from dl_lib.utils import comm
from dl_lib.utils.progress import progress_bar

__all__ = ["evaluate_datasets", "evaluation_mode", "inference_on_dataset"]


class SampleLoader(Protocol):
    """Batches of samples, and how many there are."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sequence[dict[str, Any]]]: ...


def evaluate_datasets(cfg: CfgNode, model: nn.Module, output_dir: Path) -> dict[str, EvaluationResult]:
    """Evaluates a model on every data set of `DATASETS.TEST`.

    The main process logs the tables and writes results.json, results.md and the pictures of the mean routes
    (see `report.write_report`); every process has to call this, and gets the same results.

    Args:
        cfg: the run's configuration.
        model: in either mode, which it keeps.
        output_dir: the run's folder.

    Returns:
        A result under the name of each data set.
    """
    network = _unwrapped(model)
    results: dict[str, EvaluationResult] = {}
    targets: dict[str, BudgetTarget | None] = {}
    for name in cfg.DATASETS.TEST:
        meta = DatasetCatalog.meta(name)
        evaluator = SemSegEvaluator(name, class_names=meta.class_names, ignore_value=meta.ignore_value)
        results[name] = inference_on_dataset(model, build_test_loader(cfg, name), evaluator)
        targets[name] = _target(cfg, network=network, result=results[name])
        if comm.is_main_process():
            logging.getLogger(__name__).info("\n%s", format_text(results[name], target=targets[name]))
    if comm.is_main_process():
        lattice = getattr(getattr(network, "backbone", None), "lattice", None)
        write_report(results, output_dir=output_dir, targets=targets, lattice=lattice)
    comm.synchronize()  # nobody reads the files before they are there
    return results


def inference_on_dataset(model: nn.Module, loader: SampleLoader, evaluator: SemSegEvaluator) -> EvaluationResult:
    """Runs the model over all batches and scores its outputs.

    Args:
        model: in either mode, which it keeps; called with a list of samples, returns a list of outputs.
        loader: this process's batches.
        evaluator: is reset first.

    Returns:
        The result over the images of all processes.
    """
    evaluator.reset()
    bar = progress_bar(len(loader), description=f"evaluating {evaluator.dataset_name}", unit="batch")
    with evaluation_mode(model), torch.inference_mode(), bar:
        for inputs in loader:
            start = _now()
            outputs = model(inputs)
            evaluator.process(inputs, outputs, seconds=_now() - start)
            bar.update()
    return evaluator.evaluate()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switches the whole model to evaluation; afterwards each of its modules is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _target(cfg: CfgNode, *, network: Any, result: EvaluationResult) -> BudgetTarget | None:
    if not hasattr(network, "costs"):  # static networks have neither cost tables nor a budget
        return None
    return budget_target(cfg, costs=network.costs, divisor=network.backbone.size_divisor, images=result.images)


def _now() -> float:
    """Seconds, when everything that was asked of a GPU is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def _unwrapped(model: nn.Module) -> Any:
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
