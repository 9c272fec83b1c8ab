"""Training with two CPU processes compared with one."""

import json
import os
import signal

import pytest
import torch
from torch import nn

from dl_lib.checkpoint import CheckpointError
from dl_lib.config import get_cfg
from dl_lib.engine.consistency import check_consistent_start
from dl_lib.engine.hooks import BudgetCalibration, BudgetController, PeriodicWriter, recompute_norm_statistics
from dl_lib.engine.training.distributed import wrap_distributed
from dl_lib.engine.training.interrupt import TrainingInterrupted
from dl_lib.engine.training.saved_step import read_saved_step, saved_ranks
from dl_lib.engine.training.train_step import GradientClip
from dl_lib.engine.training.trainer import Trainer
from dl_lib.engine.training.writers import JSONWriter
from dl_lib.launch import ProcessRequest
from dl_lib.launch.launch import launch
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.gate import HardGate
from dl_lib.utils import comm
from dl_lib.utils.modes import evaluation_mode
from tests.helpers.command import run_command
from tests.helpers.diverging_run import FINITE_STEP, LAYER, STEP, diverge
from tests.helpers.published import SETTINGS
from tests.helpers.small_run import DATASET, make_trainer, metrics
from tests.helpers.small_run import train as train_small_run
from tests.helpers.training import (
    DIMENSIONS,
    At,
    LeastSquares,
    WithBudget,
    batches_from,
    make_batch,
    repeat_batch,
    restore_logging,
)


def train(folder):
    """Train two steps on this rank's part of a batch of 8, with a budget whose weight is controlled."""
    rank, world_size = comm.get_rank(), comm.get_world_size()
    budgeted = WithBudget()
    model = wrap_distributed(budgeted)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    writer = PeriodicWriter([JSONWriter(folder / f"metrics{rank}.json")], period=1)
    batches = repeat_batch(make_batch(3, size=8)[rank::world_size])
    hooks = [BudgetController(budgeted.budget), writer]
    trainer = Trainer(model, batches, optimizer, max_iter=2, hooks=hooks, clip=GradientClip(0.7))
    trainer.train()
    result = {
        "parameters": [p.tolist() for p in comm.unwrap(model).parameters()],
        "gradients": [p.grad.tolist() for p in comm.unwrap(model).parameters()],
        "gathered": comm.all_gather({"rank": rank}),
        "broadcast": comm.broadcast(f"from {rank}"),
        "average": comm.average(torch.tensor([1.0, rank])).tolist(),
        "budget_weight": budgeted.budget.weight,
        "is_main": comm.is_main_process(),
    }
    (folder / f"result{rank}_of_{world_size}.json").write_text(json.dumps(result))


def train_until_ctrl_c(folder):
    """Send SIGINT to rank 1 only, before its second step."""
    rank = comm.get_rank()
    model = wrap_distributed(LeastSquares())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, repeat_batch(make_batch(rank)), optimizer, max_iter=5)
    trainer.hooks = [At(1, lambda t: os.kill(os.getpid(), signal.SIGINT))] if rank == 1 else []
    try:
        trainer.train()
    finally:
        result = {"iteration": trainer.iteration, "parameters": [p.tolist() for p in comm.unwrap(model).parameters()]}
        (folder / f"stopped{rank}.json").write_text(json.dumps(result))


class PartlyUsedNorms(nn.Module):
    """Norms that are used by all ranks, by rank 1 only, and by none."""

    def __init__(self):
        super().__init__()
        self.all, self.second, self.unused = (nn.BatchNorm1d(DIMENSIONS, dtype=torch.float64) for _ in range(3))
        self.unused.running_mean.fill_(7.0)

    def forward(self, batch):
        x = stacked(batch)
        return self.all(x), self.second(x) if comm.get_rank() == 1 else None


def stacked(batch):
    return torch.stack([sample["x"] for sample in batch])


def recompute_norms(folder):
    model, rank = PartlyUsedNorms(), comm.get_rank()
    recompute_norm_statistics(model, batches=batches_from(10 * rank), num_batches=3)
    buffers = {name: values.tolist() for name, values in model.named_buffers() if "running" in name}
    (folder / f"norms{rank}.json").write_text(json.dumps(buffers))


def start_differently(folder):
    """Record the errors for a rank with another iteration, then with other weights."""
    messages, model = [], LeastSquares()
    check_consistent_start(model, iteration=4, folder="runs/a")
    for iteration, offset in ((4 * (1 - comm.get_rank()), 0.0), (4, comm.get_rank())):
        with torch.no_grad():
            model.offset.fill_(offset)
        try:
            check_consistent_start(model, iteration=iteration, folder="runs/a")
        except CheckpointError as error:
            messages.append(str(error))
    (folder / f"start_errors{comm.get_rank()}.json").write_text(json.dumps(messages))


UNSYNCHRONIZED = [
    *("MODEL.BACKBONE.NORM", "BN", "MODEL.SEM_SEG_HEAD.NORM", "BN", "TEST.PRECISE_BN.ENABLED", False),
    *("SOLVER.LR_SCHEDULER.MAX_ITER", 3, "TEST.EVAL_PERIOD", 2, "TEST.VALIDATION_LOSS", True),
]


def train_unsynchronized(folder):
    """Train a run that evaluates the weights, and one that evaluates the EMA."""
    for use_ema in (False, True):
        train_small_run(folder / str(use_ema), [*UNSYNCHRONIZED, "SOLVER.EMA.EVALUATE", use_ema])


def train_hard_gates(folder):
    """Compute gradients of this rank's images on a network with hard gates and a target, and its cost in evaluation."""
    rank, world_size = comm.get_rank(), comm.get_world_size()
    torch.manual_seed(0)
    cfg = get_cfg()
    cfg.merge_from_list([*SETTINGS["tiny"], *HARD_GATES])
    model = build_model(cfg).double().train()
    for module in model.modules():
        if isinstance(module, HardGate):
            nn.init.normal_(module.predict.weight, std=3)
            nn.init.zeros_(module.predict.bias)
    model.budget.weight = 0.5
    image = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    label = torch.randint(0, 19, (4, 64, 64))
    batch = [{"image": x, "sem_seg": y} for x, y in zip(image, label, strict=True)][rank::world_size]
    wrapped = wrap_distributed(model)  # keep a reference: without the wrapper, gradients are not averaged
    losses, logged = wrapped(batch, step_rate=1.0)
    sum(losses.values()).backward()
    result = {name: comm.average(value.detach()) for name, value in {**losses, **logged}.items()}
    result |= {name: parameter.grad for name, parameter in model.named_parameters()}
    hook = BudgetCalibration(lambda: repeat_batch(batch), num_batches=1, model=model, budget=model.budget)
    with evaluation_mode(model), torch.no_grad():
        result["cost in evaluation mode"] = hook.mean_cost()
    torch.save(result, folder / f"hard_gates{rank}_of_{world_size}.pth")


HARD_GATES = [
    *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NORM", "SyncBN", "MODEL.SEM_SEG_HEAD.NORM", "SyncBN"),
    *("MODEL.GATE.KIND", "hard", "INPUT.CROP_SIZE", [64, 64], "MODEL.BUDGET.CONSTRAIN", True),
    *("MODEL.BUDGET.CONTROL", "target", "MODEL.BUDGET.TARGET", 0.5, "MODEL.BUDGET.SPREAD", 0.5),
]


def run_all(folder):
    train(folder)
    train_hard_gates(folder)
    recompute_norms(folder)
    start_differently(folder)
    train_unsynchronized(folder)
    diverge(folder / "diverged")
    train_until_ctrl_c(folder)  # last: it ends the processes


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """Run everything above in two processes; return the folder and the exit code."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.raises(TrainingInterrupted) as caught:
        launch(run_all, ProcessRequest(2), device="cpu", args=(folder,))
    return folder, caught.value.code


def read(path):
    return json.loads(path.read_text())


def losses_of(path):
    return [json.loads(line)["total_loss"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_train_like_one(tmp_path, two_processes, rank):
    train(tmp_path)
    folder, _ = two_processes
    one, two = read(tmp_path / "result0_of_1.json"), read(folder / f"result{rank}_of_2.json")
    for name in ("parameters", "gradients"):
        for mine, other in zip(two[name], one[name], strict=True):
            assert mine == pytest.approx(other, rel=1e-12)
    assert two["budget_weight"] == read(folder / f"result{1 - rank}_of_2.json")["budget_weight"] != 0
    assert two["budget_weight"] == pytest.approx(one["budget_weight"], rel=1e-12)
    assert losses_of(folder / f"metrics{rank}.json") == pytest.approx(losses_of(tmp_path / "metrics0.json"), rel=1e-12)
    assert (one["average"], one["gathered"], one["is_main"]) == ([1.0, 0.0], [{"rank": 0}], True)
    assert (two["average"], two["gathered"], two["is_main"]) == ([1.0, 0.5], [{"rank": 0}, {"rank": 1}], rank == 0)
    assert (one["broadcast"], two["broadcast"]) == ("from 0", "from 0")


@pytest.mark.parametrize("rank", [0, 1])
def test_hard_gates_of_two_processes_train_like_those_of_one(tmp_path, two_processes, rank):
    train_hard_gates(tmp_path)
    one = torch.load(tmp_path / "hard_gates0_of_1.pth", weights_only=True)
    two = torch.load(two_processes[0] / f"hard_gates{rank}_of_2.pth", weights_only=True)
    assert {"loss_sem_seg", "loss_budget", "loss_spread", "budget_cost"} <= set(one)
    assert 0.05 < one["budget_cost"] < 0.95
    assert 0.05 < one["cost in evaluation mode"] < 0.95
    torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-9)


def test_processes_stop_at_the_same_step(two_processes):
    """SIGINT to one process stops both after the same step."""
    folder, code = two_processes
    assert code == 130
    first, second = (read(folder / f"stopped{rank}.json") for rank in range(2))
    assert first == second
    assert first["iteration"] == 2


def test_precise_bn_combines_all_processes(two_processes):
    folder, _ = two_processes
    first, second = (read(folder / f"norms{rank}.json") for rank in range(2))
    assert first == second
    seen = [torch.cat([stacked(make_batch(start + i)) for i in range(3)]) for start in (0, 10)]
    for name, expected in (("all", torch.cat(seen)), ("second", seen[1])):
        assert first[f"{name}.running_mean"] == pytest.approx(expected.mean(0).tolist(), rel=1e-12)
        assert first[f"{name}.running_var"] == pytest.approx(expected.var(0, unbiased=False).tolist(), rel=1e-12)
    assert first["unused.running_mean"] == [7.0] * DIMENSIONS


def test_different_starts_are_rejected(two_processes):
    folder, _ = two_processes
    first, second = (read(folder / f"start_errors{rank}.json") for rank in range(2))
    assert first == second
    other_iteration, other_weights = first
    assert "ranks 1 differ from rank 0" in other_iteration
    assert other_iteration.endswith("Received: OUTPUT_DIR='runs/a', iterations=[4, 0]")
    assert other_weights.endswith("Received: OUTPUT_DIR='runs/a', iterations=[4, 4] with different weights")


def test_evaluated_model_equals_the_saved_one(two_processes):
    """Norms are not synchronized, so their statistics differ between processes, which evaluate different images."""
    for use_ema in (False, True):
        folder = two_processes[0] / str(use_ema)
        with restore_logging():
            again = make_trainer(folder, [*UNSYNCHRONIZED, "SOLVER.EMA.EVALUATE", use_ema]).evaluate()
        assert f"{DATASET}/val_total_loss" in again
        found = {name: metrics(folder)[-1][name] for name in again}
        assert found == pytest.approx(again, rel=1e-9)


def test_every_process_saves_its_batch_of_a_step_that_diverges(two_processes, capsys):
    def replayed(*words):
        capsys.readouterr()
        assert run_command("replay", folder, "--rank", 1, *words) == 0
        return capsys.readouterr().out

    folder = two_processes[0] / "diverged"
    assert saved_ranks(folder / "debug") == {FINITE_STEP: [0, 1], STEP: [0, 1]}
    first, second = (read_saved_step(folder / "debug", rank=rank) for rank in range(2))
    assert all(torch.equal(second.weights[name], values) for name, values in first.weights.items())
    samples = [{sample["image_id"] for batch in step.batches for sample in batch} for step in (first, second)]
    assert len(samples[0]) == len(samples[1]) == 2
    assert not torch.equal(first.random_state["torch"], second.random_state["torch"])
    text = replayed("--step", FINITE_STEP)
    assert text.startswith(f"Iteration {FINITE_STEP}/8 (counted from 0), rank 1 of 2, 2 images in 2 batches: ")
    assert "differ from those of the run, as expected: the run had 2 processes, which share gradients" in text
    assert f"First non-finite output: {LAYER} (Conv2d)" in replayed()
