"""Input sizes of `DynamicNet4Seg`: padding, invalid sizes, costs by size."""

import pytest
import torch

from dl_lib.utils import comm
from tests.helpers.tiny_model import model_of, random_image


def test_costs_depend_on_the_input_size():
    model = model_of("MODEL.GATE.GATE_ON", False).eval()
    with torch.no_grad():
        small, large = (model([random_image(side, side)])[0]["flops"]["expt_flops"] for side in (64, 128))
    assert large == pytest.approx(4 * small, rel=1e-12)


def norms(name):
    return ["MODEL.BACKBONE.NORM", name, "MODEL.SEM_SEG_HEAD.NORM", name]


@pytest.mark.parametrize(
    ("overrides", "training", "size", "message"),
    [
        (["MODEL.GATE.SMALL_GATE", True], False, (96, 160), "smallest valid size is 128x128"),
        ([], True, (32, 32), "32x64, or 32x32 with a batch of two or more"),
        (["MODEL.GATE.SMALL_GATE", True], True, (128, 128), "128x256, or 128x128 with a batch of two or more"),
        ([*norms("GN"), "MODEL.BACKBONE.INIT_CHANNEL", 8], False, (32, 32), r"smallest valid size is 32x64 \("),
    ],
)
def test_invalid_sizes(overrides, training, size, message):
    model = model_of(*overrides).train(training)
    with pytest.raises(ValueError, match=message):
        model([random_image(*size, sem_seg=torch.zeros(size, dtype=torch.long))])


@pytest.mark.parametrize(("norm", "processes"), [("GN", 1), ("FrozenBN", 1), ("SyncBN", 2)])
def test_one_image_with_a_coarsest_feature_map_of_one_pixel(norm, processes, monkeypatch):
    model = model_of(*norms(norm)).train()
    if processes == 1:
        losses, _ = model([random_image(32, 32, sem_seg=torch.zeros(32, 32, dtype=torch.long))])
        assert sum(losses.values()).isfinite()
    else:
        monkeypatch.setattr(comm, "get_world_size", lambda: processes)
        model.backbone.check_size(32, 32)


def test_labels_of_another_size_than_the_image_are_rejected():
    with pytest.raises(ValueError, match=r"sem_seg\.shape=\(64, 48\), image\.shape=\(3, 48, 64\)"):
        model_of().train()([random_image(48, 64, sem_seg=torch.zeros((64, 48), dtype=torch.long))] * 2)


@pytest.mark.parametrize("size", [(1, 1), (20, 50)])
def test_small_images_are_padded(size):
    with torch.no_grad():
        assert model_of().eval()([random_image(*size)])[0]["sem_seg"].shape == (19, *size)


def test_size_error_of_the_backbone():
    with pytest.raises(ValueError, match=r"multiples of 32\b.*at least 32x32"):
        model_of().backbone(torch.zeros(1, 3, 30, 64))
