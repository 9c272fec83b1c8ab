"""Formats of evaluations with arrays: gates and report data."""

import io
import zipfile

import numpy as np
from hypothesis import strategies as st

from dl_lib.evaluation.report.gates_file import read_gates
from dl_lib.evaluation.report.report_file import read_report_data, report_data_as_npz
from dl_lib.evaluation.scores.image_encoding import decode_class_indices
from dl_lib.modeling.dynamic.lattice import Lattice
from tests.fuzz.registry import Format, registered
from tests.helpers.mutations import mutated_bytes
from tests.helpers.report_data import report_data


@registered
def gates(folder):
    path, edges = folder / "gates.npz", list(map(str, Lattice([2, 3]).edges))
    values = np.linspace(0, 1, 2 * len(edges), dtype=np.float32).reshape(2, -1)
    arrays = {"gates": values, "image_ids": np.array(["a", "b"]), "edges": np.array(edges), "routes": np.array([2, 1])}

    def read(content):
        path.write_bytes(content)
        found = read_gates(path)
        assert found.gates.shape == (len({*found.image_ids}), len(found.lattice.edges))
        assert ((found.gates >= 0) & (found.gates <= 1)).all()

    return Format(_damaged_npz(arrays), read)


@registered
def report(folder):
    path = folder / "report_data.npz"
    with np.load(io.BytesIO(report_data_as_npz(report_data()))) as file:
        arrays = dict(file)

    def read(content):
        path.write_bytes(content)
        data = read_report_data(path)
        assert data.class_counts is None or (data.class_counts >= 0).all()
        assert data.calibration is None or 0 <= data.calibration.ece <= 1
        assert data.thumbnails.keys() <= {*data.image_ids} and all(data.thumbnails.values())
        for sample in (*data.worst, *data.most_expensive):
            assert sample.image_id in data.image_ids
            for png in filter(None, (sample.prediction, sample.label)):
                assert decode_class_indices(png).size
        again = report_data_as_npz(data)
        path.write_bytes(again)
        assert report_data_as_npz(read_report_data(path)) == again

    return Format(_damaged_npz(arrays), read)


@st.composite
def _damaged_npz(draw, arrays):
    """Return an npz file with damaged bytes, or one of damaged arrays that is a valid zip file."""
    members = {}
    for name, array in arrays.items():
        np.save(file := io.BytesIO(), array)
        members[f"{name}.npy"] = file.getvalue()
    is_zip = draw(st.booleans())
    for name in draw(st.lists(st.sampled_from(sorted(members)), min_size=1, max_size=3)) if is_zip else ():
        members[name] = draw(mutated_bytes([members[name], draw(st.sampled_from(sorted(members.values())))]))
    with zipfile.ZipFile(
        file := io.BytesIO(), "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    ) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue() if is_zip else draw(mutated_bytes([file.getvalue()]))
