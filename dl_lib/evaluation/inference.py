"""Running a model over data sets and writing down how it did."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
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
from dl_lib.utils.modes import evaluation_mode
from dl_lib.utils.progress import progress_bar

__all__ = ["evaluate_datasets", "evaluation_mode", "inference_on_dataset"]


class SampleLoader(Protocol):
    """Batches of samples, of one each as `build_test_loader` makes them, and how many there are."""

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
    network = comm.unwrap(model)
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
        paths = write_report(results, output_dir=output_dir, targets=targets, lattice=lattice)
        names = ", ".join(path.name for path in paths)
        logging.getLogger(__name__).info("the tables and figures are in %s: %s", output_dir.absolute(), names)
    comm.synchronize()  # nobody reads the files before they are there
    return results


def inference_on_dataset(model: nn.Module, loader: SampleLoader, evaluator: SemSegEvaluator) -> EvaluationResult:
    """Runs the model over all batches and scores its outputs.

    Args:
        model: in either mode, which it keeps; called with a list of samples, returns a list of outputs.
        loader: this process's batches; larger ones score the same, but the progress bar takes each for an image.
        evaluator: is reset first.

    Returns:
        The result over the images of all processes.
    """
    evaluator.reset()
    device = next((values.device for values in model.parameters()), torch.device("cpu"))
    bar = progress_bar(len(loader), description=f"evaluating {evaluator.dataset_name}", unit="image")
    with evaluation_mode(model), torch.inference_mode(), bar:
        for inputs in loader:
            start = _now(device)
            outputs = model(inputs)
            evaluator.process(inputs, outputs, seconds=_now(device) - start)
            bar.update()
    return evaluator.evaluate()


def _target(cfg: CfgNode, *, network: Any, result: EvaluationResult) -> BudgetTarget | None:
    if not hasattr(network, "costs"):  # static networks have neither cost tables nor a budget
        return None
    return budget_target(cfg, costs=network.costs, images=result.images)


def _now(device: torch.device) -> float:
    """Seconds, when everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
