import logging
import os
import random

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from dl_lib.checkpoint import Checkpointer, CheckpointError, CheckpointMismatchError
from dl_lib.checkpoint.conversion.released import RELEASED_CELL_TYPES
from dl_lib.inference import fold_batch_norms, optimize
from tests.helpers.checkpoints import Values, equal_states, small_model
from tests.helpers.published import build, published_weights, released_as_ours
from tests.helpers.tiny_model import model_of

TINY_WEIGHTS = published_weights("tiny")


def train_one_step(model, optimizer):
    model(torch.randn(2, 2, 4, 4)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_model_optimizer_and_values_are_restored(tmp_path):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train_one_step(model, optimizer)
    Checkpointer(model, tmp_path, optimizer=optimizer).save("model_0", iteration=7, note="text")
    other = small_model(seed=1)
    other_optimizer = torch.optim.SGD(other.parameters(), lr=0.3, momentum=0.9)
    rest = Checkpointer(other, tmp_path, optimizer=other_optimizer).resume_or_load("unused", resume=True)
    assert rest == {"iteration": 7, "note": "text"}
    assert equal_states(model, other)
    torch.manual_seed(5)
    train_one_step(model, optimizer)
    torch.manual_seed(5)
    train_one_step(other, other_optimizer)
    assert equal_states(model, other)  # momentum and learning rate are restored too


def test_numpy_values_and_random_states_are_restored(tmp_path):
    generator = np.random.default_rng(3)
    state = Values(
        best=np.float64(0.75), count=np.int64(4), flag=np.bool_(True), table=np.arange(4.0).reshape(2, 2),
        python=random.getstate(), numpy=np.random.RandomState(1).get_state(), generator=generator.bit_generator.state,
    )  # fmt: skip
    Checkpointer(small_model(), tmp_path, state=state).save("model_0", best=np.float32(0.5))
    loaded = Values()
    rest = Checkpointer(small_model(), tmp_path, state=loaded).resume_or_load("")
    assert rest == {"best": np.float32(0.5)}
    assert {key: loaded.values[key] for key in ("best", "count", "flag")} == {"best": 0.75, "count": 4, "flag": True}
    assert np.array_equal(loaded.values["table"], [[0, 1], [2, 3]])
    random.setstate(loaded.values["python"])
    restored = np.random.RandomState()
    restored.set_state(loaded.values["numpy"])
    assert restored.rand() == np.random.RandomState(1).rand()
    assert loaded.values["generator"] == generator.bit_generator.state


def test_parallel_wrapper_affects_neither_saving_nor_loading(tmp_path):
    model = small_model()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        Checkpointer(wrapped, tmp_path).save("unwrapped")
        torch.save({"model": wrapped.state_dict()}, tmp_path / "wrapped.pth")  # keys begin with `module.`
        other = nn.parallel.DistributedDataParallel(small_model(seed=2))
        Checkpointer(other).load(tmp_path / "wrapped.pth")
        assert equal_states(other.module, model)
    finally:
        dist.destroy_process_group()
    for name in ("unwrapped", "wrapped"):
        plain = small_model(seed=3)
        Checkpointer(plain).load(tmp_path / f"{name}.pth")
        assert equal_states(plain, model)


def test_weights_of_the_published_code_load(tmp_path):
    path = tmp_path / "published.pth"
    torch.save({"model": {f"module.{key}": v for key, v in TINY_WEIGHTS.items()}, "optimizer": {"a": 1}}, path)
    model = build("tiny", device="cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rest = Checkpointer(model, tmp_path, optimizer=optimizer).resume_or_load(str(path), resume=True)
    assert rest == {"optimizer": {"a": 1}}  # returned, not loaded
    expected = released_as_ours(TINY_WEIGHTS, cell_types=RELEASED_CELL_TYPES)
    own = model.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[key], expected[key]) for key in own)


def test_mismatch_lists_missing_and_unexpected_keys(tmp_path):
    lost = "backbone.all_cell_list.1.0.res_down.1.weight"
    weights = {key: value for key, value in TINY_WEIGHTS.items() if key != lost}
    weights["sem_seg_head.extra.weight"] = torch.zeros(1)
    weights["backbone.all_cell_list.9.0.res_down.1.weight"] = torch.zeros(1)
    weights["sem_seg_head.predictor.bias"] = torch.zeros(21)
    torch.save(weights, tmp_path / "published.pth")
    model = build("tiny", device="cpu")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError) as error:
        Checkpointer(model).load(str(tmp_path / "published.pth"))
    mismatch, text = error.value.mismatch, str(error.value)
    assert mismatch.missing == ("backbone.cells.layer2_stride4.transitions.down.conv.weight",)
    assert mismatch.unexpected == ("backbone.cells.layer10_stride4.transitions.down.conv.weight",)
    assert list(mismatch.untranslated) == ["sem_seg_head.extra.weight"]
    assert mismatch.shapes == {"sem_seg_head.predictor.bias": ((21,), (19,))}
    for part in (
        *mismatch.missing,
        *mismatch.untranslated,
        "backbone.all_cell_list.9.0.res_down.1.weight",
        "NUM_CLASSES",
    ):
        assert part in text
    assert text.endswith(f"Received: path='{tmp_path / 'published.pth'}'")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("gate_on", "hint"), [(False, "the file has gates, but the model has none"), (True, "the file has no gates")]
)
def test_hint_for_gates_on_one_side_only(tmp_path, gate_on, hint):
    weights = dict(TINY_WEIGHTS)
    if gate_on:
        weights = {key: value for key, value in weights.items() if "gate_conv" not in key}
        weights["backbone.init_layer.gate_weights_beta"] = torch.ones(1, 2, 1, 1)
    torch.save({"model": weights}, tmp_path / "published.pth")
    with pytest.raises(CheckpointMismatchError, match=hint):
        Checkpointer(build("tiny", overrides=["MODEL.GATE.GATE_ON", gate_on])).load(str(tmp_path / "published.pth"))


def test_published_weights_without_gates_load_if_missing_gates_are_allowed(tmp_path, caplog):
    torch.save({"model": published_weights("tiny_nogate")}, tmp_path / "published.pth")
    model = build("tiny", device="cpu")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with caplog.at_level(logging.INFO, "dl_lib.checkpoint"):
        Checkpointer(model, tmp_path / "run").resume_or_load(
            str(tmp_path / "published.pth"), allow_missing_keys=["gate"]
        )
    file = released_as_ours(published_weights("tiny_nogate"), cell_types=RELEASED_CELL_TYPES)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if ".gate." in key else file[key]), key
    num_gates = sum(".gate." in key for key in before)
    assert num_gates > 0
    assert f"keep their initialization: all {num_gates} keys of 'gate'" in caplog.text


def test_only_allowed_keys_may_be_missing(tmp_path, caplog):
    model = small_model()  # modules 0, 1 and 2
    weights = small_model(seed=1).state_dict()
    torch.save({key: value for key, value in weights.items() if key != "2.bias"}, tmp_path / "part.pth")
    with pytest.raises(CheckpointMismatchError) as error:
        Checkpointer(model).load(tmp_path / "part.pth", allow_missing_keys=["1", "bia"])
    assert error.value.mismatch.missing == ("2.bias",)
    bias = model[2].bias.clone()
    with caplog.at_level(logging.INFO, "dl_lib.checkpoint"):
        Checkpointer(model).load(tmp_path / "part.pth", allow_missing_keys=["1", "2"])
    assert torch.equal(model[2].bias, bias) and torch.equal(model[2].weight, weights["2.weight"])
    assert "1 of 2 keys of '2'\n    2.bias" in caplog.text
    assert "of '1'" not in caplog.text
    torch.save({**weights, "3.bias": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(CheckpointMismatchError, match="only in the file"):
        Checkpointer(model).load(tmp_path / "more.pth", allow_missing_keys=["3"])


def test_resuming_requires_all_keys(tmp_path):
    model = small_model()
    Checkpointer(model[:2], tmp_path).save("model_1")
    with pytest.raises(CheckpointMismatchError, match=r"2\.\{bias, weight\}"):
        Checkpointer(model, tmp_path).resume_or_load("", allow_missing_keys=["2"])
    Checkpointer(model, tmp_path).resume_or_load(str(tmp_path / "model_1.pth"), resume=False, allow_missing_keys=["2"])


@pytest.mark.parametrize("copy", [optimize, fold_batch_norms])
def test_hint_for_optimized_models(tmp_path, copy):
    model = build("tiny", device="cpu")
    optimized = copy(model)
    hints = (
        "the model may be an optimized copy, which cannot load weights; load them into the model itself and",
        "the file may be of an optimized copy; use a checkpoint of the model itself",
    )
    for hint, target, source in zip(hints, (optimized, model), (model, optimized), strict=True):
        torch.save({"model": source.state_dict()}, tmp_path / "a.pth")
        with pytest.raises(CheckpointMismatchError, match=f"Hint: {hint}") as error:
            Checkpointer(target).load(tmp_path / "a.pth")
        assert str(error.value).count("Hint") == 1


def test_hint_for_a_network_with_a_route(tmp_path):
    torch.save({"model": model_of().state_dict()}, tmp_path / "whole.pth")
    with pytest.raises(CheckpointMismatchError, match=r"9 only in the file; .* and MODEL\.BACKBONE\.ROUTE") as error:
        Checkpointer(model_of("MODEL.BACKBONE.ROUTE", ["single_path"])).load(tmp_path / "whole.pth")
    assert "dl_lib freeze-route" in str(error.value) and "GATE_ON=True" not in str(error.value)


def test_hint_for_a_different_number_of_layers(tmp_path):
    torch.save({"model": TINY_WEIGHTS}, tmp_path / "published.pth")
    deeper = build("tiny", overrides=["MODEL.BACKBONE.LAYER_NUM", 5, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3, 4, 4, 4]])
    with pytest.raises(CheckpointMismatchError, match="different cells, 4 only in the model; ") as error:
        Checkpointer(deeper).load(str(tmp_path / "published.pth"))
    assert "GATE_ON" not in str(error.value)


def test_published_weights_need_a_dynamic_network(tmp_path):
    torch.save({"model": TINY_WEIGHTS}, tmp_path / "published.pth")
    with pytest.raises(CheckpointError, match=r"NAME=DynamicNetwork\. Received: model="):
        Checkpointer(small_model()).load(str(tmp_path / "published.pth"))


def test_batch_norm_and_frozen_batch_norm_load_each_other(tmp_path):
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4))
    model(torch.randn(2, 2, 3, 3))
    frozen = nn.Sequential(nn.Conv2d(2, 4, 1), FrozenBatchNorm2d(4))
    Checkpointer(model, tmp_path).save("batch")
    Checkpointer(frozen).load(tmp_path / "batch.pth")
    assert torch.equal(frozen[1].running_mean, model[1].running_mean)
    Checkpointer(frozen, tmp_path).save("frozen")
    again = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4))
    Checkpointer(again).load(tmp_path / "frozen.pth")
    assert torch.equal(again[1].running_var, model[1].running_var)


def exit_17(*args):
    os._exit(17)


def in_a_process_that_exits_at_rename(do):
    pid = os.fork()
    if pid == 0:
        os.replace = exit_17
        do()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 17


def test_process_killed_before_the_rename_leaves_the_old_checkpoint(tmp_path):
    old, new = small_model(seed=0), small_model(seed=1)
    Checkpointer(old, tmp_path).save("model", iteration=1)
    in_a_process_that_exits_at_rename(lambda: Checkpointer(new, tmp_path).save("model", iteration=2))
    assert (tmp_path / "model.pth.partial").exists()  # killed before the rename
    loaded = small_model(seed=2)
    checkpointer = Checkpointer(loaded, tmp_path)
    assert checkpointer.resume_or_load("") == {"iteration": 1}
    assert equal_states(loaded, old)
    assert checkpointer.get_all_checkpoint_files() == [str(tmp_path / "model.pth")]
    Checkpointer(new, tmp_path).save("model", iteration=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model.pth", "model.pth.sha256"]


def test_process_killed_while_tagging_leaves_the_old_tag(tmp_path):
    checkpointer = Checkpointer(small_model(), tmp_path)
    checkpointer.save("model_1", iteration=1)
    in_a_process_that_exits_at_rename(lambda: checkpointer.tag_last_checkpoint("model_2.pth"))
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_1.pth")


def test_object_that_cannot_be_loaded_safely_is_not_saved(tmp_path):
    checkpointer = Checkpointer(small_model(), tmp_path)
    checkpointer.save("model", iteration=1)
    with pytest.raises(CheckpointError, match=r"Received: objects of .*Values.* under one of the keys"):
        checkpointer.save("model", state=Values())
    assert checkpointer.resume_or_load("") == {"iteration": 1}


def test_without_a_checkpoint_resume_or_load_loads_the_weights(tmp_path):
    model, weights = small_model(), small_model(seed=4)
    checkpointer = Checkpointer(model, tmp_path / "run", optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    assert not checkpointer.has_checkpoint()
    assert checkpointer.resume_or_load("", resume=True) == {}
    torch.save(weights.state_dict(), tmp_path / "weights.pth")
    checkpointer.resume_or_load(str(tmp_path / "weights.pth"), resume=True)
    assert equal_states(model, weights)
    checkpointer.save("model_1")
    assert Checkpointer(model, tmp_path / "run").get_checkpoint_file() == str(tmp_path / "run" / "model_1.pth")


def test_without_save_dir_nothing_is_saved_or_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "last_checkpoint").write_text("model.pth")
    checkpointer = Checkpointer(small_model())
    checkpointer.save("model")
    assert not checkpointer.has_checkpoint()
    assert checkpointer.get_checkpoint_file() == ""
    assert checkpointer.read_own("model_best") == {}
    Checkpointer(small_model(), tmp_path / "run", save_to_disk=False).save("model")
    assert [path.name for path in tmp_path.iterdir()] == ["last_checkpoint"]


def test_resuming_requires_all_checkpointables(tmp_path):
    model = small_model()
    Checkpointer(model, tmp_path).save("model_1")
    path = tmp_path / "model_1.pth"
    torch.save({**torch.load(path, weights_only=True), 3: "a key that is not text"}, path)
    (tmp_path / "model_1.pth.sha256").unlink()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    checkpointer = Checkpointer(model, tmp_path, optimizer=optimizer)
    with pytest.raises(CheckpointError, match=r"does not contain \['optimizer'\]"):
        checkpointer.resume_or_load("")
    checkpointer.load(checkpointer.get_checkpoint_file())  # without resuming, its weights load
    with pytest.raises(KeyError, match=r"expected names of \['optimizer'\]"):
        checkpointer.load(checkpointer.get_checkpoint_file(), checkpointables=["optimiser"])


def test_optimizer_of_other_parameters_is_an_error(tmp_path):
    model = small_model()
    Checkpointer(model, tmp_path, optimizer=torch.optim.SGD(model[0].parameters(), lr=0.1)).save("model_1")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match="the checkpoint's 'optimizer' state does not match this run"):
        Checkpointer(model, tmp_path, optimizer=optimizer).resume_or_load("")


class TrainerOfThisVersion:
    """State that an older version of the library did not have."""

    def state_dict(self):
        return {"iteration": 1, "new": 2}

    def load_state_dict(self, state):
        assert state["iteration"] + state["new"] == 3


def test_checkpoint_of_another_version_cannot_resume_but_its_weights_load(tmp_path):
    model = small_model()
    Checkpointer(model, tmp_path, trainer=Values(iteration=1)).save("model_0")
    other = small_model(seed=1)
    checkpointer = Checkpointer(other, tmp_path, trainer=TrainerOfThisVersion())
    path = str(tmp_path / "model_0.pth")
    with pytest.raises(CheckpointError, match=r"has no 'new', .* another version .* MODEL\.WEIGHTS") as caught:
        checkpointer.resume_or_load("")
    assert str(caught.value).endswith(f"Received: path={path!r}")
    other = small_model(seed=1)
    Checkpointer(other, trainer=TrainerOfThisVersion()).resume_or_load(path, resume=False)
    assert equal_states(model, other)


def test_missing_file_is_reported_with_similar_names(tmp_path):
    Checkpointer(small_model(), tmp_path).save("model_0001999")
    with pytest.raises(CheckpointError, match=r"no such checkpoint file; nearest: model_0001999.pth"):
        Checkpointer(small_model()).load(str(tmp_path / "model_001999.pth"))
    with pytest.raises(CheckpointError, match="the folder does not exist"):
        Checkpointer(small_model()).load(str(tmp_path / "nowhere" / "model.pth"))


@pytest.mark.parametrize(("name", "extra"), [("a/b", {}), ("", {}), ("model", {"model": 1}), ("model", {"values": 1})])
def test_invalid_names_and_keys_are_rejected(tmp_path, name, extra):
    with pytest.raises(ValueError, match="Received: "):
        Checkpointer(small_model(), tmp_path, values=Values()).save(name, **extra)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            torch.tensor([1.0, float("nan")]),
            r"finite, not NaN or Inf; nothing was loaded\. Invalid \(1\):\n    2\.own",
        ),
        (torch.tensor([1.0, float("-inf")]).half(), r"must be finite.*\n    2\.own"),
        (torch.tensor([1, 2]), r"must be floating-point numbers.*\n    2\.own"),
    ],
)
def test_weights_that_are_not_finite_numbers_are_errors(tmp_path, value, message):
    model = small_model()
    model[2].register_buffer("own", torch.zeros(2))
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    torch.save({**before, "2.own": value}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=message):
        Checkpointer(model).load(tmp_path / "model.pth")
    assert all(torch.equal(weight, before[key]) for key, weight in model.state_dict().items())
    torch.save({**before, "extra": value}, tmp_path / "model.pth")
    Checkpointer(model).load(tmp_path / "model.pth", allow_unexpected_keys=["extra"])  # only used values are checked


def test_prefix_of_all_keys_is_named(tmp_path):
    torch.save({f"net.model.{key}": value for key, value in small_model().state_dict().items()}, tmp_path / "model.pth")
    with pytest.raises(CheckpointMismatchError, match=r"Hint: all keys of the file begin with 'net\.model\.'") as error:
        Checkpointer(small_model()).load(tmp_path / "model.pth")
    assert str(error.value).count("Hint") == 1
