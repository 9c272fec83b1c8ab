"""Time of predictions with some gates closed: random routes of one image, and a batch of images with different ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import median

import torch
from harness import SEED, Settings, seconds_of
from networks import (
    LARGE,
    NETWORKS,
    SMALL,
    Size,
    build_network,
    default_config,
    executed_gmadds,
    open_network,
    predict,
    random_image,
)
from report import Samples, Table
from torch import Tensor, nn

from dl_lib.inference import optimize
from dl_lib.inference.latency import random_routes
from dl_lib.inference.routed_prediction import OpenEdges
from dl_lib.modeling import DynamicNet4Seg
from dl_lib.modeling.dynamic.forced_gates import SOFT_OPEN_BIAS, force_gates, gates_of

NUM_ROUTES = 20
COST_RANGE = (0.3, 0.9)  # of a route, relative to all gates open
COST_SIZE: Size = (128, 256)  # of the image with which the costs of routes are counted
BATCH_SIZE = 8
BATCH_SIDES: dict[str, Size] = {"default network": (256, 512), "quickstart": SMALL}
MAX_SEEDS = 1000
WEIGHT_DEVIATION = 3.0  # of gates


def routes_in_cost_range(model: DynamicNet4Seg, image: Tensor) -> dict[str, tuple[OpenEdges, float]]:
    """Return routes and their costs relative to all gates open, from the lowest to the highest cost."""
    generator = random.Random(SEED)
    all_open = executed_gmadds(*predict(model, [image]))
    routes: list[tuple[OpenEdges, float]] = []
    while len(routes) < NUM_ROUTES:
        (route,) = random_routes(model.backbone.lattice, generator, count=1)
        force_gates(model.backbone, route.__contains__, bias=SOFT_OPEN_BIAS)
        ratio = executed_gmadds(*predict(model, [image])) / all_open
        if COST_RANGE[0] <= ratio <= COST_RANGE[1]:
            routes.append((route, ratio))
    routes.sort(key=lambda entry: entry[1])
    return {f"route {number}": entry for number, entry in enumerate(routes, 1)}


def measure_routes(settings: Settings, *, rounds: int) -> tuple[Table, Samples]:
    """Measure random routes for a large image."""
    model = optimize(open_network(default_config(settings, [])))
    routes = routes_in_cost_range(model, random_image(COST_SIZE, device=model.device))
    image = random_image(LARGE, device=model.device)

    def run(route: OpenEdges) -> Callable[[], object]:
        def predict_route() -> object:
            force_gates(model.backbone, route.__contains__, bias=SOFT_OPEN_BIAS)
            return predict(model, [image])

        return predict_route

    every = frozenset(model.backbone.lattice.edges)
    runs = {"all open": run(every)} | {name: run(route) for name, (route, _) in routes.items()}
    samples = seconds_of(runs, rounds=rounds)
    all_open = median(samples["all open"])
    rows = []
    for name, (_, ratio) in routes.items():
        time_ratio = median(samples[name]) / all_open
        rows.append((name, ratio, time_ratio, time_ratio / ratio))
    columns = {"route": "", "cost ratio": ".3f", "time ratio": ".3f", "normalized time": ".3f"}
    return Table("Random routes, {}x{}".format(*LARGE), columns, rows), samples


def measure_batch(settings: Settings, *, rounds: int) -> tuple[Table, Samples]:
    """Measure a batch of images with different routes against the images alone."""
    rows, samples = [], {}
    for name, size in BATCH_SIDES.items():
        model = optimize(build_network(NETWORKS[name](settings)).eval())
        images = differing_images(size, device=model.device)
        spread_routes(model, images)
        together, alone = predict(model, images), [predict(model, [image])[0] for image in images]
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one["sem_seg"], other["sem_seg"], rtol=1e-3, atol=1e-3)
        own = seconds_of(
            {
                f"{name}/batch": lambda model=model, images=images: predict(model, images),
                f"{name}/alone": lambda model=model, images=images: [predict(model, [image]) for image in images],
            },
            rounds=rounds,
        )
        batch, one_by_one = (median(seconds) for seconds in own.values())
        rows.append((name, "{}x{}".format(*size), num_routes(together), batch, one_by_one, batch / one_by_one))
        samples |= own
    columns = {"network": "", "size": "", "routes": "d", "batch s": ".4f", "one by one s": ".4f", "ratio": ".3f"}
    return Table(f"Batch of {BATCH_SIZE} images", columns, rows), samples


def differing_images(size: Size, *, device: torch.device) -> list[Tensor]:
    """Return a batch of images with different mean colors and contrasts."""
    offsets = 255 * torch.rand(BATCH_SIZE, 3, 1, 1, device=device)
    contrasts = torch.linspace(0.1, 1, BATCH_SIZE)
    return [
        (offset + contrast * (random_image(size, device=device) - 127)).clamp(0, 255)
        for offset, contrast in zip(offsets, contrasts, strict=True)
    ]


@torch.no_grad()
def spread_routes(model: DynamicNet4Seg, images: Sequence[Tensor]) -> None:
    """Give the gates large random weights with which every image has its own route."""
    for seed in range(MAX_SEEDS):
        torch.manual_seed(seed)
        for gate in gates_of(model.backbone):
            assert gate.predict.bias is not None
            nn.init.normal_(gate.predict.weight, std=WEIGHT_DEVIATION)
            nn.init.zeros_(gate.predict.bias)
        if num_routes(predict(model, images)) == len(images):
            return
    raise AssertionError(f"no seed below {MAX_SEEDS} gives {len(images)} images different routes")


def num_routes(outputs: Sequence[dict[str, Tensor]]) -> int:
    """Return the number of different routes of images."""
    return len({tuple((output["gates"] > 0).tolist()) for output in outputs})
