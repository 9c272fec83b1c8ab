"""Keys of wrapped models, named by hand and by the wrappers themselves."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from dl_lib.checkpoint.state_dict import without_wrappers


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("module.a module.b", "a b"),
        ("_orig_mod.a.w _orig_mod.b", "a.w b"),
        ("backbone._orig_mod.stem.w head._orig_mod.x head.module.y", "backbone.stem.w head.x head.module.y"),
        ("_forward_module._orig_mod.module.a _forward_module._orig_mod.module.b", "a b"),
        ("backbone.module._orig_mod.stem.w a", "backbone.stem.w a"),
        ("_fsdp_wrapped_module.layers.0._checkpoint_wrapped_module.w", "layers.0.w"),
        ("module.module.a", "a"),
        ("n_averaged module.a", "a"),
        ("n_averaged a", "n_averaged a"),
        ("module.a b", "module.a b"),
        ("my_orig_mod.a x._orig_mod _orig_model.w", "my_orig_mod.a x._orig_mod _orig_model.w"),
        ("a._orig_mod.b a.b", "a._orig_mod.b a.b"),  # two weights must not become one
    ],
)
def test_names_without_wrappers(keys, expected):
    weights = without_wrappers({key: number for number, key in enumerate(keys.split())})
    assert list(weights) == expected.split()


def test_weights_of_torchs_own_wrappers():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2)))
    keys = list(model.state_dict())
    partly = nn.Sequential(torch.compile(model[0]), nn.DataParallel(torch.compile(model[1])))
    for wrapped in (torch.compile(model), nn.DataParallel(torch.compile(model)), AveragedModel(model), partly):
        assert list(without_wrappers(wrapped.state_dict())) == keys
