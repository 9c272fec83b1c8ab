"""Exports on a full disk end with an error that names the file, whatever library writes it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from dl_lib.inference.exporting.formats import FILE_FORMATS
from dl_lib.utils.files import WriteError
from tests.helpers.full_disk import limited_file_size
from tests.inference.exporting.test_metadata import METADATA

STATIC = replace(METADATA, dynamic=False, cells_per_layer=())


class Network(nn.Module):
    """Network with more weights than the limit of the file size."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 2**13, 1), nn.Conv2d(2**13, 2, 1))

    def forward(self, image):
        return (self.layers(image),)


@pytest.mark.parametrize("name", FILE_FORMATS)
def test_a_full_disk_is_named(name, tmp_path):
    program = torch.export.export(Network().eval(), (torch.zeros(1, 3, *STATIC.size),))
    file_format = FILE_FORMATS[name]
    path = tmp_path / f"a{file_format.suffixes[0]}"
    with limited_file_size(2**16), pytest.raises(WriteError, match=rf"^cannot write {path.name}: .*Received: path="):
        file_format.write(program, STATIC, 1, path)
    file_format.remove(path)
    assert list(tmp_path.iterdir()) == []
