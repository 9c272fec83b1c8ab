"""Time that collecting the data of the report page takes in an evaluation (`TEST.REPORT_DATA`).

    python tools/benchmarks/report_data.py output/Quickstart
    python tools/benchmarks/report_data.py playground/Dynamic/Seg.Layer16 --size 512x1024 --images 4 --repeats 5

Run `python tools/benchmarks/report_data.py --help`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import torch
from harness import Settings, benchmark_parser, interleave, start, timed
from networks import Size
from report import Report, Samples, Table, describe_machine
from synthetic_images import NUM_CLASSES, write_pairs
from torch import nn
from torch.utils.data import Subset

from dl_lib.cli.arg_types import image_size, positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.config import CfgNode
from dl_lib.data import DatasetCatalog, build_test_loader, register_folder_sem_seg
from dl_lib.engine import build_configured_model
from dl_lib.evaluation.report.report_file import report_data_as_npz
from dl_lib.evaluation.runner.build import build_plain_evaluator, build_report_collector
from dl_lib.evaluation.runner.passes import build_inference_model
from dl_lib.evaluation.runner.run import SampleBatches, optimized_copy, process_batch
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.experiment.experiment import load_experiment
from dl_lib.experiment.trained_run import load_trained_model, load_trained_run
from dl_lib.utils.files import write_atomically
from dl_lib.utils.run_files import LAST_CHECKPOINT_NAME

WITHOUT, WITH = "without", "with"
DATASET = "report_data_benchmark"
NOTES = """\
Medians of {repeats} rounds after a warm-up. An evaluation loads, predicts and scores {images} images in one process; \
with report data, it also writes report_data.npz. The evaluations with and without alternate image by image, and share \
the loaded images. Tables and figures, which both would write, are omitted. Cost: time with report data divided by \
that without, minus one; median of the rounds and their quartiles."""


def measure(cfg: CfgNode, model: nn.Module, *, rounds: int) -> Samples:
    """Return the seconds of evaluations on the first test dataset, with and without report data."""
    (dataset,) = cfg.DATASETS.TEST
    network = build_inference_model(cfg, optimized_copy(cfg, model))
    loader = build_test_loader(cfg, dataset)
    report = build_report_collector(cfg.with_values({"TEST.REPORT_DATA": True}), dataset, dataset=loader.dataset)
    evaluators = {
        WITHOUT: build_plain_evaluator(cfg, dataset),
        WITH: build_plain_evaluator(cfg, dataset, report=report),
    }
    with torch.inference_mode():
        run = partial(evaluate_alternately, network, loader, evaluators)
        calls = interleave({"evaluations": run}, rounds=rounds)["evaluations"]
    return {name: tuple(call[name] for call in calls) for name in evaluators}


def evaluate_alternately(
    network: nn.Module, loader: SampleBatches, evaluators: Mapping[str, SemSegEvaluator]
) -> dict[str, float]:
    """Return the seconds of an evaluation with each evaluator; each takes every other batch first."""
    seconds = dict.fromkeys(evaluators, 0.0)
    order = list(evaluators)
    for evaluator in evaluators.values():
        evaluator.reset()
    batches = iter(loader)
    for _ in range(len(loader)):
        loading, inputs = timed(partial(next, batches))
        for name in order:
            seconds[name] += loading + timed(partial(process_batch, network, inputs, evaluators[name]))[0]
        order.reverse()
    for name, evaluator in evaluators.items():
        seconds[name] += timed(partial(finish, evaluator))[0]
    return seconds


def finish(evaluator: SemSegEvaluator) -> None:
    """Compute the result, and write the report data if there are any."""
    data = evaluator.evaluate().report_data
    if data is not None:
        with tempfile.TemporaryDirectory() as folder:
            write_atomically(Path(folder, "report_data.npz"), report_data_as_npz(data))


def cost_table(samples: Mapping[str, Sequence[float]], *, images: int) -> Table:
    """Return one row: milliseconds per image, and the cost in percent."""
    costs = [100 * (having / lacking - 1) for lacking, having in zip(samples[WITHOUT], samples[WITH], strict=True)]
    lowest, middle, highest = quantiles(costs)
    columns = {"ms per image without": ".2f", "with": ".2f", "cost (%)": ".1f", "quartiles": ">s"}
    milliseconds = [1e3 * median(samples[name]) / images for name in (WITHOUT, WITH)]
    return Table("Report data", columns, [(*milliseconds, middle, f"{lowest:.1f} to {highest:.1f}")])


def register_images(name: str, *, count: int) -> int:
    """Register the first images of a dataset as `DATASET`; return their number."""
    dataset = DatasetCatalog.get(name)
    subset = Subset(dataset, range(min(count, len(dataset))))
    DatasetCatalog.register(DATASET, lambda: subset, DatasetCatalog.meta(name))
    return len(subset)


def register_synthetic(folder: Path, *, count: int, size: Size) -> int:
    """Write synthetic images and register them as `DATASET`; return their number."""
    write_pairs(folder, count=count, size=size)
    classes = [f"class {number}" for number in range(NUM_CLASSES)]
    register_folder_sem_seg(DATASET, images=folder / "images", labels=folder / "labels", classes=classes)
    return count


def load(config: str, opts: Sequence[str]) -> tuple[CfgNode, nn.Module]:
    """Return config and network of a run, or of an experiment that is not trained, with random weights."""
    if os.path.lexists(Path(config) / LAST_CHECKPOINT_NAME):
        cfg = load_trained_run(config, opts).cfg
        return cfg, load_trained_model(cfg)
    cfg = load_experiment(config, [*opts, "MODEL.WEIGHTS="]).cfg
    return cfg, build_configured_model(cfg).eval()


def report_of(config: str, samples: Samples, settings: Settings, *, images: int, size: Size | None) -> Report:
    shown = f"{images} of the test dataset" if size is None else "{} synthetic ones of {}x{}".format(images, *size)
    facts = describe_machine(settings) | {"experiment": " ".join([config, *settings.opts]), "images": shown}
    notes = NOTES.format(repeats=len(samples[WITH]), images=images)
    return Report("Cost of report data", facts, notes, [cost_table(samples, images=images)], samples)


def main(argv: Sequence[str] | None = None) -> None:
    parser = benchmark_parser("report_data.py", description="Measure the cost of TEST.REPORT_DATA.", repeats=21)
    add = parser.add_argument
    add("config", help="run folder, or an experiment, whose weights are random")
    add("--images", type=positive_int, default=200, metavar="N", help="(default: %(default)s)")
    add("--size", type=image_size, metavar="HxW", help="evaluate synthetic images of this size (default: test dataset)")
    add("opts", nargs="*", metavar="KEY=VALUE", help="overrides of the configuration")
    arguments = parser.parse_intermixed_args(argv)
    with user_errors(parser.prog), tempfile.TemporaryDirectory() as folder:
        settings = start(arguments)
        cfg, model = load(arguments.config, [f"MODEL.DEVICE={settings.device}", *settings.opts])
        if arguments.size is None:
            images = register_images(cfg.DATASETS.TEST[0], count=arguments.images)
        else:
            images = register_synthetic(Path(folder), count=arguments.images, size=arguments.size)
        cfg = cfg.with_values({"DATASETS.TEST": [DATASET]})
        samples = measure(cfg, model, rounds=arguments.repeats)
        report = report_of(arguments.config, samples, settings, images=images, size=arguments.size)
    report.write(arguments.output, "report_data", document=arguments.document)


if __name__ == "__main__":
    main()
