"""Refusals of exports, before anything is traced."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dl_lib.config import ConfigError
from dl_lib.data.catalog import DatasetMeta
from dl_lib.inference.exporting.api import export
from dl_lib.inference.exporting.checks import check_call, check_images, check_model
from dl_lib.inference.exporting.description import ModelDescription
from tests.helpers.tiny_model import model_of

ALLOWED = {"format": "onnx", "dynamic": False, "precision": "float32", "calibrated": False}
WITHOUT_GATES = ["MODEL.GATE.GATE_ON", False]


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dynamic": True, "precision": "fp16"}, r"--dynamic: .*float32.*Received: --precision=fp16"),
        ({"dynamic": True, "precision": "int8", "calibrated": True}, r"--dynamic: .*Received: --precision=int8"),
        ({"precision": "int8", "format": "openvino", "calibrated": True}, r"only ONNX.*Received: --format=openvino"),
        ({"precision": "int8", "format": "torch-export", "calibrated": True}, r"Received: --format=torch-export"),
        ({"precision": "int8"}, r"needs images of the dataset.*Received: calibration_images=\(\)"),
    ],
)
def test_options_without_a_correct_file_are_refused(model, options, message):
    check_model(model, **ALLOWED)
    with pytest.raises(ConfigError, match=message):
        check_model(model, **ALLOWED | options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"format": "onxx"},
            ConfigError,
            "format must be one of onnx, torch-export, openvino.*Received: format='onxx'",
        ),
        ({"format": "openvino"}, ConfigError, r"must end in \.xml. Received: path=.*a\.onnx"),
        ({"path": Path("absent/a.onnx")}, ConfigError, "the folder must exist; create absent first"),
        ({"size": (64, 99999)}, ConfigError, r"integers from 1 to 16384.*Received: size=\(64, 99999\)"),
        ({"size": (64.0, 64.0)}, ConfigError, r"Received: size=\(64\.0, 64\.0\)"),
        ({"size": "64x64"}, ConfigError, "Received: size='64x64'"),
        ({"size": 64}, ConfigError, "Received: size=64"),
        ({"precision": "bf16"}, ConfigError, "must be one of float32, fp16, int8. Received: precision='bf16'"),
        ({"training": True}, ValueError, r"call model\.eval\(\) first. Received: model.training=True"),
    ],
)
def test_calls_are_checked_first(model, options, error, message, tmp_path):
    allowed = {
        "path": tmp_path / "a.onnx",
        "format": "onnx",
        "size": (64, 64),
        "precision": "float32",
        "training": False,
    }
    values = allowed | options
    model.train(values.pop("training"))
    with pytest.raises(error, match=message):
        check_call(model, values.pop("path"), **values)


@pytest.mark.parametrize("taken", ["a.xml", "a.bin"])
def test_folders_are_not_replaced(model, taken, tmp_path):
    (tmp_path / taken).mkdir()
    with pytest.raises(ConfigError, match=f"a folder has this name.*Received: path=.*{taken}"):
        check_call(model.eval(), tmp_path / "a.xml", format="openvino", precision="float32", size=(64, 64))


def test_samples_for_any_size_have_two_blocks(model, tmp_path):
    meta = DatasetMeta(("road",), ((0, 0, 0),))
    options = {"format": "torch-export", "dynamic_size": True, "description": ModelDescription(meta, "BGR")}
    smallest = model.size_divisor + 1
    message = f"at least {smallest}x{smallest} pixels.*Received: size={smallest - 1}x99"
    with pytest.raises(ConfigError, match=message):
        export(model.eval(), tmp_path / "a.pt2", size=(smallest - 1, 99), **options)


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"Tensor, shape=torch.Size\(\[2, 3, 8, 8\]\), dtype=torch.uint8"),
        ([torch.zeros(8, 8, 3, dtype=torch.uint8)], r"Tensor, shape=torch.Size\(\[8, 8, 3\]\)"),
        ([torch.zeros(3, 8, 8)], "dtype=torch.float32"),
        ([np.zeros((3, 8, 8), np.uint8)], "ndarray, shape="),
        (["a.png"], "str, shape=None"),
    ],
)
def test_images_are_checked(images, received):
    check_images(images=(), calibration_images=[torch.zeros(3, 8, 8, dtype=torch.uint8)])
    with pytest.raises(ValueError, match=f"^calibration_images must be a list of .*Received: .*{received}"):
        check_images(images=(), calibration_images=images)


def test_networks_without_gates_are_not_dynamic():
    with pytest.raises(ConfigError, match="needs a network with learned gates"):
        check_model(model_of(*WITHOUT_GATES), **ALLOWED | {"dynamic": True})


def test_models_beyond_the_limit_of_onnx_files_are_refused():
    model = model_of(*WITHOUT_GATES)
    model.backbone.large = nn.Parameter(torch.empty(2**29, device="meta"))
    for options in ({"format": "torch-export"}, {"precision": "fp16"}):
        check_model(model, **ALLOWED | options)
    with pytest.raises(ConfigError, match=r"at most 2 GiB.*Received: 2.0 GiB"):
        check_model(model, **ALLOWED)
