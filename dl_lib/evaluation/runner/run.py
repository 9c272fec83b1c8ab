"""Evaluation of a model on datasets."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from fvcore.common.config import CfgNode
from torch import nn

from dl_lib.data import DatasetCatalog, build_test_loader
from dl_lib.data.errors import DataError, data_errors_shared
from dl_lib.data.sample_loader import SkippedSample
from dl_lib.evaluation.official.submission import write_submission
from dl_lib.evaluation.predictions.writers import PredictionWriter
from dl_lib.evaluation.report.image_routes import ShownImage
from dl_lib.evaluation.report.tables import format_text
from dl_lib.evaluation.report.warnings import result_warnings
from dl_lib.evaluation.report.write import write_report
from dl_lib.evaluation.runner.build import (
    build_evaluator,
    build_report_collector,
    build_writers,
    label_png_folder,
    predictions_folder,
)
from dl_lib.evaluation.runner.image_routes import show_images
from dl_lib.evaluation.runner.latency import read_latency, with_latency
from dl_lib.evaluation.runner.passes import build_inference_model
from dl_lib.evaluation.scores.budget import BudgetSummary, summarize_budget
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.evaluation.scores.prediction import Prediction, read_outputs
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.inference import optimize
from dl_lib.modeling import SegmentationModel
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.route import Route
from dl_lib.utils import comm
from dl_lib.utils.escaping import printable
from dl_lib.utils.modes import evaluation_mode
from dl_lib.utils.progress import progress_bar

__all__ = [
    "IncompleteEvaluationError",
    "evaluate_datasets",
    "evaluation_mode",
    "inference_on_dataset",
    "optimized_copy",
    "timed_outputs",
]

_log = logging.getLogger(__name__)


class IncompleteEvaluationError(DataError):
    """Evaluation that failed on some datasets.

    Args:
        failures: Error of each dataset that could not be evaluated.
        results: Results of the other datasets.
    """

    def __init__(self, failures: Mapping[str, DataError], *, results: Mapping[str, EvaluationResult]) -> None:
        others = f" (the results on {', '.join(results)} are written)" if results else ""
        super().__init__("\n".join(f"evaluation on {name} failed{others}: {failures[name]}" for name in failures))
        self.results = dict(results)


class SampleBatches(Protocol):
    """Sized iterable of batches, such as the result of `build_test_loader` (batches of one sample).

    Attributes:
        skipped: Samples that could not be used, complete after one iteration.
    """

    @property
    def skipped(self) -> Sequence[SkippedSample]: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sequence[dict[str, Any]]]: ...


def evaluate_datasets(
    cfg: CfgNode, model: nn.Module, output_dir: Path, *, submission: bool = False
) -> dict[str, EvaluationResult]:
    """Evaluate a model on every dataset of `DATASETS.TEST`.

    A collective: every process must call it and receives the same results. The main process logs the tables and
    writes the files of `report.write.write_report`, also if the evaluation fails on some of the datasets.

    Args:
        cfg: Configuration of the run.
        model: Model in training or evaluation mode, which is preserved.
        output_dir: Output folder; predictions are written to its subfolder predictions/<dataset>.
        submission: Whether to write a submission archive, see `official.submission.write_submission`.

    Raises:
        IncompleteEvaluationError: If a dataset or a prediction is invalid, after the evaluation of the other datasets.
        ConfigError: If the model does not support the configured inference.
        MissingExtraError: If an optional library is required but not installed.
    """
    network: Any = comm.unwrap(model)
    results: dict[str, EvaluationResult] = {}
    failures: dict[str, DataError] = {}
    targets: dict[str, BudgetSummary | None] = {}
    shown: dict[str, list[ShownImage]] = {}
    inference_model = build_inference_model(cfg, optimized_copy(cfg, network))
    latency = read_latency(cfg, network)
    for name in cfg.DATASETS.TEST:
        folder = predictions_folder(output_dir, name)
        try:
            with data_errors_shared():
                loader = build_test_loader(cfg, name)
            report = build_report_collector(cfg, name, dataset=loader.dataset)
            evaluator = build_evaluator(cfg, name, folder=folder, report=report)
            writers = build_writers(cfg, name, folder=folder, submission=submission)
            result = inference_on_dataset(inference_model, loader, evaluator, writers=writers)
        except DataError as error:
            failures[name] = error
            _log.error("Evaluation on %s failed: %s", name, error)
            continue
        results[name] = with_latency(result, cfg=cfg, table=latency, network=network)
        targets[name] = None
        if hasattr(network, "costs"):  # static networks have no cost tables and no budget
            targets[name] = summarize_budget(cfg, costs=network.costs, images=results[name].images)
        if comm.is_main_process():
            _log_result(results[name], target=targets[name], route=_route(network))
            if _lattice(network) is not None:
                shown[name] = show_images(
                    results[name],
                    model=inference_model,
                    dataset=loader.dataset,
                    meta=DatasetCatalog.meta(name),
                    costs=network.costs,
                )
    if comm.is_main_process() and results:
        _write(results, output_dir, network=network, targets=targets, shown=shown, submission=submission)
    comm.synchronize()  # other processes may read the files from here on
    if failures:
        raise IncompleteEvaluationError(failures, results=results)
    return results


def optimized_copy(cfg: CfgNode, network: nn.Module) -> nn.Module:
    """Return a faster copy of the network (`TEST.OPTIMIZE`), or the network itself where there is none."""
    if not cfg.TEST.OPTIMIZE or not isinstance(network, SegmentationModel):
        return network
    try:
        return optimize(network, precision=cfg.TEST.PRECISION, compile=cfg.TEST.EXECUTION == "compiled")
    except ValueError as error:
        _log.warning("Evaluating the model itself instead of a faster copy: %s", error)
        return network


def inference_on_dataset(
    model: nn.Module,
    loader: SampleBatches,
    evaluator: SemSegEvaluator,
    *,
    writers: Sequence[PredictionWriter] = (),
    description: str | None = None,
) -> EvaluationResult:
    """Run the model on all batches, and score and write its predictions; a collective.

    Args:
        model: Model from a list of samples to a list of outputs; its training or evaluation mode is preserved.
        loader: Batches of this process, of any size; the progress bar counts batches.
        evaluator: Evaluator, which is reset first and gathers the images of all processes.
        writers: Writers of the predictions.
        description: Text of the progress bar; None names the dataset.

    Raises:
        DataError: If a sample or a prediction is invalid in any of the processes.
    """
    evaluator.reset()
    for writer in writers:
        writer.open()
    bar = progress_bar(len(loader), description=description or f"evaluating {evaluator.dataset_name}", unit="image")
    with data_errors_shared(), evaluation_mode(model), torch.inference_mode(), bar:
        for inputs in loader:
            process_batch(model, inputs, evaluator, writers=writers)
            bar.update()
    evaluator.set_skipped(loader.skipped)
    with data_errors_shared():  # all processes have written their predictions
        for writer in writers if comm.is_main_process() else ():
            writer.close()
    return evaluator.evaluate()


def process_batch(
    model: nn.Module,
    inputs: Sequence[dict[str, Any]],
    evaluator: SemSegEvaluator,
    *,
    writers: Sequence[PredictionWriter] = (),
) -> None:
    """Run the model on a batch of samples, and score and write its predictions."""
    for sample, prediction in zip(inputs, _predict(model, inputs, evaluator=evaluator), strict=True):
        evaluator.process(sample, prediction)
        for writer in writers:
            writer.process(prediction)


def _log_result(result: EvaluationResult, *, target: BudgetSummary | None, route: Route | None) -> None:
    lattice = None if route is None else route.lattice
    _log.info("\n%s", format_text(result, target=target, lattice=lattice))
    for sentence in result_warnings(result, route=route):
        _log.warning("%s: %s", result.dataset_name, printable(sentence))


def _route(network: nn.Module) -> Route | None:
    return getattr(getattr(network, "backbone", None), "route", None)


def _lattice(network: nn.Module) -> Lattice | None:
    route = _route(network)
    return None if route is None else route.lattice


def _write(
    results: Mapping[str, EvaluationResult],
    output_dir: Path,
    *,
    network: nn.Module,
    targets: Mapping[str, BudgetSummary | None],
    shown: Mapping[str, Sequence[ShownImage]],
    submission: bool,
) -> None:
    paths = write_report(
        results,
        output_dir=output_dir,
        targets=targets,
        shown=shown,
        route=_route(network),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        costs=getattr(network, "costs", None),
    )
    _log.info("Wrote evaluation results: %s", ", ".join(path.name for path in paths))
    for name, result in results.items() if submission else ():
        benchmark, labels = DatasetCatalog.meta(name).benchmark, label_png_folder(predictions_folder(output_dir, name))
        archive = write_submission(result, benchmark=benchmark, folder=labels, output_dir=output_dir)
        _log.info("Wrote submission archive %s", archive.name)


def timed_outputs(model: nn.Module, inputs: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], float]:
    """Run the model on a batch; return its outputs and its wall time in seconds."""
    device = next((values.device for values in model.parameters()), torch.device("cpu"))
    start = _now(device)
    outputs = model(inputs)
    return outputs, _now(device) - start


def _predict(model: nn.Module, inputs: Sequence[dict[str, Any]], *, evaluator: SemSegEvaluator) -> list[Prediction]:
    """Run the model; a separate function, so that the logits are freed before the next batch."""
    outputs, seconds = timed_outputs(model, inputs)
    return read_outputs(
        inputs,
        outputs,
        num_classes=len(evaluator.class_names),
        seconds=seconds,
        with_confidence=evaluator.needs_confidence,
    )


def _now(device: torch.device) -> float:
    """Return the time in seconds after all queued work of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
