"""Communication with one process; tests/engine/test_two_processes.py tests it with two."""

import torch

from dl_lib.utils import comm


def test_single_process():
    comm.synchronize()
    assert (comm.get_rank(), comm.get_world_size(), comm.is_main_process()) == (0, 1, True)
    assert comm.all_gather({"a": 1}) == [{"a": 1}]
    assert comm.broadcast("x") == "x"
    assert torch.equal(comm.average(torch.tensor([1.5, 2.0])), torch.tensor([1.5, 2.0]))
