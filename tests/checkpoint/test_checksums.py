"""Checksum files of checkpoints, compared with `sha256sum`, and damage that only checksums detect."""

import shutil
import subprocess

import pytest
import torch

from dl_lib.checkpoint import Checkpointer, CheckpointError
from dl_lib.checkpoint.files import read_checkpoint
from tests.helpers.checkpoints import equal_states, save_run, small_model


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_agrees_on_valid_and_damaged_files(tmp_path):
    save_run(tmp_path, 5)
    command = ["sha256sum", "-c", "--strict", "model_0000005.pth.sha256"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout == "model_0000005.pth: OK\n"
    flip_a_bit_of_a_weight(tmp_path / "model_0000005.pth", small_model(seed=5)[0].weight)
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1


def flip_a_bit_of_a_weight(path, weight):
    """Damage a file so that torch can still load it."""
    content = bytearray(path.read_bytes())
    at = content.index(weight.detach().numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_flipped_bit_in_a_weight_is_detected(tmp_path):
    save_run(tmp_path, 5)
    path = tmp_path / "model_0000005.pth"
    flip_a_bit_of_a_weight(path, small_model(seed=5)[0].weight)
    torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match=r"checksum mismatch with model_0000005\.pth\.sha256.*expected="):
        Checkpointer(small_model()).load(path)


def test_file_without_checksum_loads(tmp_path):
    save_run(tmp_path, 5)
    (tmp_path / "model_0000005.pth.sha256").unlink()
    model = small_model()
    Checkpointer(model).load(tmp_path / "model_0000005.pth")
    assert equal_states(model, small_model(seed=5))


@pytest.mark.parametrize("text", [b"", b"\x00\xff", b"d41d8cd98f00b204e9800998ecf8427e  model_0000005.pth\n"])
def test_malformed_checksum_file_is_an_error(tmp_path, text):
    save_run(tmp_path, 5)
    (tmp_path / "model_0000005.pth.sha256").write_bytes(text)
    with pytest.raises(CheckpointError, match="expected=a valid sha256sum line"):
        read_checkpoint(tmp_path / "model_0000005.pth")


@pytest.mark.parametrize("mark", [" ", "*"])
def test_handwritten_checksum_file_is_verified(tmp_path, mark):
    """sha256sum marks files read in binary mode with a star."""
    save_run(tmp_path, 5)
    checksum_file = tmp_path / "model_0000005.pth.sha256"
    digest = checksum_file.read_text()[:64]
    checksum_file.write_text(f"{digest} {mark}elsewhere.pth\n")
    assert read_checkpoint(tmp_path / "model_0000005.pth")["iteration"] == 5
    checksum_file.write_text(f"{digest[::-1]} {mark}elsewhere.pth\n")
    with pytest.raises(CheckpointError, match="checksum mismatch"):
        read_checkpoint(tmp_path / "model_0000005.pth")
