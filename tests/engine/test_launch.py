"""Two processes on the CPU against one."""

import json
import os
import signal
import socket

import pytest
import torch

from dl_lib.engine import launch
from dl_lib.engine.distributed import unwrap, wrap_distributed
from dl_lib.engine.hooks import WriteMetrics
from dl_lib.engine.interrupt import TrainingInterrupted
from dl_lib.engine.trainer import Trainer
from dl_lib.engine.writers import JSONWriter
from dl_lib.utils import comm
from tests.engine.toys import At, LeastSquares, always, make_batch


def train(folder):
    """Two steps on this process's share of one batch of 8."""
    rank, world_size = comm.get_rank(), comm.get_world_size()
    model = wrap_distributed(LeastSquares())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    writer = WriteMetrics([JSONWriter(folder / f"metrics{rank}.json")], period=1)
    batches = always(make_batch(3, size=8)[rank::world_size])
    trainer = Trainer(model, batches, optimizer, max_iter=2, hooks=[writer], max_gradient_norm=0.7)
    trainer.train()
    result = {
        "parameters": [p.tolist() for p in unwrap(model).parameters()],
        "gradients": [p.grad.tolist() for p in unwrap(model).parameters()],
        "gathered": comm.all_gather({"rank": rank}),
        "broadcast": comm.broadcast(f"from {rank}"),
        "average": comm.average(torch.tensor([1.0, rank])).tolist(),
        "is_main": comm.is_main_process(),
    }
    (folder / f"result{rank}_of_{world_size}.json").write_text(json.dumps(result))


def train_until_ctrl_c(folder):
    """Ctrl-C reaches the second process alone, before its second step."""
    rank = comm.get_rank()
    model = wrap_distributed(LeastSquares())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, always(make_batch(rank)), optimizer, max_iter=5)
    trainer.hooks = [At(1, lambda t: os.kill(os.getpid(), signal.SIGINT))] if rank == 1 else []
    try:
        trainer.train()
    finally:
        result = {"iteration": trainer.iteration, "parameters": [p.tolist() for p in unwrap(model).parameters()]}
        (folder / f"stopped{rank}.json").write_text(json.dumps(result))


def train_twice(folder):
    train(folder)
    train_until_ctrl_c(folder)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder in which two processes did both, and how their launch ended."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.raises(TrainingInterrupted) as caught:
        launch(train_twice, num_gpus=2, args=(folder,))
    return folder, caught.value.code


def read(path):
    return json.loads(path.read_text())


def losses_of(path):
    return [json.loads(line)["total_loss"] for line in path.read_text().splitlines()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a second process would need a second GPU")
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_train_as_one_does(tmp_path, two_processes, rank):
    launch(train, num_gpus=0, args=(tmp_path,))
    folder, _ = two_processes
    one, two = read(tmp_path / "result0_of_1.json"), read(folder / f"result{rank}_of_2.json")
    for name in ("parameters", "gradients"):
        for mine, other in zip(two[name], one[name], strict=True):
            assert mine == pytest.approx(other, rel=1e-12)
    assert losses_of(folder / f"metrics{rank}.json") == pytest.approx(losses_of(tmp_path / "metrics0.json"), rel=1e-12)
    assert (one["average"], one["gathered"], one["is_main"]) == ([1.0, 0.0], [{"rank": 0}], True)
    assert (two["average"], two["gathered"], two["is_main"]) == ([1.0, 0.5], [{"rank": 0}, {"rank": 1}], rank == 0)
    assert (one["broadcast"], two["broadcast"]) == ("from 0", "from 0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a second process would need a second GPU")
def test_processes_agree_where_to_stop(two_processes):
    """Ctrl-C that reaches one process stops both after the same step."""
    folder, code = two_processes
    assert code == 130
    first, second = (read(folder / f"stopped{rank}.json") for rank in range(2))
    assert first == second
    assert first["iteration"] == 2


def test_one_process_runs_here_and_now():
    here = []
    launch(here.append, num_gpus=1, args=(os.getpid(),))
    assert here == [os.getpid()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_gpus": 1, "num_machines": 2}, "tcp://.*Received: dist_url='auto', num_machines=2"),
        ({"num_gpus": 1, "num_machines": 2, "machine_rank": 2}, "Received: machine_rank=2, num_machines=2"),
        ({"num_gpus": -1}, "Received: num_gpus=-1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        launch(print, **settings)


def test_free_port_is_free():
    from dl_lib.engine.launch import _free_port

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", _free_port()))
