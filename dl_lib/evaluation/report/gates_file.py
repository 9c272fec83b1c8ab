"""File with the gate values of each image of an evaluation, gates.npz."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dl_lib.evaluation.report.npz_file import Arrays, arrays_as_npz, read_npz, unique_names
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling.dynamic.lattice import Lattice

__all__ = ["ImageGates", "gates_as_npz", "read_gates"]


@dataclass(frozen=True, eq=False)
class ImageGates:
    """Gate values of the images of an evaluation.

    Attributes:
        lattice: Lattice of the network.
        image_ids: Name of each image, unique.
        gates: Gate values in [0, 1], (images, edges) float64; columns in the order of `lattice.edges`.
    """

    lattice: Lattice
    image_ids: tuple[str, ...]
    gates: npt.NDArray[np.float64]


def gates_as_npz(result: EvaluationResult, *, lattice: Lattice) -> bytes:
    """Return an npz file with the gate values of each image, which `numpy.load` reads without pickle.

    It holds `gates` (N, E) float32, `image_ids` (N,), `edges` (E,) with the names of the edges, and `routes` (N,) with
    the numbers of the routes.
    """
    assert result.gates is not None and result.routes is not None, "the network has gates"
    return arrays_as_npz(
        {
            "gates": result.gates.float().numpy(),
            "image_ids": np.array([image.image_id for image in result.images]),
            "edges": np.array([str(edge) for edge in lattice.edges]),
            "routes": np.array(result.routes.numbers),
        }
    )


def read_gates(path: Path) -> ImageGates:
    """Read a file of `gates_as_npz`.

    Raises:
        ConfigError: If it is missing, damaged, or a file of another kind.
    """
    return read_npz(
        path,
        _parse,
        names=("gates", "image_ids", "edges"),
        contents="the gates of an evaluation",
        advice="evaluate a network with gates (dl_lib evaluate --config-file RUN)",
    )


def _parse(arrays: Arrays) -> ImageGates:
    gates, image_ids, edges = (arrays[name] for name in ("gates", "image_ids", "edges"))
    names = unique_names(image_ids)
    if gates.dtype != np.float32 or gates.shape != (len(names), edges.size) or not gates.size:
        raise ValueError(f"gates have dtype {gates.dtype} and shape {gates.shape}")
    if not ((gates >= 0) & (gates <= 1)).all():
        raise ValueError("gate values outside [0, 1]")
    return ImageGates(_lattice(unique_names(edges)), names, gates.astype(np.float64))


def _lattice(edges: Sequence[str]) -> Lattice:
    """Return the lattice with these edges."""
    nodes = dict.fromkeys(edge.partition(".")[0] for edge in edges)
    counts = Counter(node.partition("_")[0] for node in nodes)  # cells of each layer
    lattice = Lattice([counts[f"layer{layer}"] for layer in range(1, len(counts))])
    if [str(edge) for edge in lattice.edges] != list(edges):
        raise ValueError(f"{len(edges)} edges that are not those of a lattice")
    return lattice
