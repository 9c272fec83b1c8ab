"""Latency of exported files in other runtimes against PyTorch, and accuracy of files quantized to 8-bit integers.

Run `python tools/benchmarks/runtimes.py --help`.
"""

from __future__ import annotations

import copy
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import onnx
import torch
from harness import SEED, Settings, add_parts_option, benchmark_parser, seconds_of, start
from networks import NETWORKS, SMALL, Size, build_network, executed_gmadds, predict
from onnx import numpy_helper
from report import Report, Samples, Table, describe_machine, measure_parts
from torch import Tensor, nn

from dl_lib.cli.errors import user_errors
from dl_lib.config import CfgNode
from dl_lib.data import DatasetCatalog, build_test_loader
from dl_lib.data.catalog import DatasetMeta, voc_colormap
from dl_lib.evaluation.scores.confusion import ConfusionMatrix
from dl_lib.evaluation.scores.metrics import segmentation_metrics
from dl_lib.experiment.trained_run import load_trained_model, load_trained_run
from dl_lib.inference import ModelDescription, OnnxModel, export, optimize
from dl_lib.inference.exporting.formats import FILE_FORMATS, FormatName
from dl_lib.inference.exporting.metadata import Precision
from dl_lib.inference.latency import random_routes
from dl_lib.inference.routed_prediction import OpenEdges
from dl_lib.modeling import DynamicNet4Seg
from dl_lib.modeling.dynamic.forced_gates import OPEN_BIAS, gates_of
from dl_lib.modeling.dynamic.lattice import Edge

COSTS = ("all open", "half", "all closed")
HALF = (0.48, 0.52)  # cost of a route, relative to all gates open
MAX_DRAWS = 1000
GATE_DEVIATION = 1e-3  # of the random weights of gates, whose biases decide
StaticCase = tuple[str, FormatName, Precision]
STATIC: tuple[StaticCase, ...] = (
    ("ONNX Runtime, static", "onnx", "float32"),
    ("ONNX Runtime, static, fp16", "onnx", "fp16"),
    ("ONNX Runtime, static, int8", "onnx", "int8"),
    ("OpenVINO, static", "openvino", "float32"),
)
TOLERANCE = 1e-3  # of the largest logit; rounding to fewer bits is larger
CALIBRATION_IMAGES = 64
LATENCY, LARGE_LATENCY, ACCURACY = "latency", "large", "accuracy"
LARGE: Size = (256, 512)
NOTES = """Medians of {repeats} rounds after a warm-up, in which the cases of a table alternate. From one image of uint8
values to logits of its size, with normalization. Costs are relative to all gates open, stem and head included. All
runtimes use the same number of threads. The dynamic file is one graph; the routes differ in the biases of its gates.
Static files run all parts."""


def measure_latency(
    settings: Settings, *, network: str, size: Size, static: Sequence[StaticCase], rounds: int
) -> tuple[Table, Samples]:
    """Measure predictions of one image in every runtime, on routes of given costs.

    Args:
        settings: Settings of the process.
        network: Name of one of `NETWORKS`, with random weights.
        size: Size of the image.
        static: Static files to measure.
        rounds: Number of rounds.
    """
    cfg = NETWORKS[network](settings)
    model = build_network(cfg).eval()
    randomize_gates(model)
    image = torch.randint(256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(SEED))
    routes = routes_of_costs(model, image)
    runs: dict[tuple[str, str], Callable[..., Any]] = {}
    for cost, (routed, _) in routes.items():
        runs["PyTorch, the model itself", cost] = routed
        runs["PyTorch, optimized (the default)", cost] = optimize(routed)
    with tempfile.TemporaryDirectory() as folder:
        routed_models = {cost: routed for cost, (routed, _) in routes.items()}
        runs |= exported_runs(cfg, model, routed_models, image, Path(folder), static=static)
        check_outputs(
            runs, image, {cost: predict(routed, [image])[0]["sem_seg"] for cost, (routed, _) in routes.items()}
        )
        with torch.inference_mode():
            samples = seconds_of(
                {key: lambda run=run: run([{"image": image}]) for key, run in runs.items()}, rounds=rounds
            )
    title = "Latency, {}, {}x{}".format(network, *size)
    table = latency_table(samples, {cost: ratio for cost, (_, ratio) in routes.items()}, title=title)
    return table, {"/".join((network, *key)): seconds for key, seconds in samples.items()}


def exported_runs(
    cfg: CfgNode,
    model: DynamicNet4Seg,
    routed: Mapping[str, DynamicNet4Seg],
    image: Tensor,
    folder: Path,
    *,
    static: Sequence[StaticCase],
) -> dict[tuple[str, str], Callable[..., Any]]:
    """Export a model, and return its files in their runtimes by runtime and cost."""
    names = tuple(map(str, range(cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)))
    classes = DatasetMeta(names, voc_colormap(len(names)))
    options: dict[str, Any] = {
        "description": ModelDescription(classes, channel_order=cfg.INPUT.FORMAT),
        "size": tuple(image.shape[-2:]),
        "images": [image],
    }
    runs: dict[tuple[str, str], Callable[..., Any]] = {}
    export(model, folder / "dynamic.onnx", dynamic=True, **options)
    for cost, one in routed.items():
        path = folder / f"{cost}.onnx"
        write_with_biases_of(one, folder / "dynamic.onnx", path)
        runs["ONNX Runtime, dynamic", cost] = OnnxModel(path)
    whole = routed["all open"]
    for runtime, format, precision in static:
        path = folder / f"{format}_{precision}{FILE_FORMATS[format].suffixes[0]}"
        export(whole, path, format=format, precision=precision, calibration_images=[image], **options)
        runs[runtime, "all open"] = FILE_FORMATS[format].open(path)
    return runs


def routes_of_costs(model: DynamicNet4Seg, image: Tensor) -> dict[str, tuple[DynamicNet4Seg, float]]:
    """Return copies of a model on a route for each of `COSTS`, and their costs relative to all gates open."""
    generator, lattice = random.Random(SEED), model.backbone.lattice
    whole, closed = (on_route(model, edges) for edges in (frozenset(lattice.edges), frozenset[Edge]()))

    all_open, lowest = (executed_gmadds(*predict(routed, [image])) for routed in (whole, closed))
    for _ in range(MAX_DRAWS):
        half = on_route(model, *random_routes(lattice, generator, count=1))
        ratio = executed_gmadds(*predict(half, [image])) / all_open
        if HALF[0] <= ratio <= HALF[1]:
            return {"all open": (whole, 1.0), "half": (half, ratio), "all closed": (closed, lowest / all_open)}
    raise AssertionError(f"none of {MAX_DRAWS} random routes has half the cost")


@torch.no_grad()
def randomize_gates(model: DynamicNet4Seg) -> None:
    """Give the gates different weights, far smaller than `OPEN_BIAS`: equal tensors would be stored once in a file."""
    for gate in gates_of(model.backbone):
        nn.init.normal_(gate.predict.weight, std=GATE_DEVIATION)
        nn.init.normal_(gate.predict.bias, std=GATE_DEVIATION)


@torch.no_grad()
def on_route(model: DynamicNet4Seg, edges: OpenEdges) -> DynamicNet4Seg:
    """Return a copy of a model whose gates open these edges, by their biases alone."""
    routed = copy.deepcopy(model)
    for gate, own in gates_of(routed.backbone).items():
        gate.predict.bias.copy_(torch.tensor([OPEN_BIAS if edge in edges else -OPEN_BIAS for edge in own]))
    return routed


def write_with_biases_of(model: DynamicNet4Seg, source: Path, target: Path) -> None:
    """Write the ONNX file of a network with the biases of the gates of a model."""
    file, values = onnx.load(source), model.state_dict()
    biases = {name: value for name, value in values.items() if name.endswith("gate.predict.bias")}
    tensors = {tensor.name: tensor for tensor in file.graph.initializer}
    for name, value in biases.items():
        tensors[name].CopyFrom(numpy_helper.from_array(value.numpy(), name))
    onnx.save(file, target)


def check_outputs(
    runs: Mapping[tuple[str, str], Callable[..., Any]], image: Tensor, expected: Mapping[str, Tensor]
) -> None:
    """Raise AssertionError unless every runtime computes the logits of the model, integers approximately."""
    for (runtime, route), run in runs.items():
        with torch.inference_mode():
            (output,) = run([{"image": image}])
        difference = (output["sem_seg"] - expected[route]).abs().max() / expected[route].abs().max()
        assert difference < TOLERANCE or runtime.endswith(("fp16", "int8")), (runtime, route, difference)


def latency_table(
    samples: Mapping[tuple[str, str], Sequence[float]], ratios: Mapping[str, float], *, title: str
) -> Table:
    """Return one row per runtime, with its milliseconds for each cost."""
    rows = []
    for runtime in dict.fromkeys(runtime for runtime, _ in samples):
        ms = [1e3 * median(samples[runtime, cost]) if (runtime, cost) in samples else None for cost in COSTS]
        rows.append((runtime, *ms, *(None if value is None else value / ms[0] for value in ms[1:])))
    costs = {f"{cost} ({ratios[cost]:.2f}) ms": ".2f" for cost in COSTS}
    columns = {"runtime": "", **costs, **{f"{cost} / all open": ".3f" for cost in COSTS[1:]}}
    return Table(title, columns, rows)


def measure_accuracy(run: str, settings: Settings) -> tuple[Table, Samples]:
    """Evaluate a trained run in PyTorch and as static ONNX files of each precision, on its first test dataset."""
    cfg = load_trained_run(run, [f"MODEL.DEVICE={settings.device}"], option="--run").cfg
    model = load_trained_model(cfg).eval()
    calibration = [one["image"] for (one,) in islice(build_test_loader(cfg, cfg.DATASETS.TRAIN[0]), CALIBRATION_IMAGES)]
    size = tuple(calibration[0].shape[-2:])
    options: dict[str, Any] = {
        "description": ModelDescription.from_config(cfg),
        "size": size,
        "images": calibration[:4],
    }
    rows = [("PyTorch, optimized (the default)", miou(cfg, optimize(model)), None)]
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "fp16", "int8"):
            path = Path(folder, f"{precision}.onnx")
            export(model, path, precision=precision, calibration_images=calibration, **options)
            rows.append((f"ONNX Runtime, static, {precision}", miou(cfg, OnnxModel(path)), path.stat().st_size / 1e6))
    columns = {"network": "", "mIoU (%)": ".2f", "file MB": ".2f"}
    return Table(f"Accuracy on {cfg.DATASETS.TEST[0]}", columns, rows), {}


def miou(cfg: CfgNode, model: Callable[..., Any]) -> float:
    """Return the mean IoU of a model on the first test dataset, in percent."""
    (name, *_) = cfg.DATASETS.TEST
    meta = DatasetCatalog.meta(name)
    confusion = ConfusionMatrix(meta.num_classes, ignore_value=meta.ignore_value)
    with torch.inference_mode():
        for batch in build_test_loader(cfg, name):
            for sample, output in zip(batch, model(batch), strict=True):
                confusion.update(output["sem_seg"].argmax(dim=0), label=sample["sem_seg"])
    return 100 * segmentation_metrics(confusion.counts, class_names=meta.class_names).mean_iou


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the report and write it to a folder."""
    parser = benchmark_parser(
        "runtimes.py",
        description="Measure exported files in ONNX Runtime and OpenVINO against PyTorch on the CPU. The network of "
        "the latencies has random weights, and gates that are forced to random routes.",
        repeats=10,
    )
    add_parts_option(parser, [LATENCY, LARGE_LATENCY, ACCURACY])
    parser.add_argument(
        "--run",
        metavar="RUN",
        default="output/Quickstart",
        help="trained run for the part accuracy (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    with user_errors("runtimes.py"):
        settings = start(arguments)
        latency = partial(measure_latency, settings, rounds=arguments.repeats)
        measures = {
            LATENCY: partial(latency, network="quickstart", size=SMALL, static=STATIC),
            LARGE_LATENCY: partial(latency, network="default network", size=LARGE, static=STATIC[:1]),
            ACCURACY: partial(measure_accuracy, arguments.run, settings),
        }
        tables, samples = measure_parts(measures, arguments.parts)
        facts = describe_machine(settings) | {name: version(name) for name in ("onnx", "onnxruntime", "openvino")}
        report = Report("Runtimes", facts, NOTES.format(repeats=arguments.repeats), tables, samples)
        report.write(arguments.output, "runtimes", document=arguments.document)


if __name__ == "__main__":
    main()
