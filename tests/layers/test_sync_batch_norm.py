"""Two processes on the CPU against one that has all images: with synchronised norms they are the same.

In float64, so that nothing but the order of sums is left between them.
"""

import pytest
import torch
from torch import nn

from dl_lib.config import get_cfg
from dl_lib.launch import ProcessRequest
from dl_lib.launch.launch import launch
from dl_lib.layers import make_norm
from dl_lib.modeling import build_model
from dl_lib.utils import comm

CLASSES, SIDE, CHANNELS = 5, 32, 6
NORMS = ("SyncBN", "nnSyncBN", "FrozenBN", "GN", "BN")
SHARES = {"equal": (2, 2), "1 + 3": (1, 3), "none + 4": (0, 4)}
TINY = [
    *("MODEL.BACKBONE.LAYER_NUM", 2, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3], "MODEL.BACKBONE.MAX_STRIDE", 16),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1", "layer_2"], "MODEL.SEM_SEG_HEAD.NUM_CLASSES", CLASSES),
    *("MODEL.BACKBONE.INIT_CHANNEL", 8, "INPUT.CROP_SIZE", [SIDE, SIDE], "MODEL.DEVICE", "cpu"),
    *("MODEL.GATE.GATE_INIT_BIAS", 0.2, "MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.LOSS_WEIGHT", 0.5),
    *("MODEL.BUDGET.LOSS_MU", 0.1, "MODEL.BUDGET.UNUPDATE_RATE", 0.0),
]


def four_samples():
    """Of the labels, each image has others; of the third only a few pixels are labelled."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for ignored in (0.0, 0.5, 0.95, 0.2):
        label = torch.randint(0, CLASSES, (SIDE, SIDE), generator=generator)
        label[torch.rand(SIDE, SIDE, generator=generator) < ignored] = 255
        samples.append({"image": torch.randint(0, 256, (3, SIDE, SIDE), generator=generator), "sem_seg": label})
    return samples


def mine(items, shares=(2, 2)):
    """This process's share of them; all if there is only one process."""
    if comm.get_world_size() == 1:
        return items
    start = sum(shares[: comm.get_rank()])
    return items[start : start + shares[comm.get_rank()]]


def train_step(norm):
    """Losses, gradients and buffers of the routed network after one step; its gradients are those of the mean loss."""
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, "MODEL.BACKBONE.NORM", norm, "MODEL.SEM_SEG_HEAD.NORM", norm])
    # Of two equal norms one is computed twice where there are two processes, which changes nothing.
    cfg.MODEL.ACTIVATION_CHECKPOINTING = norm == "nnSyncBN" and comm.get_world_size() > 1
    torch.manual_seed(1)
    model = build_model(cfg).double().train()
    wrapped = model if comm.get_world_size() == 1 else nn.parallel.DistributedDataParallel(model)
    losses, _ = wrapped(mine(four_samples()), step_rate=0.5)
    sum(losses.values()).backward()
    return {
        "losses": {name: comm.average(loss.detach()) for name, loss in losses.items()},
        "gradients": {name: p.grad for name, p in model.named_parameters()},
        "buffers": dict(model.named_buffers()),
    }


def layer_step(shares):
    """What a norm gives and gets, for maps that are shared out unequally; gradients are those of the sum."""
    generator = torch.Generator().manual_seed(2)
    maps, towards = (torch.randn(4, CHANNELS, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    norm = make_norm("SyncBN", CHANNELS).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, CHANNELS))
    x = (mine(maps, shares) * 3 + 1000).requires_grad_()
    for _ in range(2):  # running statistics are an average over steps
        output = norm(x)
    (output * mine(towards, shares)).sum().backward()
    parameters = [comm.average(p.grad) * comm.get_world_size() for p in norm.parameters()]
    return {
        "each": [torch.cat(comm.all_gather(values)) for values in (output.detach(), x.grad)],
        "all": [*parameters, *norm.buffers()],
    }


def everything():
    return {
        "models": {norm: train_step(norm) for norm in NORMS},
        "layers": {name: layer_step(shares) for name, shares in SHARES.items()},
    }


def save_everything(folder):
    torch.set_num_threads(1)
    torch.save(everything(), folder / f"{comm.get_rank()}.pth")


@pytest.fixture(scope="module")
def one():
    return everything()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes has come to."""
    folder = tmp_path_factory.mktemp("two")
    launch(save_everything, ProcessRequest(2), device="cpu", args=(folder,))
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(2)]


def assert_equal(found, expected, *, names=None):
    for name in expected if names is None else names:
        torch.testing.assert_close(
            found[name], expected[name], rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("norm", ["SyncBN", "nnSyncBN", "FrozenBN", "GN"])
def test_two_processes_with_two_images_are_one_with_four(one, two, norm):
    expected = one["models"][norm]
    assert {"loss_sem_seg", "loss_budget"} <= expected["losses"].keys()
    for process in two:
        for what in ("losses", "gradients", "buffers"):
            assert_equal(process["models"][norm][what], expected[what])


def test_norms_that_are_not_synchronised_see_their_own_images(one, two):
    """Of the first norm of the network, which follows a convolution of the images, the means average to the whole's."""
    buffers = one["models"]["BN"]["buffers"]
    first = next(name for name in buffers if name.startswith("backbone.stem") and name.endswith("running_mean"))
    statistics = [process["models"]["BN"]["buffers"][first] for process in two]
    assert not torch.allclose(*statistics)
    torch.testing.assert_close(sum(statistics) / 2, buffers[first], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shares", SHARES)
def test_unequal_shares_are_weighed_by_how_much_they_hold(one, two, shares):
    for process in two:
        for what in ("each", "all"):
            for found, expected in zip(process["layers"][shares][what], one["layers"][shares][what], strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_in_one_process_it_is_a_batch_norm():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, CHANNELS, 3, 4, generator=generator)
    synchronised, plain = make_norm("SyncBN", CHANNELS), nn.BatchNorm2d(CHANNELS)
    for _ in range(2):
        assert torch.equal(synchronised(x), plain(x))
        assert all(torch.equal(*pair) for pair in zip(synchronised.buffers(), plain.buffers(), strict=True))
        synchronised.eval()
        plain.eval()
    assert synchronised.state_dict().keys() == plain.state_dict().keys()
    assert isinstance(synchronised, nn.BatchNorm2d)  # what folding, costs and precise statistics look for
