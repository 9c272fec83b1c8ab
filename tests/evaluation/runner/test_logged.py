"""Names of logged metrics, compared with those that an evaluation returns."""

import pytest
import torch

from dl_lib.config import ConfigError, get_cfg
from dl_lib.evaluation.runner.logged import metric_names
from dl_lib.modeling.build import LOSS_REGISTRY, META_ARCH_REGISTRY
from dl_lib.validation import validate_config
from tests.helpers.small_run import DATASET, SMALL, make_trainer, register
from tests.helpers.training import restore_logging

SHORT = ["SOLVER.BEST_METRIC", "", "TEST.PRECISE_BN.ENABLED", False, "SOLVER.EMA.DECAY", 0.0]
LOSSES = ["TEST.VALIDATION_LOSS", True, "MODEL.LOSS.DICE_WEIGHT", 0.5, "MODEL.LOSS.LOVASZ_WEIGHT", 0.5]
STATIC = [
    *("MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.BACKBONE.NAME", "rexnet_lite"),
    *("MODEL.BUDGET.CONSTRAIN", False, "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c4", "c5"]),
    *("MODEL.AUXILIARY_HEADS.IN_FEATURES", ["c3", "c4"], "MODEL.BACKBONE.DROP_PROB", 0.0),
]


@pytest.fixture
def extra_loss():
    LOSS_REGISTRY._do_register("Squared", lambda cfg: lambda logits, target: logits.square().mean())
    yield ["MODEL.LOSS.EXTRA", ["Squared"]]
    del LOSS_REGISTRY._obj_map["Squared"]


@pytest.mark.parametrize("model", [[], STATIC], ids=["routed", "static"])
def test_names_are_those_of_an_evaluation(tmp_path, extra_loss, model):
    for overrides in ([], [*LOSSES, *extra_loss, "TEST.BOUNDARY_IOU", True]):
        with restore_logging():
            trainer = make_trainer(tmp_path, [*SHORT, *model, *overrides])
            assert list(trainer.evaluate()) == metric_names(trainer.cfg)


def config(*overrides):
    register()
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, *overrides])
    return cfg


SCORES = "mIoU", "fwIoU", "mACC", "pACC", "expt_gflops", "real_gflops"


@pytest.mark.parametrize("key", ["SOLVER.BEST_METRIC", "SOLVER.EARLY_STOPPING.METRIC"])
def test_unknown_metrics_are_refused_with_the_names_that_will_exist(key):
    listed = ", ".join(f"{DATASET}/{name}" for name in SCORES)
    for name in ("mIoU", f"{DATASET}/miou", f"{DATASET}/mBIoU", "total_loss", f"{DATASET}/val_total_loss"):
        with pytest.raises(ConfigError) as caught:
            validate_config(config(key, name))
        assert f"{key} must name a metric of the evaluation: {listed} (validation losses: with" in str(caught.value)
        assert str(caught.value).endswith(f"Received: {key}={name!r}")
    for name, overrides in {"mBIoU": ["TEST.BOUNDARY_IOU", True], "val_loss_dice": LOSSES, "mIoU": []}.items():
        validate_config(config(key, f"{DATASET}/{name}", *overrides))
    validate_config(config("SOLVER.BEST_METRIC", f"{DATASET}/mIoU", "TEST.EVAL_PERIOD", 0))


def test_validation_losses_of_a_model_with_unknown_losses_are_accepted():
    META_ARCH_REGISTRY._do_register("Unknown", torch.nn.Identity)
    try:
        own = ["MODEL.META_ARCHITECTURE", "Unknown", "TEST.VALIDATION_LOSS", True, "SOLVER.BEST_METRIC"]
        validate_config(config(*own, f"{DATASET}/val_own"))
        with pytest.raises(ConfigError, match="must name a metric of the evaluation"):
            validate_config(config(*own, f"{DATASET}/own"))
    finally:
        del META_ARCH_REGISTRY._obj_map["Unknown"]
