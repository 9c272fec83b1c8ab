"""Graphs of exported networks compute the outputs of the model."""

import random

import pytest
import torch

from dl_lib.inference.exporting.network import ExportedDynamicNetwork, ExportedNetwork
from dl_lib.inference.exporting.tracing import trace
from tests.helpers.routes import force, random_route, randomize_norms
from tests.helpers.tiny_model import model_of, random_image


@pytest.fixture(scope="module")
def model():
    """Model whose gates are open for some of the edges."""
    model = model_of("MODEL.GATE.KIND", "soft").eval()
    randomize_norms(model)
    lattice = model.backbone.lattice
    force(model, random_route(lattice, random.Random(0), values=(0.25, 1.0)))
    return model


@pytest.mark.parametrize("dynamic", [False, True])
def test_outputs_equal_those_of_the_model(model, dynamic):
    size = (101, 128)
    network = ExportedDynamicNetwork(model, size=None) if dynamic else ExportedNetwork(model)
    graph = trace(network, size).module()
    inputs = random_image(*size)
    image = (inputs["image"] - model.pixel_mean) / model.pixel_std
    with torch.no_grad():
        (expected,) = model([inputs])
        logits, *others = graph(image[None])
    scale = expected["sem_seg"].abs().max().item()
    torch.testing.assert_close(logits[0], expected["sem_seg"], rtol=0, atol=1e-5 * scale)
    if dynamic:
        gates, gflops = others
        torch.testing.assert_close(gates, expected["gates"])
        assert gflops.item() == pytest.approx(expected["flops"]["real_flops"] / 1e3)
