"""Predictions of images without a model."""

import numpy as np
import torch

from dl_lib.data.catalog import DatasetMeta, voc_colormap
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.prediction.result import PredictedImage

LATTICE = Lattice([2, 3])
GFLOPS = {"expected": 1.0, "real": 2.0, "real_complete": 3.0, "executed": 4.0}


def make_result(*, size=(6, 9), num_classes=3, seed=0, routed=True, gflops=GFLOPS):
    """Return a prediction with random pixels and random open edges."""
    rng = np.random.default_rng(seed)
    names, colors = tuple(f"class {index}" for index in range(num_classes)), voc_colormap(num_classes)
    logits = rng.normal(size=(num_classes, *size)).astype(np.float32)
    gates = torch.from_numpy(rng.integers(0, 2, (1, len(LATTICE.edges)))).double()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=0)
    return PredictedImage(
        name="given",
        image=rng.integers(0, 256, (*size, 3)).astype(np.uint8),
        classes=logits.argmax(axis=0).astype(np.uint8 if num_classes <= 256 else np.int32),
        probabilities=probabilities,
        route=Routing(LATTICE, gates, torch.ones(1, len(LATTICE.nodes), dtype=torch.bool)) if routed else None,
        gflops=gflops if routed else {},
        seconds=0.25,
        meta=DatasetMeta(names, colors, ignore_value=65535),
    )
