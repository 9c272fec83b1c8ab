import pytest
import torch

from dl_lib.checkpoint import Checkpointer, CheckpointError, CheckpointMismatchError, convert_file
from tests.helpers.published import SETTINGS, build, hollow_weights, published_weights

TINY_WEIGHTS = published_weights("tiny")


def test_a_converted_file_loads_as_our_own_and_holds_the_same_values(tmp_path):
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


def test_the_network_is_read_off_the_weights(tmp_path):
    torch.save({"model": hollow_weights("Seg.Layer16")}, tmp_path / "in.pth")
    conversion = convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert conversion.num_parameters == 17_784_968  # as the published code itself counts them
    assert conversion.settings["MODEL.BACKBONE.CELL_NUM_LIST"] == [2, 3] + [4] * 14
    assert conversion.settings["MODEL.SEM_SEG_HEAD.NUM_CLASSES"] == 19
    assert "17,784,968 parameters" in str(conversion) and "MODEL.BACKBONE.LAYER_NUM: 16" in str(conversion)


@pytest.mark.parametrize("name", ["tiny_nogate", "tiny_fullstem"])
def test_variants_are_recognised(tmp_path, name):
    torch.save({"model": hollow_weights(name)}, tmp_path / "in.pth")
    settings = convert_file(tmp_path / "in.pth", tmp_path / "out.pth").settings
    asked = dict(zip(SETTINGS[name][::2], SETTINGS[name][1::2], strict=True))
    assert {key: settings[key] for key in asked} == asked


def test_an_existing_file_is_never_overwritten(tmp_path):
    torch.save({"model": hollow_weights("tiny")}, tmp_path / "in.pth")
    before = (tmp_path / "in.pth").read_bytes()
    with pytest.raises(CheckpointError, match="the file to write exists"):
        convert_file(tmp_path / "in.pth", tmp_path / "in.pth")
    assert (tmp_path / "in.pth").read_bytes() == before


@pytest.mark.parametrize(
    ("lost", "found"),
    [
        ("backbone.all_cell_list.1.0.res_down.1.weight", "backbone.cells.layer2_stride4.transitions.down.conv.weight"),
        ("backbone.stem.stem_2.1.norm.bias", "backbone.stem.conv2.norm.bias"),
    ],
)
def test_an_incomplete_file_is_not_converted(tmp_path, lost, found):
    weights = hollow_weights("tiny")
    del weights[lost]
    torch.save({"model": weights}, tmp_path / "in.pth")
    with pytest.raises(CheckpointMismatchError) as error:
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert error.value.mismatch.missing == (found,)
    assert not (tmp_path / "out.pth").exists()


def test_a_file_without_a_whole_layer_is_not_converted(tmp_path):
    weights = {key: v for key, v in hollow_weights("tiny").items() if not key.startswith("backbone.all_cell_list.1.")}
    torch.save({"model": weights}, tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match=r"no network can be built.*cells_per_layer=\[2, 0, 4, 4\]"):
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")


def test_operations_of_another_cell_type_are_listed_on_both_sides(tmp_path):
    torch.save({"model": hollow_weights("tiny")}, tmp_path / "in.pth")
    with pytest.raises(CheckpointMismatchError) as error:
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth", cell_types=("skip_connect", "conv_3x3_basic"))
    assert all(".cell_ops._ops.0." in key for key in error.value.mismatch.untranslated)
    assert all(".operation.conv_3x3_basic." in key for key in error.value.mismatch.missing)


@pytest.mark.parametrize("weights", [{"fc.weight": torch.zeros(2)}, {"backbone.cells.a": torch.zeros(2)}])
def test_other_files_are_not_taken_for_published_ones(tmp_path, weights):
    torch.save({"model": weights}, tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match="nothing to convert"):
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")


def test_a_part_of_a_published_network_is_refused(tmp_path):
    torch.save({"model": {"backbone.stem.stem_1.weight": torch.zeros(64, 3, 3, 3)}}, tmp_path / "in.pth")
    with pytest.raises(CheckpointError, match="weights of a whole network"):
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
