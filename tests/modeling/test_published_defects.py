"""Where the published code is wrong and we are not, one test for each defect that no other test names.

Those named elsewhere: labels padded as class 0 (`test_published_training`), the head's height taken for its width, BN
counted as if it had no scale, images too small for the small gate (`test_published_evaluation`), MBConv that could not
be built, gates and cells that are not counted, the stem's missing padding (`test_cost`), cells dropped for a whole
batch, closed paths that ran all the same (`test_execution`), costs booked at a fixed size (`test_dynamic4seg`), classes
that are predicted but absent (`evaluation/test_metrics`).
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


def test_all_cells_closed_is_a_route_like_any_other():
    """There, evaluation took the mean of a plain number and ended with a TypeError."""
    model = with_gates_at(build_case("tiny__mix3"), -20.0).eval()
    with torch.no_grad():
        (output,) = model(batch_of(0))
    table = model.costs.table(128, 256)
    evaluated = sum(table.gates[node] for node in model.backbone.lattice.nodes if node.scale == 0)  # it is passed on
    assert output["sem_seg"].isfinite().all()
    assert output["flops"]["expt_flops"] == 0
    assert output["flops"]["executed_flops"] == (table.stem + table.head + evaluated) / 1e6
    booked = sum(table.gates.values()) - table.gates[Node(0, 0)]
    assert output["flops"]["real_flops"] == (table.stem + table.head + booked) / 1e6


def test_an_output_that_nothing_reaches_is_zeros():
    """There, the coarsest feature was the number 0.0, and the head's convolution failed on it."""
    model = build_case("tiny__mix3").eval()
    model.load_state_dict(
        released_as_ours(published_weights("tiny", gates="mix"), cell_types=model.backbone.cell_types)
    )
    with torch.no_grad():
        (output,) = model(batch_of(0))
    gate = dict(zip(model.backbone.lattice.edges, output["gates"].tolist(), strict=True))
    into_coarsest = [edge for edge in model.backbone.lattice.edges if edge.target == Node(4, 3)]
    assert not any(gate[edge] for edge in into_coarsest), "this is the case that failed"
    assert output["sem_seg"].isfinite().all()


@pytest.mark.parametrize("cell_type", [["skip_connect"], ["none"], ["skip_connect", "none"]])
def test_cells_may_consist_of_operations_without_a_cost(cell_type):
    """There, adding up their costs gave a plain number and ended with an AttributeError."""
    model = model_of("MODEL.BACKBONE.CELL_TYPE", cell_type).eval()
    with torch.no_grad():
        (output,) = model(batch_of(0, dtype=torch.float32))
    assert set(model.costs.table(128, 256).operations.values()) == {0}
    assert output["flops"]["expt_flops"] > 0, "transitions still cost"


@pytest.mark.parametrize(
    ("cells", "features"), [([1, 1], ["layer_0"]), ([2, 2, 3], ["layer_0", "layer_1", "layer_2"]), ([2, 3, 4, 5], None)]
)
def test_any_number_of_scales_works(cells, features):
    """There, topology and head were written for [2, 3, 4, 4, ...] and exactly four features."""
    features = features or [f"layer_{scale}" for scale in range(cells[-1])]
    model = model_of(
        *("MODEL.BACKBONE.LAYER_NUM", len(cells), "MODEL.BACKBONE.CELL_NUM_LIST", cells),
        *("MODEL.SEM_SEG_HEAD.IN_FEATURES", features, "MODEL.BACKBONE.MAX_STRIDE", 4 << (cells[-1] - 1)),
    ).eval()
    with torch.no_grad():
        assert model(batch_of(0, dtype=torch.float32))[0]["sem_seg"].shape == (19, 128, 256)


def test_layers_and_their_list_of_cells_have_to_agree():
    """There, a LAYER_NUM beyond the list was not noticed: the last layer kept ways out that led nowhere."""
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, "MODEL.BACKBONE.LAYER_NUM", 5])
    with pytest.raises(ConfigError, match=r"LAYER_NUM must equal .*CELL_NUM_LIST; set it to 4"):
        validate_config(cfg)


def test_closed_gates_learn_nothing():
    """A rule of the method rather than a defect: max(0, tanh) has no slope where it is closed."""
    model = with_gates_at(model_of(), -3.0).train()
    losses, _ = model(batch_of(4, 5, dtype=torch.float32), step_rate=0.5)
    losses["loss_sem_seg"].backward()
    inside = [p for key, p in model.named_parameters() if ".gate." in key or ".operation." in key]
    assert all(p.grad is None or not p.grad.any() for p in inside)


def test_drop_path_is_for_training_only():
    """There, operations were dropped in evaluation too, harmlessly only because the progress was 0 by default."""
    model = model_of("MODEL.BACKBONE.DROP_PROB", 0.9).eval()
    for sparse in (True, False):
        model.backbone.sparse = sparse
        with torch.no_grad():
            once, again = (model(batch_of(0, dtype=torch.float32), step_rate=1.0)[0]["sem_seg"] for _ in range(2))
        assert torch.equal(once, again)


def test_one_experiments_settings_leave_the_next_ones_alone():
    """There, importing one configuration changed lists inside the defaults of the next one."""
    first = get_cfg()
    first.INPUT.MIN_SIZE_TRAIN.append(7)
    first.merge_from_list(["INPUT.CROP_SIZE", [64, 64]])
    assert get_cfg().INPUT.MIN_SIZE_TRAIN == [512, 768, 1024, 1280, 1536, 2048]
    assert get_cfg().INPUT.CROP_SIZE == [768, 768]
