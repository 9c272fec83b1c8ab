"""Files of steps with a non-finite loss: contents, number of kept files, failures to write."""

import math
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from dl_lib.checkpoint import CheckpointError
from dl_lib.engine.training.debug_files import DebugFiles
from dl_lib.engine.training.non_finite import NonFiniteLossError, NonFinitePolicy
from dl_lib.engine.training.precision import Precision
from dl_lib.engine.training.random_state import get_random_state
from dl_lib.engine.training.saved_step import read_saved_step, saved_ranks
from dl_lib.engine.training.trainer import Trainer
from tests.helpers.small_run import assert_equal
from tests.helpers.training import captured_log


class NoisyNorm(nn.Module):
    """Mean of cubed, normalized values with dropout: buffers and random state change in the forward pass."""

    def __init__(self):
        super().__init__()
        self.norm, self.scale = nn.BatchNorm1d(2), nn.Parameter(torch.ones(2))
        self.seen = []  # state before each forward pass

    def forward(self, batched_inputs, step_rate=0.0):
        self.seen.append(({name: values.clone() for name, values in self.state_dict().items()}, get_random_state()))
        x = nn.functional.dropout(torch.stack([sample["x"] for sample in batched_inputs]))
        return {"loss": (self.scale * self.norm(x) ** 3).mean()}, {"mean": x.detach().mean()}


def batches(bad):
    for number in range(100):
        x = torch.rand(4, 2, generator=torch.Generator().manual_seed(number))
        yield [{"x": row * (math.nan if number in bad else 1), "file_name": f"{number}.png"} for row in x]


def trained(folder, *, bad, model=None, max_iter=9, max_skipped=0, **settings):
    """Train until the end or the first step that may not be skipped; return the trainer."""
    torch.manual_seed(0)
    model = NoisyNorm() if model is None else model
    policy = NonFinitePolicy(max_skipped, debug_files=DebugFiles(folder, config={"SEED": 3}))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, batches(bad), optimizer, max_iter=max_iter, non_finite=policy, **settings)
    if len(bad) > max_skipped:
        with pytest.raises(NonFiniteLossError):
            trainer.train()
    else:
        trainer.train()
    return trainer


@pytest.mark.parametrize("max_skipped", [0, 1])
def test_file_holds_the_state_before_the_step(tmp_path, max_skipped):
    trainer = trained(tmp_path, bad={4}, max_iter=5, max_skipped=max_skipped)
    step, (weights, random_state) = read_saved_step(tmp_path / "debug"), trainer.model.seen[4]
    assert_equal(dict(step.weights), weights, path="weights")
    assert weights["norm.num_batches_tracked"] == 4
    assert_equal(step.random_state, random_state, path="random_state")
    assert (step.iteration, step.max_iter, step.rank, step.world_size, step.config) == (4, 5, 0, 1, {"SEED": 3})
    assert [sample["file_name"] for sample in step.batches[0]] == ["4.png"] * 4
    assert all(torch.isnan(sample["x"]).all() for sample in step.batches[0])
    assert math.isnan(step.values["loss"]) and math.isnan(step.values["gradient_norm"])


def test_step_holds_all_accumulated_batches_without_the_rest_of_their_storage(tmp_path):
    trained(tmp_path, bad={5}, accumulation_steps=2)
    step = read_saved_step(tmp_path / "debug")
    assert step.iteration == 2
    assert [batch[0]["file_name"] for batch in step.batches] == ["4.png", "5.png"]
    assert step.batches[0][0]["x"].untyped_storage().nbytes() == 2 * 4  # a row of the batch of 4


def test_only_the_last_two_steps_are_kept(tmp_path):
    trained(tmp_path, bad={1, 2, 3, 5}, max_skipped=4)
    assert saved_ranks(tmp_path / "debug") == {3: [0], 5: [0]}
    names = sorted(path.name for path in (tmp_path / "debug").iterdir())
    files = ["step_0000003_rank0.pth", "step_0000005_rank0.pth"]
    assert names == sorted([*files, *(f"{name}.sha256" for name in files)])


def test_files_of_steps_before_a_resume_and_of_missing_ranks_are_removed(tmp_path):
    trained(tmp_path, bad={7})
    (tmp_path / "debug" / "step_0000000_rank3.pth").write_bytes(b"of a run with four processes")
    trained(tmp_path, bad={2})
    trained(tmp_path, bad={3})
    assert saved_ranks(tmp_path / "debug") == {2: [0], 3: [0]}


class Steep(nn.Module):
    """Loss of 1e30, whose gradient of 1e35 overflows with the initial loss scale."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1e-5))

    def forward(self, batched_inputs, step_rate=0.0):
        return {"loss": self.weight * 1e35}, {}


def test_overflow_of_float16_is_not_saved(tmp_path):
    model, precision = Steep(), Precision("fp16", device=torch.device("cpu"))
    policy = NonFinitePolicy(debug_files=DebugFiles(tmp_path, config={}))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, batches(set()), optimizer, max_iter=1, precision=precision, non_finite=policy)
    trainer.train()
    assert precision.scaler.get_scale() == 2**15
    assert not (tmp_path / "debug").exists()


class WithPath(NoisyNorm):
    """Model that adds an object to its batch which checkpoints cannot hold."""

    def forward(self, batched_inputs, step_rate=0.0):
        batched_inputs[0]["path"] = Path()
        return super().forward(batched_inputs, step_rate)


@pytest.mark.parametrize(("model", "reason"), [(NoisyNorm, "exists"), (WithPath, "PosixPath")])
def test_failure_to_save_is_a_warning(tmp_path, model, reason):
    if model is NoisyNorm:
        (tmp_path / "debug").write_text("a file in place of the folder")
    with captured_log("training.debug_files") as messages:
        trained(tmp_path, bad={1}, model=model())
    assert len(messages) == 1
    assert messages[0].startswith("Failed to save step 1 for dl_lib replay: ")
    assert reason in messages[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda step: step.update(iteration=-1), "iteration"),
        (lambda step: step.update(max_iter=1), "max_iter"),
        (lambda step: step.update(threads=10**9), "threads"),
        (lambda step: step.update(batches=[]), "batches"),
        (lambda step: step["batches"][0][0].update(x=torch.zeros(1).expand(10**9)), "x of a sample"),
        (lambda step: step["random_state"]["numpy"]["state"].update(pos=10**6), "NumPy's generator"),
        (lambda step: step.update(values={"loss": "high"}), "loss must be a number"),
        (lambda step: step.update(values={"loss": 10**400}), "int too large"),
        (lambda step: step.update(values={"\x1b[31m": 1.0}), "printable"),
        (lambda step: step.update(config={3: 4}), "printable text, but one is 3"),
        (lambda step: step.update(budget_weight=10**400), "int too large"),
        (lambda step: step.pop("config"), "config"),
        (lambda step: step.update(more=1), "more"),
    ],
)
def test_damaged_file_is_an_error(tmp_path, change, reason):
    trained(tmp_path, bad={1})
    path = tmp_path / "debug" / "step_0000001_rank0.pth"
    content = torch.load(path, weights_only=True)
    change(content["step"])
    os.remove(f"{path}.sha256")
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"damaged or not a saved step.*{reason}"):
        read_saved_step(tmp_path / "debug")


def test_missing_steps_and_ranks_are_errors(tmp_path):
    with pytest.raises(CheckpointError, match="no saved step"):
        read_saved_step(tmp_path / "debug")
    trained(tmp_path, bad={1})
    with pytest.raises(CheckpointError, match=r"--step must be one of 1\. Received: --step=2"):
        read_saved_step(tmp_path / "debug", iteration=2)
    with pytest.raises(CheckpointError, match="the file of rank 1 is missing"):
        read_saved_step(tmp_path / "debug", rank=1)
    (tmp_path / "debug" / "step_0000001_rank0.pth").write_bytes(b"truncated")
    with pytest.raises(CheckpointError, match="truncated, damaged"):
        read_saved_step(tmp_path / "debug")
