"""File with the gate values of each image of an evaluation, gates.npz."""

from __future__ import annotations

import io
import math
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dl_lib.config import ConfigError
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.utils.files import read_regular

__all__ = ["ImageGates", "gates_as_npz", "read_gates"]

_MAX_BYTES = 2**30  # of the file, and of each array in it


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
    file = io.BytesIO()
    np.savez_compressed(
        file,
        gates=result.gates.float().numpy(),
        image_ids=np.array([image.image_id for image in result.images]),
        edges=np.array([str(edge) for edge in lattice.edges]),
        routes=np.array(result.routes.numbers),
    )
    return file.getvalue()


def read_gates(path: Path) -> ImageGates:
    """Read a file of `gates_as_npz`.

    Raises:
        ConfigError: If it is missing, damaged, or another file.
    """
    try:
        data = read_regular(path, max_bytes=_MAX_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{path.name} cannot be read ({error.strerror or error}); evaluate a network with gates (dl_lib evaluate "
            f"--config-file RUN). Received: path={str(path)!r}"
        ) from error
    try:
        return _parse(data)
    except Exception as error:  # of zipfile, NumPy and the checks below
        raise ConfigError(
            f"{path} is not a file with the gates of an evaluation, or is damaged; evaluate the run again. "
            f"Received: {type(error).__name__}: {error}"
        ) from error


def _parse(data: bytes) -> ImageGates:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        gates, image_ids, edges = (_array(archive, name) for name in ("gates", "image_ids", "edges"))
    if gates.dtype != np.float32 or image_ids.dtype.kind != "U" or edges.dtype.kind != "U":
        raise ValueError(f"dtypes {gates.dtype}, {image_ids.dtype}, {edges.dtype}")
    if gates.shape != (*image_ids.shape, *edges.shape) or not gates.size:
        raise ValueError(f"shapes {gates.shape}, {image_ids.shape}, {edges.shape}")
    if not ((gates >= 0) & (gates <= 1)).all():
        raise ValueError("gate values outside [0, 1]")
    names = tuple(image_ids.tolist())
    if len({*names}) < len(names):
        raise ValueError("two images of one name")
    return ImageGates(_lattice(edges.tolist()), names, gates.astype(np.float64))


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read an array whose header states the size of its data, so that no other size is allocated."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.file_size > _MAX_BYTES:
        raise ValueError(f"{name} has {entry.file_size} bytes")
    with archive.open(entry) as member:
        file = io.BytesIO(member.read(entry.file_size))  # without a size, it would expand more than the entry states
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{name} has version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or file.tell() + math.prod(shape) * dtype.itemsize != entry.file_size:
        raise ValueError(f"{name} of {entry.file_size} bytes has shape {shape} and dtype {dtype}")
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _lattice(edges: Sequence[str]) -> Lattice:
    """Return the lattice with these edges."""
    nodes = dict.fromkeys(edge.partition(".")[0] for edge in edges)
    counts = Counter(node.partition("_")[0] for node in nodes)  # cells of each layer
    lattice = Lattice([counts[f"layer{layer}"] for layer in range(1, len(counts))])
    if [str(edge) for edge in lattice.edges] != list(edges):
        raise ValueError(f"{len(edges)} edges that are not those of a lattice")
    return lattice
