"""Multi-pass inference, compared with the published code, identities and costs."""

import json

import pytest
import torch
from torch import nn

from dl_lib.config import ConfigError, get_cfg
from dl_lib.evaluation.runner.passes import MultiPassModel, build_inference_model
from dl_lib.modeling.costs.live_memory import LiveMemory
from tests.helpers.published import REFERENCE, batch_of, build_case

PUBLISHED = json.loads((REFERENCE / "evaluation/tta_tiny__mix3.json").read_text())
SCALES = (0.75, 1.0, 150 / 128)


@pytest.fixture(scope="module")
def model():
    return build_case("tiny__mix3").eval()


@pytest.fixture(scope="module")
def sample():
    (sample,) = batch_of(0)
    return {"image": sample["image"].to(torch.uint8)}  # its values are integers


def run(model, sample, **settings):
    with torch.inference_mode():
        (output,) = MultiPassModel(model, **settings)([sample])
    return output


def assert_same(output, other):
    torch.testing.assert_close(output, other, rtol=1e-10, atol=1e-10)


def test_multi_scale_with_flip_equals_the_published_code(model, sample):
    """The reference values are in float32."""
    output = run(model, sample, scales=SCALES, flip=True, backend="pil")
    shapes = [(3, *size) for size in output["input_sizes"]]
    assert shapes == [tuple(shape) for shape in PUBLISHED["augmented_shapes_in_order"]]
    logits = output["sem_seg"]
    samples = [logits[7 * j % 19, (13 * j + 5) % 128, (29 * j + 11) % 256] for j in range(64)]
    expected = torch.tensor(PUBLISHED["samples"], dtype=torch.float64)
    torch.testing.assert_close(torch.stack(samples), expected, rtol=1e-4, atol=2e-5)
    assert logits.mean().item() == pytest.approx(PUBLISHED["mean"], rel=1e-4)
    assert logits.std().item() == pytest.approx(PUBLISHED["std"], rel=1e-4)
    counts = torch.bincount(logits.argmax(0).flatten(), minlength=19)
    assert counts.tolist() == PUBLISHED["argmax_counts"]


def test_published_costs_are_those_of_the_first_pass(model, sample):
    """The published code reports a fixed input size; this library sums over all six passes."""
    output = run(model, sample, scales=SCALES, flip=True, backend="pil")
    first = run(model, sample, scales=SCALES[:1], backend="pil")
    assert output["flops"]["expt_flops"] > 6 * first["flops"]["expt_flops"]
    ratio = 96 * 192 / (1024 * 2048)
    assert first["flops"]["expt_flops"] == pytest.approx(ratio * PUBLISHED["expt_flops"], rel=1e-6)


def test_single_pass_equals_the_model(model, sample):
    request = sample | {"height": 77, "width": 140}
    with torch.inference_mode():
        (plain,) = model([request])
    output = run(model, request)
    assert torch.equal(output["sem_seg"], plain["sem_seg"]) and output["sem_seg"].shape == (19, 77, 140)
    assert output["flops"] == plain["flops"] and torch.equal(output["gates"], plain["gates"])
    assert output["input_sizes"] == ((128, 256),)


def test_logits_and_gates_are_means_and_costs_are_sums_over_passes(model, sample):
    parts = [run(model, sample, scales=[scale]) for scale in (0.5, 1.0)]
    output = run(model, sample, scales=[0.5, 1.0])
    assert_same(output["sem_seg"], sum(part["sem_seg"] for part in parts) / 2)
    assert_same(output["gates"], sum(part["gates"] for part in parts) / 2)
    assert torch.equal(output["gates"] > 0, (parts[0]["gates"] > 0) | (parts[1]["gates"] > 0)), "open in any pass"
    for name, mflops in output["flops"].items():
        assert mflops == pytest.approx(sum(part["flops"][name] for part in parts), rel=1e-12)
    assert output["flops"]["executed_flops"] == output["flops"]["real_flops_complete"]
    assert output["input_sizes"] == ((64, 128), (128, 256))


def test_with_flip_a_flipped_image_has_flipped_results(model, sample):
    mirrored = {"image": sample["image"].flip(-1)}
    for settings in ({}, {"window": (64, 96), "overlap": 0.5}):
        here, there = (run(model, x, scales=[1.0], flip=True, **settings) for x in (sample, mirrored))
        assert_same(here["sem_seg"], there["sem_seg"].flip(-1))
    assert not torch.allclose(run(model, sample)["sem_seg"], run(model, mirrored)["sem_seg"].flip(-1), atol=1e-3)


def test_window_larger_than_the_image_changes_nothing(model, sample):
    output = run(model, sample, window=(128, 256), overlap=0.5)
    assert torch.equal(output["sem_seg"], run(model, sample)["sem_seg"])
    assert output["input_sizes"] == ((128, 256),)


def test_windows_without_overlap_are_independent(model, sample):
    """Each half equals the model's output for it alone, except at the seam, where upsampling interpolates."""
    output = run(model, sample, window=(128, 128), overlap=0.0)
    halves = [run(model, {"image": sample["image"][..., part]}) for part in (slice(0, 128), slice(128, 256))]
    assert_same(output["sem_seg"][..., :126], halves[0]["sem_seg"][..., :126])
    assert_same(output["sem_seg"][..., 130:], halves[1]["sem_seg"][..., 2:])
    assert output["input_sizes"] == ((128, 128),) * 2
    for name, mflops in output["flops"].items():
        assert mflops == pytest.approx(sum(half["flops"][name] for half in halves), rel=1e-12)


def test_several_images_give_several_results(model, sample):
    other = {"image": sample["image"][:, :96, :160]}
    settings = {"scales": (0.5, 1.0), "window": (64, 64), "overlap": 0.25}
    with torch.inference_mode():
        outputs = MultiPassModel(model, **settings)([sample, other])
    for output, alone in zip(outputs, (sample, other), strict=True):
        assert torch.equal(output["sem_seg"], run(model, alone, **settings)["sem_seg"])


def test_logits_of_all_passes_are_not_stored(sample):
    model = build_case("tiny__mix3", dtype=torch.float32).eval()
    settings = {"scales": (0.5, 1.0, 1.5), "flip": True, "window": (64, 128), "overlap": 0.25}
    request = sample | {"height": 512, "width": 1024}
    run(model, sample, **settings)  # measures the costs once per size
    with LiveMemory() as memory:
        result_bytes = run(model, request, **settings)["sem_seg"].nbytes
    assert result_bytes < memory.peak_bytes < 1.5 * result_bytes


def test_resizing_requires_uint8(model, sample):
    with pytest.raises(ValueError, match=r"uint8.*Received: image.dtype=torch.float64$"):
        run(model, {"image": sample["image"].double()}, scales=[0.5])


def config(*overrides):
    cfg = get_cfg()
    cfg.merge_from_list(list(overrides))
    return cfg


def test_model_is_wrapped_only_if_configured(model):
    assert build_inference_model(config(), model) is model
    wrapped = build_inference_model(
        config(
            *("TEST.SLIDING.WINDOW", [512, 1024], "TEST.SLIDING.OVERLAP", 0.25, "INPUT.BACKEND", "pil"),
            *("TEST.MULTI_SCALE.SCALES", [0.5, 1.0], "TEST.MULTI_SCALE.FLIP", True),
        ),
        model,
    )
    assert wrapped.model is model
    assert (wrapped.window, wrapped.overlap, wrapped.scales) == ((512, 1024), 0.25, (0.5, 1.0))
    assert (wrapped.flip, wrapped.backend) == (True, "pil")
    assert build_inference_model(config("TEST.MULTI_SCALE.FLIP", True), model).window is None


def test_model_without_predict_coarse_is_rejected():
    other = nn.Identity()
    assert build_inference_model(config(), other) is other
    with pytest.raises(ConfigError, match=r"predict_coarse.*Received: model=Identity$"):
        build_inference_model(config("TEST.MULTI_SCALE.SCALES", [2.0]), other)
