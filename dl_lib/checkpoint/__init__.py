from dl_lib.checkpoint.checkpointer import Checkpointer
from dl_lib.checkpoint.convert import Conversion, convert_file
from dl_lib.checkpoint.files import CheckpointError
from dl_lib.checkpoint.matching import CheckpointMismatchError, Mismatch
from dl_lib.checkpoint.released import is_released

__all__ = [
    "CheckpointError",
    "CheckpointMismatchError",
    "Checkpointer",
    "Conversion",
    "Mismatch",
    "convert_file",
    "is_released",
]
