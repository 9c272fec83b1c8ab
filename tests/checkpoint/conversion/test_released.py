import hashlib

import pytest
import torch

from dl_lib.checkpoint.conversion.released import RELEASED_CELL_TYPES, is_released, translate_released
from tests.helpers.published import (
    ALL_OPERATIONS,
    build,
    hollow_weights,
    published_weights,
    read_listing,
    released_as_ours,
)


def operations_of(name):
    return ALL_OPERATIONS if name == "tiny_ops" else RELEASED_CELL_TYPES


KEYS = {"Seg.Layer16": 1932, "Seg.Layer33.ImageNet": 4040, "tiny_nogate": 346, "tiny_fullstem": 442, "tiny_ops": 2208}


@pytest.mark.parametrize(("name", "keys"), KEYS.items())
def test_translated_keys_and_shapes_equal_the_model(name, keys):
    published = hollow_weights(name)
    assert len(published) == keys
    translation = translate_released(published, cell_types=operations_of(name))
    own = build(name).state_dict()
    assert {key: value.shape for key, value in translation.weights.items()} == {k: v.shape for k, v in own.items()}
    fixed_gates = [key for key in published if key.endswith(".gate_weights_beta")]
    assert sorted([*translation.original_names.values(), *fixed_gates]) == sorted(published)
    assert bool(fixed_gates) == (name == "tiny_nogate")
    assert all(translation.weights[ours] is published[theirs] for ours, theirs in translation.original_names.items())
    assert not translation.untranslated


@pytest.mark.parametrize("name", ["tiny", "tiny_nogate", "tiny_fullstem", "tiny_ops"])
def test_generated_weights_equal_those_of_the_published_code(name):
    digest = hashlib.sha256()
    for key, value in published_weights(name).items():
        digest.update(key.encode() + value.numpy().tobytes())
    assert digest.hexdigest() == read_listing(name)["values_sha256"]


CELL = "backbone.all_cell_list.2.1."
OURS = "backbone.cells.layer3_stride8."
PAIRS = {
    "backbone.stem.stem_1.weight": "backbone.stem.conv1.conv.weight",
    "backbone.stem.stem_2.0.weight": "backbone.stem.conv2.depthwise.weight",
    "backbone.stem.stem_3.1.norm.running_var": "backbone.stem.conv3.norm.running_var",
    "backbone.init_layer.res_down.1.weight": "backbone.cells.layer0_stride4.transitions.down.conv.weight",
    CELL + "res_up.1.norm.bias": OURS + "transitions.up.norm.bias",
    CELL + "gate_conv_beta.0.weight": OURS + "gate.reduce.conv.weight",
    CELL + "gate_conv_beta.0.norm.num_batches_tracked": OURS + "gate.reduce.norm.num_batches_tracked",
    CELL + "gate_conv_beta.2.bias": OURS + "gate.predict.bias",
    CELL + "cell_ops._ops.0.op.2.weight": OURS + "operation.sep_conv_heavy_5x5.1.depthwise.weight",
    CELL + "cell_ops._ops.0.op.5.weight": OURS + "operation.sep_conv_heavy_5x5.2.pointwise.weight",
    CELL + "cell_ops._ops.0.op.5.norm.weight": OURS + "operation.sep_conv_heavy_5x5.2.norm.weight",
    CELL + "cell_ops._ops.2.op.0.weight": OURS + "operation.dil_conv_3x3.depthwise.weight",
    CELL + "cell_ops._ops.2.op.1.norm.bias": OURS + "operation.dil_conv_3x3.norm.bias",
    CELL + "cell_ops._ops.3.op.weight": OURS + "operation.conv_3x3_basic.conv.weight",
    CELL + "cell_ops._ops.4.op.1.weight": OURS + "operation.Bottleneck_5x5.1.conv.weight",
    CELL + "cell_ops._ops.5.op.norm.weight": OURS + "operation.conv_3x3_basic_2.norm.weight",
    "sem_seg_head.layer_decoder_list.3.weight": "sem_seg_head.projections.layer_3.conv.weight",
    "sem_seg_head.layer_decoder_list.0.norm.bias": "sem_seg_head.projections.layer_0.norm.bias",
    "sem_seg_head.predictor.bias": "sem_seg_head.predictor.bias",
}
PAIRS_OPERATIONS = (
    *("sep_conv_heavy_5x5", "skip_connect", "dil_conv_3x3", "conv_3x3_basic", "Bottleneck_5x5", "conv_3x3_basic"),
)


def test_explicit_pairs_of_names():
    published = {key: torch.tensor(float(i)) for i, key in enumerate(PAIRS)}
    renamed = released_as_ours(published, cell_types=PAIRS_OPERATIONS)
    assert renamed == {ours: published[theirs] for theirs, ours in PAIRS.items()}


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("backbone.stem.stem_1.bias", "not a key of the published code"),
        ("backbone.all_cell_list.0.0.res_keep.1.weight", "not a key of the published code"),
        (CELL + "cell_ops._ops.7.op.0.weight", "there is no operation 7: CELL_TYPE has 6"),
        (CELL + "cell_ops._ops.1.op.0.weight", "operation 1 of CELL_TYPE is skip_connect, which has no"),
        (CELL + "cell_ops._ops.4.op.weight", "not a key of Bottleneck_5x5, operation 4"),
        (CELL + "cell_ops._ops.0.op.6.weight", "not a key of sep_conv_heavy_5x5, operation 0"),
        (CELL + "gate_weights_beta", "a constant gate other than one"),
        ("backbone.all_cell_list.02.1.res_up.1.weight", f"duplicate of {CELL}res_up.1.weight"),
    ],
)
def test_key_without_a_counterpart_is_listed_with_the_reason(key, reason):
    published = {CELL + "res_up.1.weight": torch.zeros(1), key: torch.zeros(2)}
    translation = translate_released(published, cell_types=PAIRS_OPERATIONS)
    assert list(translation.untranslated) == [key]
    assert translation.untranslated[key].startswith(reason)
    assert len(translation.weights) == 1


def test_mbconv_is_not_translated():
    key = CELL + "cell_ops._ops.0.op.0.weight"
    translation = translate_released({key: torch.zeros(1)}, cell_types=("MBConv_3x3",))
    assert "could not build MBConv" in translation.untranslated[key]


def test_only_published_names_are_recognised():
    assert is_released(hollow_weights("tiny"))
    assert not is_released(build("tiny").state_dict())
    assert not is_released(torch.nn.Linear(2, 2).state_dict())
