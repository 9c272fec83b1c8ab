"""Registry of checkpoint converters: foreign names and layouts of weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from fvcore.common.registry import Registry
from torch import Tensor, nn

__all__ = ["CONVERTER_REGISTRY", "ConversionError", "Converter", "Translation", "convert"]

CONVERTER_REGISTRY = Registry("CONVERTER")
CONVERTER_REGISTRY.__doc__ = """Checkpoint formats that load without a separate conversion: `Converter` classes.

Every class is instantiated without arguments. Converters are tried in reverse order of registration, each on the result
of the previous ones, so that a new format takes precedence over the built-in ones.
"""


class ConversionError(ValueError):
    """Weights that belong to a different kind of model."""


@dataclass(frozen=True)
class Translation:
    """State dict under the names of this library.

    Attributes:
        weights: Key of this library -> tensor.
        original_names: Key of this library -> key in the file, for renamed keys. Empty for checkpoints of this library.
        untranslated: Keys of the file without a counterpart -> reason.
        file_keys: All keys of the file.
    """

    weights: Mapping[str, Tensor]
    original_names: Mapping[str, str] = field(default_factory=dict)
    untranslated: Mapping[str, str] = field(default_factory=dict)
    file_keys: Collection[str] = ()


class Converter(Protocol):
    """Converter of one checkpoint format, registered with `@CONVERTER_REGISTRY.register()`."""

    def recognises(self, weights: Mapping[str, Tensor], *, model: nn.Module) -> bool:
        """Return whether a state dict has this format and must be converted for the model."""

    def translate(self, file: Translation, *, model: nn.Module) -> Translation:
        """Return the state dict converted for the model.

        Raises:
            ConversionError: If the weights belong to a different kind of model.
        """


def convert(weights: Mapping[str, Tensor], *, model: nn.Module) -> Translation:
    """Translate a state dict for a model with all registered converters that recognise it.

    Raises:
        ConversionError: If the weights belong to a different kind of model.
    """
    file = Translation(weights)
    for _, factory in reversed(list(CONVERTER_REGISTRY)):
        converter: Converter = factory()
        if converter.recognises(file.weights, model=model):
            file = converter.translate(file, model=model)
    return dataclasses.replace(file, file_keys=weights.keys())
