"""Speed of the library as commands run it, relative to a plain eager network (`baseline_network`).

Run `python tools/benchmarks/speed.py --help`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
from baseline_network import BaselineNetwork
from evaluation import GATE_BIAS, build_network, default_config, matmul_gmadds_per_second, random_image
from harness import SEED, Case, Run, Settings, benchmark_parser, interleave, measure_memory, start, timed
from report import Report, Table, describe_machine
from torch import nn

from dl_lib.cli.arg_types import comma_separated
from dl_lib.cli.errors import user_errors
from dl_lib.cli.experiment import load_experiment, register_parts
from dl_lib.config import CfgNode
from dl_lib.inference import optimize
from dl_lib.modeling import DynamicNet4Seg
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP, MADDS_PER_MFLOP
from dl_lib.solver import build_lr_scheduler, build_optimizer

OPEN_BIAS = 1.0  # gate value 0.76, so that feature maps have to be multiplied
NUM_ROUTES = 20
COST_RANGE = (0.3, 0.9)  # of a route, relative to all gates open
LARGE, BATCH_SIZE = (1024, 2048), 8
BATCH_SIDES = {"default network": (256, 512), "quickstart": (96, 96)}
STEPS = {"1x768x768": (1, 768), "2x256x256": (2, 256)}  # images and side
CALLS_PER_ROUND = 5  # of small images
NOTES = """\
Medians of {rounds} rounds after a warm-up, in which the cases of a table alternate; both sides keep freed memory. \
Baseline: contiguous feature maps, separate norms, all cells and transitions of all images. dl_lib: the model that \
`dl_lib evaluate` and `dl_lib train` run with the default configuration. Open gates have the value 0.76. Memory: peak \
of a fresh process minus that before its network is built. Matmul fraction: executed GMAC/s relative to a product of \
two 2048x2048 matrices. Normalized time: time relative to all gates open, divided by the cost relative to all gates \
open."""

Samples = dict[str, tuple[float, ...]]
Side = Literal["baseline", "dl_lib", "checkpointed"]


def baseline_of(model: DynamicNet4Seg) -> BaselineNetwork:
    """Return the baseline with the weights of a model, contiguous in memory."""
    backbone = model.backbone
    baseline = BaselineNetwork(
        cells_per_layer=backbone.lattice.cells_per_layer,
        channels=backbone.base_channels,
        operations=backbone.cell_types,
        classes=model.sem_seg_head.predictor.out_channels,
    )
    baseline.load_state_dict({name: value.contiguous() for name, value in model.state_dict().items()})
    return baseline.to(model.device)


@torch.no_grad()
def set_route(model: DynamicNet4Seg, is_open: Callable[[object], bool]) -> None:
    """Open the edges for which the function is true, for all images, and close the others."""
    for node in model.backbone.lattice.nodes:
        gate = model.backbone.cell(node).gate
        assert gate is not None and gate.predict.bias is not None
        nn.init.zeros_(gate.predict.weight)
        biases = [OPEN_BIAS if is_open(edge) else -GATE_BIAS for edge in model.backbone.lattice.edges_from(node)]
        gate.predict.bias.copy_(torch.tensor(biases))


def open_network(cfg: CfgNode) -> DynamicNet4Seg:
    """Return a network in evaluation mode with all gates open."""
    model = build_network(cfg).eval()
    set_route(model, lambda edge: True)
    return model


def predict(model: DynamicNet4Seg, images: Sequence[torch.Tensor]) -> list[dict[str, Any]]:
    """Return the outputs of a model for images of one size."""
    with torch.inference_mode():
        outputs: list[dict[str, Any]] = model([{"image": image} for image in images])
    return outputs


def executed_gmadds(model: DynamicNet4Seg, image: torch.Tensor) -> float:
    """Return the executed multiply-adds of an image, in billions."""
    (output,) = predict(model, [image])
    return float(output["flops"]["executed_flops"]) * MADDS_PER_MFLOP / MADDS_PER_GFLOP


@dataclass(frozen=True)
class PredictionMemory(Case):
    """Prediction of the default network for one large image."""

    name: Side
    group: str = "memory"

    def prepare(self, settings: Settings) -> Run:
        model = open_network(default_config(settings, []))
        image = random_image(LARGE, device=model.device)
        if self.name == "dl_lib":
            optimized = optimize(model)
            return lambda: executed_gmadds(optimized, image)
        baseline = baseline_of(model).eval()

        def run() -> float:
            with torch.inference_mode():
                baseline(image[None] / 255)
            return 0.0

        return run


@dataclass(frozen=True)
class Step(Case):
    """Training step of the default network."""

    name: Side
    group: str  # key of `STEPS`

    def prepare(self, settings: Settings) -> Run:
        num_images, side = STEPS[self.group]
        overrides = ["INPUT.CROP_SIZE", [side, side], "MODEL.ACTIVATION_CHECKPOINTING", self.name == "checkpointed"]
        cfg = default_config(settings, overrides)
        model = build_network(cfg).train()
        classes, ignored = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        images = torch.stack([random_image((side, side), device=model.device) for _ in range(num_images)])
        labels = torch.randint(classes, (num_images, side, side), device=model.device)
        if self.name == "baseline":
            baseline = baseline_of(model).train()
            optimizer = torch.optim.SGD(baseline.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, foreach=False)
            normalized = (images - model.pixel_mean) / model.pixel_std
            return self._step(optimizer, lambda: baseline.loss(normalized, labels, ignore_value=ignored))
        optimizer = build_optimizer(cfg, model)
        build_lr_scheduler(cfg, optimizer)  # sets the first rate of the warmup
        batch = [{"image": image, "sem_seg": label} for image, label in zip(images, labels, strict=True)]

        def loss() -> torch.Tensor:
            losses, _ = model(batch, step_rate=0.5)
            return torch.stack(list(losses.values())).sum()

        return self._step(optimizer, loss)

    @staticmethod
    def _step(optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor]) -> Run:
        def run() -> float:
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            optimizer.step()
            return 0.0

        return run


def seconds_of(runs: Mapping[str, Callable[[], object]], *, rounds: int) -> Samples:
    """Return the durations of the calls, interleaved."""
    calls = interleave({name: lambda run=run: timed(run)[0] for name, run in runs.items()}, rounds=rounds)
    return {name: tuple(seconds) for name, seconds in calls.items()}


def measure_large(settings: Settings, *, rounds: int) -> tuple[list[Table], Samples]:
    """Measure an image of 1024x2048 with all gates open, and the peak memory."""
    model = open_network(default_config(settings, []))
    optimized, baseline = optimize(model), baseline_of(model).eval()
    image = random_image(LARGE, device=model.device)
    normalized = ((image - model.pixel_mean) / model.pixel_std)[None]
    runs = {"baseline": lambda: baseline(normalized), "dl_lib": lambda: predict(optimized, [image])}
    with torch.inference_mode():
        samples = seconds_of(runs, rounds=rounds)
    rate, gmadds = matmul_gmadds_per_second(settings), executed_gmadds(optimized, image)
    rows = []
    for name, seconds in samples.items():
        memory = measure_memory(PredictionMemory(name), settings)
        fraction = gmadds / median(seconds) / rate
        speedup = median(samples["baseline"]) / median(seconds)
        rows.append((name, median(seconds), speedup, fraction, memory.peak_mib - memory.idle_mib))
    columns = {"network": "", "seconds": ".4f", "speedup": ".2f", "matmul fraction": ".3f", "memory MiB": ".0f"}
    title = f"Default network, 1024x2048, all gates open ({gmadds:.1f} GMAC; matrix product {rate:.1f} GMAC/s)"
    return [Table(title, columns, rows)], samples


def random_routes(model: DynamicNet4Seg, image: torch.Tensor) -> dict[str, tuple[frozenset[object], float]]:
    """Return routes and their costs relative to all gates open."""
    generator, edges = random.Random(SEED), model.backbone.lattice.edges
    all_open = executed_gmadds(model, image)
    routes: dict[str, tuple[frozenset[object], float]] = {}
    while len(routes) < NUM_ROUTES:
        open_ratio = generator.uniform(0.2, 1.0)
        route = frozenset(edge for edge in edges if generator.random() < open_ratio)
        set_route(model, route.__contains__)
        ratio = executed_gmadds(model, image) / all_open
        if COST_RANGE[0] <= ratio <= COST_RANGE[1]:
            routes[f"route {len(routes) + 1}"] = route, ratio
    set_route(model, lambda edge: True)
    return routes


def measure_routes(settings: Settings, *, rounds: int) -> tuple[list[Table], Samples]:
    """Measure random routes for an image of 1024x2048."""
    model = optimize(open_network(default_config(settings, [])))
    routes = random_routes(model, random_image((128, 256), device=model.device))
    image = random_image(LARGE, device=model.device)

    def run(route: frozenset[object]) -> Callable[[], object]:
        def predict_route() -> object:
            set_route(model, route.__contains__)
            return predict(model, [image])

        return predict_route

    every = frozenset(model.backbone.lattice.edges)
    samples = seconds_of({"all open": run(every)} | {n: run(route) for n, (route, _) in routes.items()}, rounds=rounds)
    all_open = median(samples["all open"])
    rows = []
    for name, (_, ratio) in sorted(routes.items(), key=lambda item: item[1][1]):
        time_ratio = median(samples[name]) / all_open
        rows.append((name, ratio, time_ratio, time_ratio / ratio))
    columns = {"route": "", "cost ratio": ".3f", "time ratio": ".3f", "normalized time": ".3f"}
    return [Table("Random routes, 1024x2048", columns, rows)], samples


def measure_batch(settings: Settings, quickstart: CfgNode, *, rounds: int) -> tuple[list[Table], Samples]:
    """Measure a batch of images with different routes against the images alone."""
    rows, samples = [], {}
    for name, cfg in {"default network": default_config(settings, []), "quickstart": quickstart}.items():
        model = optimize(routed_by_image(build_network(cfg).eval()))
        size = BATCH_SIDES[name]
        images = differing_images(size, device=model.device)
        together, alone = predict(model, images), [predict(model, [image])[0] for image in images]
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one["sem_seg"], other["sem_seg"], rtol=1e-3, atol=1e-3)
        routes = len({tuple((output["gates"] > 0).tolist()) for output in together})
        own = seconds_of(
            {
                f"{name}, batch": lambda model=model, images=images: predict(model, images),
                f"{name}, alone": lambda model=model, images=images: [predict(model, [image]) for image in images],
            },
            rounds=rounds,
        )
        batch, one_by_one = (median(seconds) for seconds in own.values())
        rows.append((name, "{}x{}".format(*size), routes, batch, one_by_one, batch / one_by_one))
        samples |= own
    columns = {"network": "", "size": "", "routes": "d", "batch s": ".4f", "one by one s": ".4f", "ratio": ".3f"}
    return [Table(f"Batch of {BATCH_SIZE} images", columns, rows)], samples


def differing_images(size: tuple[int, int], *, device: torch.device) -> list[torch.Tensor]:
    """Return a batch of images with different mean colors and contrasts."""
    offsets = 255 * torch.rand(BATCH_SIZE, 3, 1, 1, device=device)
    contrasts = torch.linspace(0.1, 1, BATCH_SIZE)
    return [
        (offset + contrast * (random_image(size, device=device) - 127)).clamp(0, 255)
        for offset, contrast in zip(offsets, contrasts, strict=True)
    ]


@torch.no_grad()
def routed_by_image(model: DynamicNet4Seg) -> DynamicNet4Seg:
    """Give the gates large random weights, so that routes depend on the image."""
    for node in model.backbone.lattice.nodes:
        gate = model.backbone.cell(node).gate
        assert gate is not None and gate.predict.bias is not None
        nn.init.normal_(gate.predict.weight, std=3.0)
        nn.init.zeros_(gate.predict.bias)
    return model


def measure_small(quickstart: CfgNode, *, rounds: int) -> tuple[list[Table], Samples]:
    """Measure images per second of the quickstart's network."""
    model = open_network(quickstart)
    optimized, baseline = optimize(model), baseline_of(model).eval()
    rows, samples = [], {}
    for batch_size in (1, 16):
        images = [random_image((96, 96), device=model.device) for _ in range(batch_size)]
        normalized = torch.stack([(image - model.pixel_mean) / model.pixel_std for image in images])
        runs = {
            f"baseline, {batch_size}": lambda x=normalized: [baseline(x) for _ in range(CALLS_PER_ROUND)],
            f"dl_lib, {batch_size}": lambda images=images: [predict(optimized, images) for _ in range(CALLS_PER_ROUND)],
        }
        with torch.inference_mode():
            own = seconds_of(runs, rounds=rounds * CALLS_PER_ROUND)
        rates = [CALLS_PER_ROUND * batch_size / median(seconds) for seconds in own.values()]
        rows.append((batch_size, *rates, rates[1] / rates[0]))
        samples |= own
    columns = {"batch size": "d", "baseline images/s": ".1f", "dl_lib images/s": ".1f", "speedup": ".2f"}
    return [Table("Quickstart's network, 96x96, all gates open", columns, rows)], samples


def measure_steps(settings: Settings, *, rounds: int) -> tuple[list[Table], Samples]:
    """Measure time and memory of a training step."""
    rows, samples = [], {}
    for group in STEPS:
        cases = [Step(side, group) for side in ("baseline", "dl_lib", "checkpointed")]
        own = seconds_of({case.name: case.prepare(settings) for case in cases}, rounds=rounds)
        samples |= {f"{group}/{name}": seconds for name, seconds in own.items()}
        for case in cases:
            memory = measure_memory(case, settings)
            seconds = median(own[case.name])
            speedup = median(own["baseline"]) / seconds
            rows.append((group, case.name, seconds, speedup, memory.peak_mib - memory.idle_mib))
    columns = {"images": "", "network": "", "seconds": ".4f", "speedup": ".2f", "memory MiB": ".0f"}
    return [Table("Training step of the default network", columns, rows)], samples


def main(argv: Sequence[str] | None = None) -> None:
    parser = benchmark_parser("speed.py", description="Compare the library with a plain eager network.", repeats=5)
    names = ("large", "routes", "batch", "small", "steps")
    parser.add_argument(
        "--parts", type=comma_separated, default=",".join(names), metavar="NAMES", help="(default: all)"
    )
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.parts).difference(names):
        parser.error(f"--parts must be some of {', '.join(names)}. Received: {', '.join(sorted(unknown))}")
    arguments.keep_memory = True
    rounds = arguments.repeats
    with user_errors(parser.prog):
        settings = start(arguments)
        experiment = load_experiment("Quickstart", [f"MODEL.DEVICE={settings.device}"], purpose="evaluation")
        register_parts(experiment)
        quickstart = experiment.cfg
        measures: dict[str, Callable[[], tuple[list[Table], Samples]]] = {
            "large": lambda: measure_large(settings, rounds=rounds),
            "routes": lambda: measure_routes(settings, rounds=rounds),
            "batch": lambda: measure_batch(settings, quickstart, rounds=rounds),
            "small": lambda: measure_small(quickstart, rounds=rounds),
            "steps": lambda: measure_steps(settings, rounds=rounds),
        }
        results = {part: measures[part]() for part in arguments.parts}
    tables = [table for own, _ in results.values() for table in own]
    samples = {f"{part}/{name}": values for part, (_, own) in results.items() for name, values in own.items()}
    report = Report("Speed", describe_machine(settings), NOTES.format(rounds=rounds), tables, samples)
    report.write(arguments.output, "speed", document=arguments.document)


if __name__ == "__main__":
    main()
