"""A checksum beside each checkpoint, against the sha256sum tool, and what damage it finds that torch does not."""

import shutil
import subprocess

import pytest
import torch

from dl_lib.checkpoint import Checkpointer, CheckpointError
from dl_lib.checkpoint.files import read_checkpoint
from tests.helpers.checkpoints import equal_states, save_run, small_model


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="the tool is not there")
def test_the_tool_agrees_also_about_damage(tmp_path):
    save_run(tmp_path, 5)
    command = ["sha256sum", "-c", "--strict", "model_0000005.pth.sha256"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout == "model_0000005.pth: OK\n"
    flip_a_bit_of_a_weight(tmp_path / "model_0000005.pth", small_model(seed=5)[0].weight)
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1


def flip_a_bit_of_a_weight(path, weight):
    """Damage that leaves a file which torch reads without complaint."""
    content = bytearray(path.read_bytes())
    at = content.index(weight.detach().numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_wrong_bit_in_a_weight_is_found_where_torch_reads_on(tmp_path):
    save_run(tmp_path, 5)
    path = tmp_path / "model_0000005.pth"
    flip_a_bit_of_a_weight(path, small_model(seed=5)[0].weight)
    torch.load(path, weights_only=True)
    with pytest.raises(
        CheckpointError, match=r"not the one that model_0000005\.pth\.sha256 was written for.*expected="
    ):
        Checkpointer(small_model()).load(path)


def test_a_file_without_checksum_is_taken_as_it_loads(tmp_path):
    save_run(tmp_path, 5)
    (tmp_path / "model_0000005.pth.sha256").unlink()
    model = small_model()
    Checkpointer(model).load(tmp_path / "model_0000005.pth")
    assert equal_states(model, small_model(seed=5))


@pytest.mark.parametrize("text", [b"", b"\x00\xff", b"d41d8cd98f00b204e9800998ecf8427e  model_0000005.pth\n"])
def test_a_checksum_that_is_none_is_not_passed_over(tmp_path, text):
    save_run(tmp_path, 5)
    (tmp_path / "model_0000005.pth.sha256").write_bytes(text)
    with pytest.raises(CheckpointError, match="expected=no line of sha256sum"):
        read_checkpoint(tmp_path / "model_0000005.pth")


@pytest.mark.parametrize("mark", [" ", "*"])
def test_a_line_by_hand_counts_too(tmp_path, mark):
    """The tool writes a star for what it read as binary."""
    save_run(tmp_path, 5)
    beside = tmp_path / "model_0000005.pth.sha256"
    digest = beside.read_text()[:64]
    beside.write_text(f"{digest} {mark}elsewhere.pth\n")
    assert read_checkpoint(tmp_path / "model_0000005.pth")["iteration"] == 5
    beside.write_text(f"{digest[::-1]} {mark}elsewhere.pth\n")
    with pytest.raises(CheckpointError, match="was written for"):
        read_checkpoint(tmp_path / "model_0000005.pth")
