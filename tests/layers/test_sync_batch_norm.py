"""Synchronized batch norm: two CPU processes against one process with all images.

All values are float64, so that results differ only by the order of summation.
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
BATCH_SIZES = {"equal": (2, 2), "1 + 3": (1, 3), "none + 4": (0, 4)}
TINY = [
    *("MODEL.BACKBONE.LAYER_NUM", 2, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3], "MODEL.BACKBONE.MAX_STRIDE", 16),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["layer_0", "layer_1", "layer_2"], "MODEL.SEM_SEG_HEAD.NUM_CLASSES", CLASSES),
    *("MODEL.BACKBONE.INIT_CHANNEL", 8, "INPUT.CROP_SIZE", [SIDE, SIDE], "MODEL.DEVICE", "cpu"),
    *("MODEL.GATE.GATE_INIT_BIAS", 0.2, "MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.LOSS_WEIGHT", 0.5),
    *("MODEL.BUDGET.LOSS_MU", 0.1, "MODEL.BUDGET.UNUPDATE_RATE", 0.0),
]


def four_samples():
    """Return samples with different labels; only few pixels of the third are labelled."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for ignored in (0.0, 0.5, 0.95, 0.2):
        label = torch.randint(0, CLASSES, (SIDE, SIDE), generator=generator)
        label[torch.rand(SIDE, SIDE, generator=generator) < ignored] = 255
        samples.append({"image": torch.randint(0, 256, (3, SIDE, SIDE), generator=generator), "sem_seg": label})
    return samples


def local(items, sizes=(2, 2)):
    """Return the items of this process; all of them if there is only one process."""
    if comm.get_world_size() == 1:
        return items
    start = sum(sizes[: comm.get_rank()])
    return items[start : start + sizes[comm.get_rank()]]


def train_step(norm):
    """Return losses, gradients (of the mean loss) and buffers of the routed network after one step."""
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, "MODEL.BACKBONE.NORM", norm, "MODEL.SEM_SEG_HEAD.NORM", norm])
    # nnSyncBN is SyncBN under another name: with two processes, also test it with activation checkpointing.
    cfg.MODEL.ACTIVATION_CHECKPOINTING = norm == "nnSyncBN" and comm.get_world_size() > 1
    torch.manual_seed(1)
    model = build_model(cfg).double().train()
    wrapped = model if comm.get_world_size() == 1 else nn.parallel.DistributedDataParallel(model)
    losses, _ = wrapped(local(four_samples()), step_rate=0.5)
    sum(losses.values()).backward()
    return {
        "losses": {name: comm.average(loss.detach()) for name, loss in losses.items()},
        "gradients": {name: p.grad for name, p in model.named_parameters()},
        "buffers": dict(model.named_buffers()),
    }


def layer_step(sizes):
    """Return outputs, gradients (of the sum) and buffers of a norm, for unequal batch sizes."""
    generator = torch.Generator().manual_seed(2)
    maps, weights = (torch.randn(4, CHANNELS, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    norm = make_norm("SyncBN", CHANNELS).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, CHANNELS))
    x = (local(maps, sizes) * 3 + 1000).requires_grad_()
    for _ in range(2):  # running statistics average over steps
        output = norm(x)
    (output * local(weights, sizes)).sum().backward()
    parameters = [comm.average(p.grad) * comm.get_world_size() for p in norm.parameters()]
    return {
        "each": [torch.cat(comm.all_gather(values)) for values in (output.detach(), x.grad)],
        "all": [*parameters, *norm.buffers()],
    }


def all_results():
    return {
        "models": {norm: train_step(norm) for norm in NORMS},
        "layers": {name: layer_step(sizes) for name, sizes in BATCH_SIZES.items()},
    }


def save_all_results(folder):
    torch.set_num_threads(1)
    torch.save(all_results(), folder / f"{comm.get_rank()}.pth")


@pytest.fixture(scope="module")
def one():
    return all_results()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Results of each of two processes."""
    folder = tmp_path_factory.mktemp("two")
    launch(save_all_results, ProcessRequest(2), device="cpu", args=(folder,))
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(2)]


def assert_equal(found, expected, *, names=None):
    for name in expected if names is None else names:
        torch.testing.assert_close(
            found[name], expected[name], rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("norm", ["SyncBN", "nnSyncBN", "FrozenBN", "GN"])
def test_two_processes_with_two_images_equal_one_with_four(one, two, norm):
    expected = one["models"][norm]
    assert {"loss_sem_seg", "loss_budget"} <= expected["losses"].keys()
    for process in two:
        for kind in ("losses", "gradients", "buffers"):
            assert_equal(process["models"][norm][kind], expected[kind])


def test_plain_batch_norm_uses_local_statistics(one, two):
    """The local means of the network's first norm, which depends on the images only, average to the global mean."""
    buffers = one["models"]["BN"]["buffers"]
    first = next(name for name in buffers if name.startswith("backbone.stem") and name.endswith("running_mean"))
    statistics = [process["models"]["BN"]["buffers"][first] for process in two]
    assert not torch.allclose(*statistics)
    torch.testing.assert_close(sum(statistics) / 2, buffers[first], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sizes", BATCH_SIZES)
def test_unequal_batch_sizes_are_weighted(one, two, sizes):
    for process in two:
        for kind in ("each", "all"):
            for found, expected in zip(process["layers"][sizes][kind], one["layers"][sizes][kind], strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_single_process_equals_batch_norm():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, CHANNELS, 3, 4, generator=generator)
    synchronized, plain = make_norm("SyncBN", CHANNELS), nn.BatchNorm2d(CHANNELS)
    for _ in range(2):
        assert torch.equal(synchronized(x), plain(x))
        assert all(torch.equal(*pair) for pair in zip(synchronized.buffers(), plain.buffers(), strict=True))
        synchronized.eval()
        plain.eval()
    assert synchronized.state_dict().keys() == plain.state_dict().keys()
    assert isinstance(
        synchronized, nn.BatchNorm2d
    )  # folding, cost counters and precise batch norm check for this class
