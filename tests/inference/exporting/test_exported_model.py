"""Exported files as models: sizes that they refuse."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dl_lib.checkpoint import CheckpointError
from dl_lib.data.errors import InvalidSampleError
from dl_lib.inference.exporting.exported_model import ExportedModel
from tests.inference.exporting.test_metadata import METADATA

ANY_SIZE = replace(METADATA, size=None, size_divisor=16, dynamic=False, cells_per_layer=())


class Zeros(ExportedModel):
    """File with the same logits for every pixel."""

    def run(self, image):
        return {"logits": np.zeros((1, 2, *image.shape[2:]), np.float32)}


@pytest.mark.parametrize("size", [(17, 17), (17, 40)])
def test_programs_of_any_size_accept_images_of_two_blocks(size):
    (output,) = Zeros(ANY_SIZE, path="a.pt2")([{"image": torch.zeros(3, *size, dtype=torch.uint8)}])
    assert output["sem_seg"].shape == (2, *size)


@pytest.mark.parametrize("size", [(16, 40), (40, 1)])
def test_programs_of_any_size_refuse_images_of_one_block(size):
    message = r"takes images of at least 17x17 pixels; .*--size {}x{}.*Received: image of {}x{}".format(*size, *size)
    with pytest.raises(InvalidSampleError, match=message):
        Zeros(ANY_SIZE, path="a.pt2")([{"image": torch.zeros(3, *size, dtype=torch.uint8)}])


def test_a_shortage_of_memory_is_no_error_of_the_file(monkeypatch):
    def fail(*_):
        raise RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 9")

    monkeypatch.setattr(Zeros, "run", fail)
    with pytest.raises(RuntimeError, match=r"^BFCArena"):
        Zeros(ANY_SIZE, path="a.pt2")([{"image": torch.zeros(3, 32, 32, dtype=torch.uint8)}])


@pytest.mark.parametrize("outputs", [AttributeError("'int' object has no attribute 'numpy'"), AssertionError("Guard")])
def test_errors_of_the_runtime_name_the_file(outputs, monkeypatch):
    def fail(*_):
        raise outputs

    monkeypatch.setattr(Zeros, "run", fail)
    message = f"must be able to run .*path='a.pt2', input of shape \\(1, 3, 32, 32\\), {type(outputs).__name__}: "
    with pytest.raises(CheckpointError, match=message):
        Zeros(ANY_SIZE, path="a.pt2")([{"image": torch.zeros(3, 32, 32, dtype=torch.uint8)}])
