"""Partial loading: only allowed keys may be missing, unexpected or of different shape, and each is logged."""

import logging
import re
from collections import OrderedDict

import pytest
import torch
from torch import nn

from dl_lib.checkpoint import Checkpointer, CheckpointMismatchError
from dl_lib.checkpoint.conversion.released import RELEASED_CELL_TYPES
from tests.helpers.published import build, published_weights, released_as_ours


def classifier(*, classes, last="predictor", seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict([("body", nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))), (last, nn.Linear(4, classes))])
    )


def load(model, path, caplog, **names):
    """Return the log output of a load."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "dl_lib.checkpoint"):
        Checkpointer(model).load(path, **names)
    return caplog.text


def values(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_predictor_with_other_classes_keeps_its_initialization(tmp_path, caplog):
    file, model = values(classifier(classes=19)), classifier(classes=11, seed=1)
    torch.save({"model": file}, tmp_path / "a.pth")
    before = values(model)
    with pytest.raises(CheckpointMismatchError, match="Size mismatch"):
        Checkpointer(model).load(tmp_path / "a.pth", allow_missing_keys=["body"])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    text = load(model, tmp_path / "a.pth", caplog, allow_missing_keys=["predictor"])
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("predictor") else file[key]), key
    assert "Keys with size mismatch keep their initialization: all 2 keys of 'predictor'\n" in text
    assert "predictor.weight: (19, 4) in the file, (11, 4) in the model" in text
    assert "body" not in text


def test_missing_keys_and_size_mismatch_in_one_file(tmp_path, caplog):
    file = values(classifier(classes=19))
    del file["body.0.bias"]
    torch.save({"model": file}, tmp_path / "a.pth")
    model = classifier(classes=11, seed=1)
    text = load(model, tmp_path / "a.pth", caplog, allow_missing_keys=["body", "predictor"])
    assert "Missing keys keep their initialization: 1 of 7 keys of 'body'\n    body.0.bias" in text
    assert "all 2 keys of 'predictor'" in text
    assert torch.equal(model.body[0].weight, file["body.0.weight"])


def test_unexpected_keys_are_ignored_only_where_allowed(tmp_path, caplog):
    file = values(classifier(classes=1000, last="fc"))
    torch.save({"model": file}, tmp_path / "a.pth")
    model = classifier(classes=11, seed=1)
    with pytest.raises(CheckpointMismatchError, match=r"e\.g\. \[fc, scale\]"):
        torch.save({"model": {**file, "fc.1.0.weight": torch.zeros(1), "scale": torch.zeros(1)}}, tmp_path / "b.pth")
        Checkpointer(model).load(tmp_path / "b.pth")
    names = {"allow_missing_keys": ["predictor"], "allow_unexpected_keys": ["fc"]}
    for fewer in ({"allow_missing_keys": ["predictor"]}, {**names, "allow_unexpected_keys": ["f", "c", "body"]}):
        with pytest.raises(CheckpointMismatchError) as error:
            Checkpointer(model).load(tmp_path / "a.pth", **fewer)
        assert error.value.mismatch.unexpected == ("fc.weight", "fc.bias")
        assert "MODEL.ALLOW_UNEXPECTED_KEYS, e.g. [fc]" in str(error.value)
    text = load(model, tmp_path / "a.pth", caplog, **names)
    assert "Unexpected keys are ignored: all 2 keys of 'fc'\n" in text
    assert "Missing keys keep their initialization: all 2 keys of 'predictor'" in text
    assert torch.equal(model.body[1].weight, file["body.1.weight"])


def test_following_the_hints_makes_the_file_load(tmp_path):
    file = values(classifier(classes=1000, last="fc"))
    del file["body.0.bias"], file["body.1.weight"], file["body.1.bias"]
    torch.save({"model": file}, tmp_path / "a.pth")
    model = classifier(classes=11, seed=1)
    with pytest.raises(CheckpointMismatchError) as error:
        Checkpointer(model).load(tmp_path / "a.pth")
    hints = dict(re.findall(r"MODEL\.(ALLOW_\w+), e\.g\. \[(.*)\]", str(error.value)))
    assert hints == {"ALLOW_UNEXPECTED_KEYS": "fc", "ALLOW_MISSING_KEYS": "bias, weight, predictor"}
    Checkpointer(model).load(tmp_path / "a.pth", **{key.lower(): names.split(", ") for key, names in hints.items()})
    assert torch.equal(model.body[0].weight, file["body.0.weight"])


def test_hints_name_the_largest_unmatched_modules(tmp_path):
    def sequence(blocks, **more):
        return nn.Sequential(OrderedDict(blocks=nn.ModuleList(nn.Linear(2, 2) for _ in range(blocks)), **more))

    torch.save({"model": values(sequence(3, fc=nn.Linear(2, 9)))}, tmp_path / "a.pth")
    with pytest.raises(CheckpointMismatchError, match=r"ALLOW_UNEXPECTED_KEYS, e\.g\. \[blocks\.2, fc\]"):
        Checkpointer(sequence(2)).load(tmp_path / "a.pth")
    cut = r"ALLOW_MISSING_KEYS, e\.g\. \[blocks\.3, .*, blocks\.14, …\]"
    with pytest.raises(CheckpointMismatchError, match=cut):
        Checkpointer(sequence(20)).load(tmp_path / "a.pth")


def test_file_without_any_matching_key_gets_no_hint(tmp_path):
    torch.save({"model": {"fc.weight": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointMismatchError) as error:
        Checkpointer(classifier(classes=11)).load(tmp_path / "a.pth")
    assert "ALLOW_MISSING_KEYS" not in str(error.value)


def test_matching_keys_are_loaded_even_if_allowed_to_be_unexpected(tmp_path):
    file = values(classifier(classes=11))
    torch.save({"model": file}, tmp_path / "a.pth")
    model = classifier(classes=11, seed=1)
    Checkpointer(model).load(tmp_path / "a.pth", allow_unexpected_keys=["predictor", "body"])
    assert all(torch.equal(value, file[key]) for key, value in model.state_dict().items())


def test_published_classifier_initializes_the_backbone(tmp_path, caplog):
    """`allow_unexpected_keys` refers to the key names in the file."""
    published = published_weights("tiny_nogate")
    backbone = {key: value for key, value in published.items() if key.startswith("backbone.")}
    head = {"linear.weight": torch.zeros(1000, 128), "linear.bias": torch.zeros(1000)}
    unknown = {"backbone.all_cell_list.1.0.extra.weight": torch.zeros(1)}
    deeper = {"backbone.all_cell_list.9.0.res_down.1.weight": torch.zeros(1)}  # translatable
    torch.save({"model": {**backbone, **head, **unknown, **deeper}}, tmp_path / "published.pth")
    model = build("tiny", device="cpu")
    before = values(model)
    names = {"allow_missing_keys": ["gate", "sem_seg_head"], "allow_unexpected_keys": ["linear", "all_cell_list.9"]}
    with pytest.raises(CheckpointMismatchError, match=r"all_cell_list\.1\.0\.extra\.weight") as error:
        Checkpointer(model).load(tmp_path / "published.pth", **names)
    assert list(error.value.mismatch.untranslated) == list(unknown)
    assert error.value.mismatch.unexpected == ()
    names["allow_unexpected_keys"].append("extra")
    text = load(model, tmp_path / "published.pth", caplog, **names)
    ours = released_as_ours(backbone, cell_types=RELEASED_CELL_TYPES)
    for key, value in model.state_dict().items():
        assert torch.equal(value, ours[key] if key in ours else before[key]), key
    for part in (
        "all 2 keys of 'linear'",
        "all 1 keys of 'extra'",
        "all 112 keys of 'gate'",
        "all 26 keys of 'sem_seg_head'",
    ):
        assert part in text


def test_long_list_of_ignored_keys_is_truncated(tmp_path, caplog):
    extra = {f"0.extra.{number}.a": torch.zeros(1) for number in range(50)}
    torch.save({"model": {**extra, "0.weight": torch.zeros(2, 2)}}, tmp_path / "a.pth")
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    text = load(model, tmp_path / "a.pth", caplog, allow_unexpected_keys=["0"])
    assert "ignored: 50 of 51 keys of '0'\n    0.extra.0.a\n" in text
    assert text.count("\n    0.extra.") == 20
    assert "... and 30 more lines" in text
