"""Conversion of foreign checkpoint formats."""

from dl_lib.checkpoint.conversion.classifiers import ClassifierConverter
from dl_lib.checkpoint.conversion.plain_convs import PlainConvConverter
from dl_lib.checkpoint.conversion.registry import CONVERTER_REGISTRY, ConversionError, Converter, Translation
from dl_lib.checkpoint.conversion.released import ReleasedConverter

__all__ = ["CONVERTER_REGISTRY", "ConversionError", "Converter", "Translation"]

# The last one registered is tried first: layers are converted after names.
for converter in (PlainConvConverter, ClassifierConverter, ReleasedConverter):
    CONVERTER_REGISTRY.register(converter)
