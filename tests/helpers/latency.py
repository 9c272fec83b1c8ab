"""Synthetic latency tables."""

import random

import torch

from dl_lib.modeling.build import resolve_device
from dl_lib.modeling.costs.latency import LatencyConditions, LatencyTable
from dl_lib.modeling.costs.latency_file import latency_to_json, network_values
from dl_lib.modeling.dynamic.configured_route import configured_route
from dl_lib.utils.device_name import device_name


def latency_table(cfg, size, *, device=None):
    """Return a table with random milliseconds for the network of a config on its device."""
    route, draw = configured_route(cfg), random.Random(0).random
    return LatencyTable.of_parts(
        LatencyConditions(
            device=device or device_name(resolve_device(cfg.MODEL.DEVICE)),
            threads=torch.get_num_threads(),
            precision="float32",
            versions={"torch": torch.__version__},
            size=size,
            network=network_values(cfg),
            route=route,
        ),
        scalars={"stem": draw(), "head": draw(), "decisions": draw()},
        operations={node: draw() for node in route.cells},
        gates={node: draw() for node in route.cells if None in route.gates_of(node)},
        transitions={edge: draw() for edge in route.edges},
    )


def write_latency(folder, cfg, size, *, device=None):
    """Write such a table and return its path."""
    path = folder / "latency.json"
    path.write_text(latency_to_json(latency_table(cfg, size, device=device)))
    return str(path)
