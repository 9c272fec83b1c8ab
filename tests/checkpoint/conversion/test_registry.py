import dataclasses

import pytest
import torch

from dl_lib.checkpoint import Checkpointer, CheckpointError
from dl_lib.checkpoint.conversion import CONVERTER_REGISTRY, ConversionError
from tests.helpers.checkpoints import equal_states, small_model


class UpperCaseConverter:
    """Converter for a format with key names in upper case."""

    def recognises(self, weights, *, model):
        return all(key.isupper() for key in weights if "." in key)

    def translate(self, file, *, model):
        if not isinstance(model, torch.nn.Sequential):
            raise ConversionError(f"not a Sequential. Received: model={type(model).__name__}")
        weights = {key.lower(): value for key, value in file.weights.items()}
        return dataclasses.replace(file, weights=weights, original_names={key: key.upper() for key in weights})


@pytest.fixture
def upper_case_format(monkeypatch):
    monkeypatch.setattr(CONVERTER_REGISTRY, "_obj_map", dict(CONVERTER_REGISTRY))
    CONVERTER_REGISTRY.register(UpperCaseConverter)


@pytest.mark.usefixtures("upper_case_format")
def test_registered_format_loads_without_its_optimizer(tmp_path):
    saved, loaded = small_model(), small_model(seed=1)
    weights = {key.upper(): value for key, value in saved.state_dict().items()}
    torch.save({"model": weights, "optimizer": {"state": {}}}, tmp_path / "upper.pth")
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    rest = Checkpointer(loaded, optimizer=optimizer).load(tmp_path / "upper.pth")
    assert equal_states(saved, loaded)
    assert rest == {"optimizer": {"state": {}}}


@pytest.mark.usefixtures("upper_case_format")
def test_error_of_a_converter_names_the_file(tmp_path):
    torch.save({"model": {"A.WEIGHT": torch.zeros(1)}}, tmp_path / "upper.pth")
    with pytest.raises(CheckpointError, match=r"Received: model=Linear, path='.*upper\.pth'$"):
        Checkpointer(torch.nn.Linear(1, 1)).load(tmp_path / "upper.pth")
