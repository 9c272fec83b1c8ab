"""Reader of gates files: valid, damaged and foreign files."""

import io
import zipfile

import numpy as np
import pytest

from dl_lib.config import ConfigError
from dl_lib.evaluation.report.gates_file import read_gates
from dl_lib.modeling.dynamic.lattice import Lattice

LATTICE = Lattice([2, 3, 3])
EDGES = list(map(str, LATTICE.edges))
VALID = {
    "gates": np.linspace(0, 1, 2 * len(EDGES), dtype=np.float32).reshape(2, -1),
    "image_ids": np.array(["a", "b"]),
    "edges": np.array(EDGES),
    "routes": np.array([2, 1]),
}


def npz(**replaced):
    file = io.BytesIO()
    np.savez_compressed(file, **{**VALID, **replaced})
    return file.getvalue()


def npz_with_shape(shape):
    """Return a file of a few hundred bytes whose gates have a header with this shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    file = io.BytesIO(npz())
    with zipfile.ZipFile(file) as valid, zipfile.ZipFile(damaged := io.BytesIO(), "w") as archive:
        for name in valid.namelist():
            archive.writestr(name, header.getvalue() if name == "gates.npy" else valid.read(name))
    return damaged.getvalue()


@pytest.mark.parametrize("cells", [[1], [2], [1, 1, 2], [2, 3] + [4] * 14])
def test_the_lattice_is_found_from_the_names_of_the_edges(cells, tmp_path):
    lattice = Lattice(cells)
    edges = np.array(list(map(str, lattice.edges)))
    (tmp_path / "gates.npz").write_bytes(npz(edges=edges, gates=np.ones((2, len(edges)), np.float32)))
    assert read_gates(tmp_path / "gates.npz").lattice == lattice


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK", "File is not a zip file"),
        (npz()[:-30], "File is not a zip file"),
        (npz(gates=VALID["gates"].astype(np.float64)), "gates have dtype float64"),
        (npz(gates=VALID["gates"] - 0.1), "gate values outside"),
        (npz(gates=np.full_like(VALID["gates"], np.nan)), "gate values outside"),
        (npz(gates=VALID["gates"][:, :-1]), "gates have dtype float32 and shape"),
        (npz(image_ids=np.array(["a", "a"])), "a name is repeated"),
        (npz(image_ids=np.array(["a", None])), "image_ids of .* dtype object"),
        (npz(edges=np.array(EDGES[::-1])), "edges that are not those of a lattice"),
        (npz(edges=np.array([f"x{index}" for index in range(len(EDGES))])), "cells_per_layer"),
        (npz_with_shape((10**12, len(EDGES))), "gates of .* bytes has shape"),
    ],
)
def test_damaged_and_foreign_files_are_refused(content, message, tmp_path):
    path = tmp_path / "gates.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"gates.npz is not a file with the gates .* Received: .*{message}"):
        read_gates(path)
