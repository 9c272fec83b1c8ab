"""Mean gate values per scale."""

import pytest
import torch

from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.routing import gate_openness


def test_mean_over_images_and_outgoing_edges_of_each_scale():
    lattice = Lattice([2, 3])
    strides = [edge.source.stride for edge in lattice.edges]
    gates_BE = torch.tensor([[1 / stride for stride in strides], [0.0] * len(strides)], requires_grad=True)
    openness = gate_openness(lattice, gates_BE)
    assert list(openness) == ["gate_stride_4", "gate_stride_8", "gate_stride_16"]
    assert [value.item() for value in openness.values()] == pytest.approx([1 / 8, 1 / 16, 1 / 32])
    assert not any(value.requires_grad for value in openness.values())


def test_weighted_scale_means_give_the_mean_of_all_gates():
    lattice = Lattice([2, 3, 4, 4])
    gates_BE = torch.rand(3, len(lattice.edges), dtype=torch.float64)
    numbers = {}
    for edge in lattice.edges:
        name = f"gate_stride_{edge.source.stride}"
        numbers[name] = numbers.get(name, 0) + 1
    openness = gate_openness(lattice, gates_BE)
    total = sum(numbers[name] * value for name, value in openness.items())
    assert total / len(lattice.edges) == pytest.approx(gates_BE.mean().item())
