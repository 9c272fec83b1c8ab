"""Defects of the published code that dl_lib does not have, one test per defect without a test elsewhere.

Tested elsewhere: labels padded as class 0 (`test_published_training`), the head's height used as its width, BN
counted as if not affine, images too small for the small gate (`test_published_evaluation`), MBConv that cannot be
built, gates and cells that are not counted, the stem's missing padding (`costs/test_table`), cells dropped for a whole
batch, closed edges that ran (`test_execution`), costs counted at a fixed size (`test_dynamic4seg`), classes
that are predicted but absent (`evaluation/scores`).
"""

import pytest
import torch

from dl_lib.config import ConfigError, get_cfg
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.lattice import Node
from dl_lib.validation import validate_config
from tests.helpers.published import SETTINGS, batch_of, build_case, published_weights, released_as_ours

TINY = [*SETTINGS["tiny"], "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NORM", "BN", "MODEL.SEM_SEG_HEAD.NORM", "BN"]


def model_of(*overrides):
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, *overrides])
    return build_model(cfg)


def with_gates_at(model, bias):
    for node in model.backbone.lattice.nodes:
        predict = model.backbone.cell(node).gate.predict
        torch.nn.init.zeros_(predict.weight)
        torch.nn.init.constant_(predict.bias, bias)
    return model


def test_all_cells_closed():
    """Published code: evaluation averaged a Python number and raised TypeError."""
    model = with_gates_at(build_case("tiny__mix3"), -20.0).eval()
    with torch.no_grad():
        (output,) = model(batch_of(0))
    table = model.costs.table(128, 256)
    evaluated = sum(
        table.gates[node] for node in model.backbone.lattice.nodes if node.scale == 0
    )  # closed cells pass their input on
    assert output["sem_seg"].isfinite().all()
    assert output["flops"]["expt_flops"] == 0
    assert output["flops"]["executed_flops"] == (table.stem + table.head + evaluated) / 1e6
    counted = sum(table.gates.values()) - table.gates[Node(0, 0)]
    assert output["flops"]["real_flops"] == (table.stem + table.head + counted) / 1e6


def test_unreached_outputs_are_zeros():
    """Published code: the coarsest feature was the number 0.0, on which the head's convolution failed."""
    model = build_case("tiny__mix3").eval()
    model.load_state_dict(
        released_as_ours(published_weights("tiny", gates="mix"), cell_types=model.backbone.cell_types)
    )
    with torch.no_grad():
        (output,) = model(batch_of(0))
    gate = dict(zip(model.backbone.lattice.edges, output["gates"].tolist(), strict=True))
    into_coarsest = [edge for edge in model.backbone.lattice.edges if edge.target == Node(4, 3)]
    assert not any(gate[edge] for edge in into_coarsest), "this case failed"
    assert output["sem_seg"].isfinite().all()


@pytest.mark.parametrize("cell_type", [["skip_connect"], ["none"], ["skip_connect", "none"]])
def test_cells_with_free_operations(cell_type):
    """Published code: the sum of their costs was a Python number, which raised AttributeError."""
    model = model_of("MODEL.BACKBONE.CELL_TYPE", cell_type).eval()
    with torch.no_grad():
        (output,) = model(batch_of(0, dtype=torch.float32))
    assert set(model.costs.table(128, 256).operations.values()) == {0}
    assert output["flops"]["expt_flops"] > 0, "transitions still cost"


@pytest.mark.parametrize(
    ("cells", "features"), [([1, 1], ["layer_0"]), ([2, 2, 3], ["layer_0", "layer_1", "layer_2"]), ([2, 3, 4, 5], None)]
)
def test_any_number_of_scales(cells, features):
    """Published code: topology and head supported only [2, 3, 4, 4, ...] and four features."""
    features = features or [f"layer_{scale}" for scale in range(cells[-1])]
    model = model_of(
        *("MODEL.BACKBONE.LAYER_NUM", len(cells), "MODEL.BACKBONE.CELL_NUM_LIST", cells),
        *("MODEL.SEM_SEG_HEAD.IN_FEATURES", features, "MODEL.BACKBONE.MAX_STRIDE", 4 << (cells[-1] - 1)),
    ).eval()
    with torch.no_grad():
        assert model(batch_of(0, dtype=torch.float32))[0]["sem_seg"].shape == (19, 128, 256)


def test_layer_num_must_match_cell_num_list():
    """Published code: with a larger LAYER_NUM the last layer kept edges without a target."""
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, "MODEL.BACKBONE.LAYER_NUM", 5])
    with pytest.raises(ConfigError, match=r"LAYER_NUM must equal .*CELL_NUM_LIST; set it to 4"):
        validate_config(cfg)


def test_closed_gates_receive_no_gradient():
    """A property of the method rather than a defect: max(0, tanh) has zero gradient at closed gates."""
    model = with_gates_at(model_of(), -3.0).train()
    losses, _ = model(batch_of(4, 5, dtype=torch.float32), step_rate=0.5)
    losses["loss_sem_seg"].backward()
    inside = [p for key, p in model.named_parameters() if ".gate." in key or ".operation." in key]
    assert all(p.grad is None or not p.grad.any() for p in inside)


def test_drop_path_is_for_training_only():
    """Published code: operations were also dropped in evaluation, except at the default progress of 0."""
    model = model_of("MODEL.BACKBONE.DROP_PROB", 0.9).eval()
    for sparse in (True, False):
        model.backbone.sparse = sparse
        with torch.no_grad():
            once, again = (model(batch_of(0, dtype=torch.float32), step_rate=1.0)[0]["sem_seg"] for _ in range(2))
        assert torch.equal(once, again)


def test_configs_do_not_share_defaults():
    """Published code: importing one config changed lists in the defaults of the next."""
    first = get_cfg()
    first.INPUT.MIN_SIZE_TRAIN.append(7)
    first.merge_from_list(["INPUT.CROP_SIZE", [64, 64]])
    assert get_cfg().INPUT.MIN_SIZE_TRAIN == []
    assert get_cfg().INPUT.CROP_SIZE == [0, 0]
