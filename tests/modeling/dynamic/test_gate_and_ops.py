import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, interpolate

from dl_lib.modeling.dynamic import gate as gate_module
from dl_lib.modeling.dynamic.gate import GATE_KINDS, SoftGate
from dl_lib.modeling.dynamic.ops import CELL_OPERATIONS, CellOperation

OPERATIONS = sorted(dict(CELL_OPERATIONS))


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 12), (5, 6), (7, 11), (16, 9)])
def test_small_gate_resizes_bilinearly(height, width):
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    expected = interpolate(x, scale_factor=0.25, mode="bilinear", align_corners=False)
    torch.testing.assert_close(gate_module._shrink(x), expected, rtol=1e-12, atol=1e-12)


def test_gate_values():
    gate = SoftGate(4, 3, norm="BN", init_bias=1.5).double().eval()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    weight = gate.reduce.conv.weight[:, :, 0, 0]
    hidden = torch.relu(torch.einsum("oc,bchw->bohw", weight, x) / (1 + 1e-5) ** 0.5).mean(dim=(2, 3))
    logits = hidden @ gate.predict.weight[:, :, 0, 0].T + 1.5
    torch.testing.assert_close(gate(x), logits.tanh().clamp(min=0))


THRESHOLD_CASES = {
    # Kind: logits, and gate values by threshold; None is the default.
    "soft": ([-2, 0, 0.3, 1, 2], {None: [0, 0, 0.29131, 0.76159, 0.96403], 0.3: [0, 0, 0, 0.76159, 0.96403]}),
    "hard": ([-2, -0.8, 0, 1e-30, 2], {None: [0, 0, 0, 1, 1], 0.0: [1] * 5, 0.3: [0, 1, 1, 1, 1], 0.9: [0] * 5}),
    "sigmoid": ([-2, 0, 1], {None: [0.11920, 0.5, 0.73106], 0.5: [0, 0, 0.73106]}),
    "softmax": ([-2.0, 0, 1], {None: [0.03512, 0.25950, 0.70538], 0.3: [0, 0, 0.70538]}),
}


@pytest.mark.parametrize("kind", sorted(GATE_KINDS))
def test_gates_at_or_below_the_threshold_are_closed(kind):
    logits, expected = THRESHOLD_CASES[kind]
    gate = GATE_KINDS[kind](4, len(logits), norm="BN", init_bias=0.0)
    names = set(gate.state_dict())
    for threshold, values in expected.items():
        if threshold is not None:
            gate.threshold = threshold
        torch.testing.assert_close(
            gate.values(torch.tensor([logits])), torch.tensor([values], dtype=torch.float32), rtol=0, atol=1e-5
        )
    assert set(gate.state_dict()) == names, "the threshold is not part of the state"


def test_soft_gates_keep_value_and_gradient_above_the_threshold():
    gate = SoftGate(4, 3, norm="BN", init_bias=0.0)
    logits = torch.tensor([[-1.0, 0.0, 0.2, 0.5, 1.0]], requires_grad=True)
    for threshold, closed in ((0.0, 2), (0.47, 4)):
        gate.threshold = threshold
        (grad,) = torch.autograd.grad(gate.values(logits).sum(), logits)
        expected = 1 - logits.detach().tanh() ** 2
        expected[:, :closed] = 0
        torch.testing.assert_close(grad, expected)


def test_gate_initialization():
    gate = SoftGate(512, 2, norm="BN", init_bias=1.5)
    assert gate.predict.bias.tolist() == [1.5, 1.5]
    assert gate.reduce.conv.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_preserve_the_shape_and_receive_gradients(name):
    operation = CELL_OPERATIONS.get(name)(8, norm="BN")
    x = torch.randn(2, 8, 9, 7, requires_grad=True)
    y = operation(x)
    assert y.shape == x.shape
    assert not isinstance(list(operation.modules())[-1], nn.ReLU), "the transitions start with a ReLU"
    if name != "none":
        y.square().sum().backward()
        assert x.grad.any()
        assert all(p.grad is not None for p in operation.parameters())


@pytest.mark.parametrize(("name", "depth"), [("sep_conv_light_3x3", 1), ("sep_conv_3x3", 2), ("sep_conv_heavy_3x3", 3)])
def test_separable_operations_stack_one_to_three_convolutions(name, depth):
    """9 C + C² weights and 2 C norm parameters per separable convolution."""
    operation = CELL_OPERATIONS.get(name)(8, norm="BN")
    assert sum(p.numel() for p in operation.parameters()) == depth * (9 * 8 + 8 * 8 + 2 * 8)
    assert sum(isinstance(module, nn.ReLU) for module in operation.modules()) == depth - 1


@pytest.mark.parametrize("name", ["cond_sep_conv_3x3", "dyn_sep_conv_3x3"])
def test_both_blocks_share_the_mixing_weights(name):
    """One-hot mixing weights give the plain operation with the selected kernels."""
    operation = CELL_OPERATIONS.get(name)(8, norm="BN").double().eval()
    x = torch.randn(2, 8, 6, 5, dtype=torch.float64)
    operation.weigh.register_forward_hook(lambda module, x, y: torch.eye(4, dtype=y.dtype)[[0, 0]])
    expected = x
    for block, act in zip(operation.blocks, (torch.relu, lambda y: y), strict=True):
        depthwise, pointwise = block["depthwise"].weight[0], block["pointwise"].weight[0]
        expected = act(conv2d(conv2d(expected, depthwise, padding=1, groups=8), pointwise) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(operation(x), expected)


def test_operations_are_summed():
    operation = CellOperation(8, cell_types=OPERATIONS, norm="BN").double().eval()
    x = torch.randn(1, 8, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(operation(x), sum(part(x) for part in operation.values()))


def test_output_never_aliases_the_input():
    x = torch.randn(1, 8, 4, 4)
    y = CellOperation(8, cell_types=["skip_connect"], norm="BN")(x)
    assert torch.equal(x, y)
    assert x.data_ptr() != y.data_ptr()


def test_drop_path_drops_operations_per_image_and_preserves_the_mean():
    operation = CellOperation(8, cell_types=["avg_pool_3x3", "skip_connect"], norm="BN")
    x = torch.ones(4000, 8, 1, 1)
    torch.manual_seed(0)
    y = operation(x, drop_prob=torch.tensor(0.25))[:, 0, 0, 0] - 1  # without the identity, which is never dropped
    torch.testing.assert_close(y.unique(), torch.tensor([0, 1 / 0.75]))
    assert y.mean().item() == pytest.approx(1, abs=0.05)
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
