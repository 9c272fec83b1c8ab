import re

import pytest
import torch

from dl_lib.checkpoint import Checkpointer, CheckpointError, CheckpointMismatchError, convert_file
from tests.helpers.published import SETTINGS, build, hollow_weights, published_weights

TINY_WEIGHTS = published_weights("tiny")


def test_converted_file_equals_direct_loading(tmp_path):
    torch.save({"model": TINY_WEIGHTS, "optimizer": {}, "iteration": 190000}, tmp_path / "in.pth")
    conversion = convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert torch.load(tmp_path / "out.pth", weights_only=True).keys() == {"model"}
    direct, converted = build("tiny", device="cpu"), build("tiny", device="cpu")
    Checkpointer(direct).load(str(tmp_path / "in.pth"))
    Checkpointer(converted).load(str(tmp_path / "out.pth"))
    one, other = direct.state_dict(), converted.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert conversion.num_keys == len(TINY_WEIGHTS)
    assert conversion.num_parameters == sum(p.numel() for p in direct.parameters())


def test_network_is_inferred_from_the_weights(tmp_path):
    torch.save({"model": hollow_weights("Seg.Layer16")}, tmp_path / "in.pth")
    conversion = convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert conversion.num_parameters == 17_784_968  # as counted by the published code
    assert conversion.settings["MODEL.BACKBONE.CELL_NUM_LIST"] == [2, 3] + [4] * 14
    assert conversion.settings["MODEL.SEM_SEG_HEAD.NUM_CLASSES"] == 19
    assert "17,784,968 parameters" in str(conversion) and "MODEL.BACKBONE.LAYER_NUM: 16" in str(conversion)


@pytest.mark.parametrize("name", ["tiny_nogate", "tiny_fullstem"])
def test_variants_are_recognised(tmp_path, name):
    torch.save({"model": hollow_weights(name)}, tmp_path / "in.pth")
    settings = convert_file(tmp_path / "in.pth", tmp_path / "out.pth").settings
    expected = dict(zip(SETTINGS[name][::2], SETTINGS[name][1::2], strict=True))
    assert {key: settings[key] for key in expected} == expected


def test_existing_file_is_not_overwritten(tmp_path):
    torch.save({"model": hollow_weights("tiny")}, tmp_path / "in.pth")
    before = (tmp_path / "in.pth").read_bytes()
    with pytest.raises(CheckpointError, match="the output file exists"):
        convert_file(tmp_path / "in.pth", tmp_path / "in.pth")
    assert (tmp_path / "in.pth").read_bytes() == before


def test_nan_and_folders_are_not_converted(tmp_path):
    name = next(key for key in TINY_WEIGHTS if key.endswith(".weight"))
    damaged = {f"_orig_mod.{key}": value for key, value in TINY_WEIGHTS.items()}
    damaged[f"_orig_mod.{name}"] = torch.full_like(TINY_WEIGHTS[name], float("nan"))
    torch.save({"model": damaged}, tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match=re.escape(name)):
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    with pytest.raises(CheckpointError, match=r"not a folder; name one of its files: in\.pth"):
        convert_file(tmp_path, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize(
    ("removed", "missing"),
    [
        ("backbone.all_cell_list.1.0.res_down.1.weight", "backbone.cells.layer2_stride4.transitions.down.conv.weight"),
        ("backbone.stem.stem_2.1.norm.bias", "backbone.stem.conv2.norm.bias"),
    ],
)
def test_incomplete_file_is_not_converted(tmp_path, removed, missing):
    weights = hollow_weights("tiny")
    del weights[removed]
    torch.save({"model": weights}, tmp_path / "in.pth")
    with pytest.raises(CheckpointMismatchError) as error:
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert error.value.mismatch.missing == (missing,)
    assert not (tmp_path / "out.pth").exists()


def test_file_without_a_whole_layer_is_not_converted(tmp_path):
    weights = {key: v for key, v in hollow_weights("tiny").items() if not key.startswith("backbone.all_cell_list.1.")}
    torch.save({"model": weights}, tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match=r"do not describe a valid network.*cells_per_layer=\[2, 0, 4, 4\]"):
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")


def test_mismatching_cell_types_list_the_operations_of_both_sides(tmp_path):
    torch.save({"model": hollow_weights("tiny")}, tmp_path / "in.pth")
    with pytest.raises(CheckpointMismatchError) as error:
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth", cell_types=("skip_connect", "conv_3x3_basic"))
    assert all(".cell_ops._ops.0." in key for key in error.value.mismatch.untranslated)
    assert all(".operation.conv_3x3_basic." in key for key in error.value.mismatch.missing)


@pytest.mark.parametrize("weights", [{"fc.weight": torch.zeros(2)}, {"backbone.cells.a": torch.zeros(2)}])
def test_other_files_are_not_converted(tmp_path, weights):
    torch.save({"model": weights}, tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match="do not have the key names of the published code"):
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")


def test_part_of_a_published_network_is_rejected(tmp_path):
    torch.save({"model": {"backbone.stem.stem_1.weight": torch.zeros(64, 3, 3, 3)}}, tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match="incomplete weights"):
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
