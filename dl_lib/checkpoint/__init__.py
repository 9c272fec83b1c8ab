from dl_lib.checkpoint.checkpointer import Checkpointer
from dl_lib.checkpoint.conversion import CONVERTER_REGISTRY, ConversionError, Converter, Translation
from dl_lib.checkpoint.conversion.released import is_released
from dl_lib.checkpoint.convert_file import Conversion, convert_file
from dl_lib.checkpoint.errors import CheckpointError, NoSpaceError
from dl_lib.checkpoint.locate import local_weights
from dl_lib.checkpoint.matching import CheckpointMismatchError, Mismatch
from dl_lib.checkpoint.partial_loading import allowed_keys
from dl_lib.checkpoint.weights import load_ema_weights

__all__ = [
    "CONVERTER_REGISTRY",
    "CheckpointError",
    "CheckpointMismatchError",
    "Checkpointer",
    "Conversion",
    "ConversionError",
    "Converter",
    "Mismatch",
    "NoSpaceError",
    "Translation",
    "allowed_keys",
    "convert_file",
    "is_released",
    "load_ema_weights",
    "local_weights",
]
