"""Predictions are those of each image alone, whatever images are in the batch."""

import pytest
import torch

from dl_lib.config import get_cfg
from dl_lib.evaluation import MultiPassModel
from dl_lib.modeling import build_model
from tests.helpers.published import build_case

STATIC = [
    *("MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.BACKBONE.NAME", "rexnet", "MODEL.DEVICE", "cpu"),
    *("MODEL.BACKBONE.WIDTH_FACTOR", 0.25, "MODEL.SEM_SEG_HEAD.NAME", "ASPPHead"),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c5"], "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5),
]


def model_named(name):
    if name == "static":  # squeeze-and-excitation and ASPP pool over the whole image
        torch.manual_seed(0)
        cfg = get_cfg()
        cfg.merge_from_list(STATIC)
        return build_model(cfg).eval()
    model = build_case("tiny__mix3", dtype=torch.float32).eval()
    model.backbone.sparse = name != "dense"
    return model


def random_images(seed, *, count=5):
    """Return images of random sizes, of which at least two are equal when padded and two are not."""
    random = torch.Generator().manual_seed(seed)
    sides = torch.randint(1, 130, (count, 2), generator=random).tolist()
    sides += [[side - side % 32 + 1 for side in sides[0]], [200, 40]]
    images = [torch.randint(256, (3, *size), generator=random, dtype=torch.uint8) for size in sides]
    return [{"image": image} for image in images]


@pytest.mark.parametrize("passes", [{}, {"window": (64, 64)}, {"scales": (0.5, 1.25), "flip": True}], ids=str)
@pytest.mark.parametrize("name", ["sparse", "dense", "static"])
@torch.no_grad()
def test_results_are_those_of_the_image_alone(name, passes):
    model = model_named(name)
    runner = MultiPassModel(model, **passes) if passes else model
    images = random_images(len(passes))
    images[1] |= {"height": 50, "width": 70}
    for image, output in zip(images, runner(images), strict=True):
        (alone,) = runner([image])
        torch.testing.assert_close(output["sem_seg"], alone["sem_seg"], rtol=1e-4, atol=1e-4)
        assert output["flops"] == pytest.approx(alone["flops"], rel=1e-5)
        assert ("gates" in output) == (name != "static")
        torch.testing.assert_close(output.get("gates"), alone.get("gates"), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_images_of_equal_padded_size_share_a_pass(monkeypatch):
    model, batches = model_named("static"), []
    run = model.run
    monkeypatch.setattr(model, "run", lambda batch, **rates: batches.append(tuple(batch.shape)) or run(batch, **rates))
    sizes = [(40, 64), (64, 32), (64, 50), (33, 63)]
    model([{"image": torch.zeros(3, *size, dtype=torch.uint8)} for size in sizes])
    assert batches == [(3, 3, 64, 64), (1, 3, 64, 32)]


def float_image(peak, *, dtype=torch.float32):
    image = torch.linspace(0, 1, 3 * 32 * 32).view(3, 32, 32)
    return {"image": (image * peak).to(dtype), "sem_seg": torch.zeros(32, 32, dtype=torch.uint8)}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("mean", "std", "is_refused"),
    [
        ([103.53, 116.28, 123.675], [1.0, 1.0, 1.0], True),
        ([0.0, 0.0, 0.0], [255.0, 255.0, 255.0], True),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False),
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], False),  # any range
    ],
)
def test_images_in_0_to_1_for_a_model_of_0_to_255(mean, std, is_refused, training):
    cfg = get_cfg()
    cfg.merge_from_list([*STATIC, "MODEL.PIXEL_MEAN", mean, "MODEL.PIXEL_STD", std])
    cfg.merge_from_list(["MODEL.BACKBONE.SQUEEZE_NORM", "FrozenBN", "MODEL.SEM_SEG_HEAD.NORM", "GN"])
    model = build_model(cfg).train(training)
    model([float_image(255.0), float_image(0.0), float_image(1.0, dtype=torch.uint8)])  # black images are valid
    batch = [float_image(0.0), float_image(1.0)]
    if not is_refused:
        model(batch)
        return
    for dtype in (torch.float32, torch.float16, torch.float64):
        with pytest.raises(ValueError, match=r"image must have values in 0\.\.255.*Received: image\.max\(\)=1$"):
            model([float_image(0.0, dtype=dtype), float_image(1.0, dtype=dtype)])
