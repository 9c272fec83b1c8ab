"""The baseline of the speed benchmarks computes what the library computes."""

import pytest
import torch
from baseline_network import BaselineNetwork

from dl_lib.config import get_cfg
from dl_lib.modeling import build_model


@pytest.mark.parametrize(
    ("cell_type", "separable_stem"), [(["sep_conv_3x3", "skip_connect"], True), (["conv_3x3_basic"], False)]
)
def test_outputs_and_gradients_equal_those_of_the_library(cell_type, separable_stem):
    torch.manual_seed(0)
    cfg = get_cfg()
    lattice = {
        "MODEL.BACKBONE.LAYER_NUM": 3,
        "MODEL.BACKBONE.CELL_NUM_LIST": [2, 3, 3],
        "MODEL.BACKBONE.MAX_STRIDE": 16,
    }
    head = {"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["layer_0", "layer_1", "layer_2"], "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 5}
    cells = {"MODEL.BACKBONE.INIT_CHANNEL": 8, "MODEL.BACKBONE.CELL_TYPE": cell_type, "MODEL.BACKBONE.DROP_PROB": 0.0}
    gates = {"MODEL.GATE.GATE_INIT_BIAS": 0.3, "MODEL.GATE.UNREACHED": "run"}
    others = {"MODEL.BACKBONE.SEPT_STEM": separable_stem, "MODEL.BACKBONE.NORM": "BN", "MODEL.SEM_SEG_HEAD.NORM": "BN"}
    for key, value in (lattice | head | cells | gates | others | {"MODEL.DEVICE": "cpu"}).items():
        cfg.merge_from_list([key, value])
    model = build_model(cfg).double()
    baseline = BaselineNetwork(
        cells_per_layer=[2, 3, 3], channels=8, operations=cell_type, classes=5, separable_stem=separable_stem
    ).double()
    baseline.load_state_dict(model.state_dict())
    images = [torch.randint(256, (3, 64, 96)).double() for _ in range(2)]
    normalized = torch.stack([(image - model.pixel_mean) / model.pixel_std for image in images])
    labels = torch.randint(5, (2, 64, 96))
    samples = [{"image": image, "sem_seg": label} for image, label in zip(images, labels, strict=True)]
    losses, _ = model.train()(samples, step_rate=0.5)
    losses["loss_sem_seg"].backward()
    loss = baseline.train().loss(normalized, labels, ignore_value=255)
    loss.backward()
    torch.testing.assert_close(loss, losses["loss_sem_seg"])
    own = dict(baseline.named_parameters())
    torch.testing.assert_close(
        {n: p.grad for n, p in own.items() if p.grad is not None},
        {n: p.grad for n, p in model.named_parameters() if p.grad is not None},
    )
    with torch.inference_mode():
        expected = torch.stack([output["sem_seg"] for output in model.eval()(samples)])
        torch.testing.assert_close(baseline.eval()(normalized), expected)
