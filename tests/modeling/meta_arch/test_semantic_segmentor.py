"""Static networks train, predict and report costs through the interface of routed networks."""

import pytest
import torch
from torch import nn

from dl_lib.checkpoint.weights import load_weights
from dl_lib.config import ConfigError, get_cfg
from dl_lib.evaluation.runner.passes import MultiPassModel
from dl_lib.evaluation.runner.windows import window_starts
from dl_lib.layers import KernelAttention
from dl_lib.modeling import build_model
from dl_lib.modeling.backbones.base import FEATURES
from dl_lib.modeling.backbones.rexnet_classifier import ReXNetClassifier
from dl_lib.modeling.costs.counters import MaddsObserver
from dl_lib.validation import validate_config

STATIC = [
    *("MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.BACKBONE.NAME", "rexnet"),
    *("MODEL.BACKBONE.WIDTH_FACTOR", 0.25, "MODEL.BACKBONE.NORM", "BN", "MODEL.SEM_SEG_HEAD.NORM", "BN"),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c2", "c3", "c4", "c5"], "MODEL.SEM_SEG_HEAD.CHANNELS", 8),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 11, "MODEL.DEVICE", "cpu"),
]
ASPP = ["MODEL.SEM_SEG_HEAD.NAME", "ASPPHead", "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c5"]]
FINE = ["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c3", "c4"]]
SPCONV = ["MODEL.CONV.STAGES", ["c5"], "MODEL.CONV.TYPE", "SPConv"]
HEADS = {
    "decoder": [],
    "fpn": ["MODEL.SEM_SEG_HEAD.NAME", "SemanticFPNHead"],
    "aspp": [*ASPP, "MODEL.BACKBONE.OUTPUT_STRIDE", 16],
}
FLOPS = {"expt_flops", "real_flops", "real_flops_complete", "executed_flops"}


def config_of(*overrides):
    cfg = get_cfg()
    cfg.merge_from_list(
        [*STATIC, "DATASETS.TRAIN", ["digit_scenes_train"], "DATASETS.TEST", ["digit_scenes_val"], *overrides]
    )
    return cfg


def model_of(*overrides):
    torch.manual_seed(0)
    return build_model(config_of(*overrides))


def random_image(rows, columns, **more):
    return {"image": torch.randint(0, 256, (3, rows, columns), dtype=torch.uint8), **more}


@pytest.mark.parametrize("head", HEADS)
def test_training_and_prediction_with_every_head(head):
    validate_config(config_of(*HEADS[head]))
    model = model_of(*HEADS[head], "MODEL.AUXILIARY_HEADS.IN_FEATURES", ["c4"])
    labels = torch.randint(0, 11, (64, 64), dtype=torch.uint8)
    losses, flops = model.train()([random_image(64, 64, sem_seg=labels) for _ in range(2)])
    sum(losses.values()).backward()
    assert set(losses) == {"loss_sem_seg", "loss_auxiliary_c4"} and set(flops) == FLOPS
    assert all(p.grad is not None for p in model.parameters())
    with torch.no_grad():
        first, second = model.eval()([random_image(60, 90, height=30, width=40), random_image(64, 64)])
    assert first["sem_seg"].shape == (11, 30, 40) and second["sem_seg"].shape == (11, 64, 64)
    assert "gates" not in first and len({*first["flops"].values()}) == len({*second["flops"].values()}) == 1
    model.eval().load_state_dict(model_of(*HEADS[head], "MODEL.AUXILIARY_HEADS.IN_FEATURES", ["c4"]).state_dict())


@pytest.mark.parametrize("features", [["c2", "c3", "c4", "c5"], ["c1", "c3"], ["c4"]], ids="-".join)
@pytest.mark.parametrize("head", ["SemSegDecoderHead", "SemanticFPNHead", "ASPPHead"])
@pytest.mark.parametrize("backbone", ["rexnet", "resnet18", "mobilenet_v3_small"])
def test_all_parameters_receive_gradients_for_any_input_features(backbone, head, features):
    """DistributedDataParallel waits for all gradients, so unused stages must not be built."""
    used = features[-1:] if head == "ASPPHead" else features
    keys = {"BACKBONE.NAME": backbone, "SEM_SEG_HEAD.NAME": head, "SEM_SEG_HEAD.IN_FEATURES": used}
    keys |= {} if backbone == "rexnet" else {"BACKBONE.WIDTH_FACTOR": 1.0}
    overrides = [word for key, value in keys.items() for word in (f"MODEL.{key}", value)]
    validate_config(config_of(*overrides))
    model = model_of(*overrides, "MODEL.AUXILIARY_HEADS.IN_FEATURES", used[:1]).train()
    output = model.run(torch.randn(2, 3, 64, 64), step_rate=0.0)
    auxiliary = model.auxiliary_heads[used[0]](output.features[used[0]])
    (output.logits.sum() + auxiliary.sum()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert list(output.features) == list(FEATURES[: 1 + FEATURES.index(used[-1])])
    assert model.size_divisor == 2 ** len(output.features)
    assert output.logits.shape[-1] == 64 // 2 ** (1 + FEATURES.index(used[0]))


def test_unused_stages_cost_nothing():
    """A truncated network costs as much as the same stages of the full network, at the padded image size."""
    image = random_image(64, 72)
    (short,) = model_of("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c2"]).eval()([image])
    model = model_of("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c2"], "MODEL.AUXILIARY_HEADS.IN_FEATURES", ["c3"]).eval()
    assert model.size_divisor == 8
    parts = [model.backbone.stem, *model.backbone.blocks[:3]]
    with MaddsObserver(1) as observer:
        model.sem_seg_head({"c2": nn.Sequential(*parts)(model.preprocess_images([image]))})
    assert short["flops"]["executed_flops"] == observer.madds[0] / 1e6
    (longer,) = model([image])
    torch.testing.assert_close(longer["sem_seg"], short["sem_seg"])
    assert longer["flops"]["executed_flops"] > short["flops"]["executed_flops"]


@pytest.mark.parametrize(("overrides", "stride"), [([], 4), (FINE, 8), (ASPP, 32)])
def test_invalid_window_overlaps_fail_validation(overrides, stride):
    for overlap in (0.5, 0.66, 0.67, 0.75, 0.91, 0.92, 0.95, 0.96):
        cfg = config_of(*overrides, "TEST.SLIDING.WINDOW", [128, 96], "TEST.SLIDING.OVERLAP", overlap)
        try:
            window_starts(500, window=96, overlap=overlap, stride=stride)
        except ValueError:
            with pytest.raises(ConfigError, match=f"OVERLAP must be at most 0.*at least {stride} pixels apart"):
                validate_config(cfg)
        else:
            validate_config(cfg)


@pytest.mark.parametrize("head", HEADS)
def test_windows_are_aligned_with_the_head_stride(head):
    """A window of the image size changes nothing; smaller windows start at multiples of the stride."""
    model = model_of(*HEADS[head]).eval()
    image = random_image(64, 96)
    stride = model.sem_seg_head.stride
    with torch.no_grad():
        (whole,) = model([image])
        (same,) = MultiPassModel(model, window=(64, 96))([image])
        (halves,) = MultiPassModel(model, window=(64, 64), overlap=0.5)([image])
        left = model.predict_coarse([{"image": image["image"][..., :64]}])[0].logits
    torch.testing.assert_close(same["sem_seg"], whole["sem_seg"])
    assert left.stride == stride and left.values.shape[1:] == (64 // stride, 64 // stride)
    assert halves["flops"]["executed_flops"] == pytest.approx(whole["flops"]["executed_flops"] * 4 / 3, rel=0.05)


def test_classifier_weights_load_into_the_backbone(caplog):
    classifier = ReXNetClassifier(num_classes=7, width=0.25)
    published = {}
    for key, value in classifier.state_dict().items():  # renamed as in timm
        name = key.replace("backbone.", "").replace("blocks.", "features.").replace("head.classifier", "head.fc")
        name = name.replace("head.expand.conv", "features.16.conv").replace("head.expand.norm", "features.16.bn")
        for own, timm_name in (("expand", "conv_exp"), ("depthwise", "conv_dw"), ("project", "conv_pwl")):
            name = name.replace(f".{own}.conv", f".{timm_name}.conv").replace(f".{own}.norm", f".{timm_name}.bn")
        for own, timm_name in (("reduce", "fc1"), ("norm", "bn"), ("expand", "fc2")):
            name = name.replace(f".squeeze.{own}", f".se.{timm_name}")
        published[name.replace("stem.norm", "stem.bn")] = value
    model = model_of()
    head = {key: value.clone() for key, value in model.sem_seg_head.state_dict().items()}
    with caplog.at_level("INFO"):
        load_weights(
            model,
            published,
            path="timm.pth",
            allow_missing_keys=["sem_seg_head"],
            allow_unexpected_keys=["features.16", "head"],
        )
    torch.testing.assert_close(model.backbone.state_dict(), classifier.backbone.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(model.sem_seg_head.state_dict(), head, rtol=0, atol=0)
    assert "features.16" in caplog.text and "head" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (
            ["MODEL.META_ARCHITECTURE", "DynamicNet4Seg"],
            ["META_ARCHITECTURE must be SemanticSegmentor with the static backbone rexnet"],
        ),
        (
            ["MODEL.META_ARCHITECTURE", "DynamicNet4Seg", "MODEL.CONV.KERNELS", ["1x1"]],
            [
                "META_ARCHITECTURE must be SemanticSegmentor",
                "CONV.KERNELS must be ['larger'] without a static backbone",
            ],
        ),
        (
            ["MODEL.BACKBONE.NAME", "DynamicNetwork"],
            ["META_ARCHITECTURE must be DynamicNet4Seg with the routed backbone DynamicNetwork"],
        ),
        (["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0"]], ["IN_FEATURES must contain some of ['c1', 'c2'"]),
        (["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c5", "c2"]], ["'c2', 'c3', 'c4', 'c5'], in this order"]),
        (["MODEL.SEM_SEG_HEAD.IN_FEATURES", []], ["IN_FEATURES must contain at least one of"]),
        (["MODEL.SEM_SEG_HEAD.NAME", "ASPPHead"], ["IN_FEATURES must contain one feature with ASPPHead, such as [c5]"]),
        (
            ["MODEL.BACKBONE.FROZEN_STAGES", ["stem"]],
            ["FROZEN_STAGES must contain only values from c1, c2, c3, c4, c5"],
        ),
        (["MODEL.BACKBONE.OUTPUT_STRIDE", 4], ["OUTPUT_STRIDE must be one of 8, 16, 32"]),
        (["MODEL.CONV.STAGES", ["c5"], "MODEL.CONV.TYPE", "CondConf"], ["CONV.TYPE must be one of CondConv"]),
        (
            ["MODEL.CONV.KERNELS", ["3x3"]],
            ["CONV.KERNELS must contain only values from larger, 1x1, squeeze"],
        ),
        (["MODEL.CONV.KERNELS", []], ["CONV.KERNELS must have at least 1 element"]),
        (["MODEL.CONV.KERNELS", ["1x1", "1x1"]], ["CONV.KERNELS must not contain a value twice"]),
        (
            ["MODEL.CONV.KERNELS", ["1x1"]],
            ["CONV.KERNELS must be ['larger'] with MODEL.CONV.STAGES=[]; name stages, such"],
        ),
        (
            ["MODEL.BACKBONE.FROZEN_STAGES", ["c2", "c1"]],
            ["STAGES must be in strictly ascending order"],
        ),
        (
            [*SPCONV, "MODEL.CONV.KERNELS", ["squeeze"], "MODEL.BACKBONE.NORM", "BN", "SOLVER.IMS_PER_BATCH", 1],
            ["NORM must be FrozenBN, GN or", "SPConv in squeeze-and-excitation normalizes 1x1 feature maps"],
        ),
        (["MODEL.CONV.TYPE", "SAC"], ["CONV.TYPE must be '' with MODEL.CONV.STAGES=[]; name stages, such as [c4, c5]"]),
        (
            ["INPUT.CROP_SIZE", [96, 100]],
            ["CROP_SIZE must be multiples of 32, the coarsest stride of the network"],
        ),
        (
            [*FINE, "MODEL.CONV.STAGES", ["c4", "c5"], "MODEL.CONV.TYPE", "SAC"],
            ["CONV.STAGES must contain only stages from ['c1', 'c2', 'c3', 'c4']: no head uses c5"],
        ),
        (
            [*FINE, "INPUT.CROP_SIZE", [24, 48]],
            ["CROP_SIZE must be multiples of 16, the coarsest stride of the network"],
        ),
        (["TEST.SLIDING.WINDOW", [96, 100]], ["WINDOW must be multiples of 32, the coarsest stride of the network"]),
        (
            ["MODEL.COMPILE", True, "MODEL.ACTIVATION_CHECKPOINTING", True],
            ["CHECKPOINTING must be False with MODEL.COMPILE=True"],
        ),
        (
            ["MODEL.BUDGET.CONSTRAIN", True],
            ["CONSTRAIN must be False with SemanticSegmentor, which has a constant cost"],
        ),
        (["MODEL.BACKBONE.SQUEEZE_NORM", "LN"], ["SQUEEZE_NORM must be one of BN"]),
        (
            ["SOLVER.IMS_PER_BATCH", 1, *ASPP],
            [
                "BACKBONE.NORM must be FrozenBN",
                "rexnet normalizes 1x1",
                "HEAD.NORM must be FrozenBN",
                "ASPPHead normalizes",
            ],
        ),
        (
            ["MODEL.BACKBONE.NAME", "resnet18", "MODEL.BACKBONE.OUTPUT_STRIDE", 8],
            ["OUTPUT_STRIDE must be one of [32] with resnet18", "WIDTH_FACTOR must be 1.0 with resnet18"],
        ),
    ],
)
def test_invalid_configs_of_static_networks(overrides, messages):
    with pytest.raises(ConfigError) as caught:
        validate_config(config_of(*overrides))
    for message in messages:
        assert message in str(caught.value)


def test_small_gate_limits_do_not_apply_to_static_networks():
    small = ["MODEL.GATE.SMALL_GATE", True, "TEST.SLIDING.WINDOW", [64, 64], "INPUT.CROP_SIZE", [64, 64]]
    validate_config(config_of(*small))
    routed = ["MODEL.META_ARCHITECTURE", "DynamicNet4Seg", "MODEL.BACKBONE.NAME", "DynamicNetwork"]
    with pytest.raises(ConfigError, match=r"(?s)CROP_SIZE must be at least 128 .*WINDOW must be .*SMALL_GATE=True"):
        validate_config(config_of(*small, *routed))


def test_frozen_squeeze_norms_train_with_one_image():
    single = ["MODEL.BACKBONE.SQUEEZE_NORM", "FrozenBN", "SOLVER.IMS_PER_BATCH", 1]
    validate_config(config_of(*single))
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    losses, _ = model_of(*single).train()([random_image(64, 64, sem_seg=labels)])
    losses["loss_sem_seg"].backward()


def test_a_frozen_stage_keeps_its_temperature():
    dynamic = ["MODEL.CONV.TYPE", "DynamicConv", "MODEL.CONV.STAGES", ["c2", "c3"], "MODEL.TEMP_ANNEAL_RATE", 0.5]
    model = model_of(*dynamic, "MODEL.BACKBONE.FROZEN_STAGES", ["c2"]).train()
    attentions = {
        stage: [module for _, module in model.backbone.stage(stage) if isinstance(module, KernelAttention)]
        for stage in ("c2", "c3")
    }
    for attention in attentions["c2"]:
        attention.temperature.fill_(1)  # as after training
    model([random_image(64, 64, sem_seg=torch.zeros(64, 64, dtype=torch.uint8)) for _ in range(2)], step_rate=0.25)
    assert {stage: {a.temperature.item() for a in found} for stage, found in attentions.items()} == {
        "c2": {1.0},
        "c3": {15.5},
    }
