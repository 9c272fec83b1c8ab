"""Inputs and outputs of exported files: their types and shapes, as the metadata state them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.inference.exporting.metadata import INPUT_NAME, LABELS, LOGITS, ExportMetadata
from dl_lib.inference.exporting.preprocessing import fits_a_byte

__all__ = ["TensorType", "check_declared", "check_outputs", "input_type", "output_types"]

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class TensorType:
    """Type and shape of an array.

    Attributes:
        dtype: Type of the values.
        shape: Length of each axis; None for any length.
    """

    dtype: np.dtype
    shape: Shape

    def accepts(self, other: TensorType) -> bool:
        """Return whether arrays of another type may be arrays of this type; unknown lengths may be any."""
        lengths = zip(self.shape, other.shape, strict=False)
        return (
            self.dtype == other.dtype
            and len(self.shape) == len(other.shape)
            and all(None in pair or pair[0] == pair[1] for pair in lengths)
        )

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('any' if length is None else str(length) for length in self.shape)}]"


def input_type(metadata: ExportMetadata) -> TensorType:
    """Return the type of the input `image`."""
    height, width = metadata.size or (None, None)
    if metadata.with_preprocessing:
        return TensorType(np.dtype(np.uint8), (None, height, width, 3))
    return TensorType(np.dtype(np.float32), (None, 3, height, width))


def output_types(
    metadata: ExportMetadata, *, size: tuple[int | None, int | None], num_images: int | None = None
) -> dict[str, TensorType]:
    """Return the types of the outputs by name.

    Args:
        metadata: Metadata of the file.
        size: Height and width of the input in pixels; None for any.
        num_images: Number of images; None for any.
    """
    labels = np.dtype(np.uint8 if fits_a_byte(metadata) else np.int32)
    known = {
        LOGITS: TensorType(np.dtype(np.float32), (num_images, metadata.meta.num_classes, *size)),
        LABELS: TensorType(labels, (num_images, *size)),
        "gates": TensorType(np.dtype(np.float32), (len(metadata.edges),)),
        "real_gflops": TensorType(np.dtype(np.float32), ()),
    }
    return {name: known[name] for name in metadata.outputs}


def check_declared(
    metadata: ExportMetadata, *, inputs: Mapping[str, TensorType], outputs: Mapping[str, TensorType], path: str
) -> None:
    """Check the inputs and outputs that a file declares.

    Raises:
        CheckpointError: If they are not those of its metadata.
    """
    expected = {INPUT_NAME: input_type(metadata), **output_types(metadata, size=metadata.size or (None, None))}
    found = {**inputs, **outputs}
    if [*found] != [*expected] or not all(expected[name].accepts(found[name]) for name in found):
        raise CheckpointError(
            f"the inputs and outputs of an exported file must be those of its metadata, {_text(expected)}; the file "
            f"was edited or is damaged: export the run again. Received: path={path!r}, {_text(found)}"
        )


def check_outputs(
    metadata: ExportMetadata, outputs: Mapping[str, np.ndarray], *, size: tuple[int, int], path: str
) -> None:
    """Check the outputs for one image.

    Args:
        metadata: Metadata of the file.
        outputs: Outputs by name.
        size: Height and width of the input in pixels.
        path: The file.

    Raises:
        CheckpointError: If they are not those of the metadata.
    """
    expected = output_types(metadata, size=size, num_images=1)
    found = {name: TensorType(output.dtype, output.shape) for name, output in outputs.items()}
    if [*found] != [*expected] or not all(expected[name].accepts(found[name]) for name in found):
        raise _other_outputs(_text(expected), _text(found), path=path)
    if LABELS in outputs:
        low, high = outputs[LABELS].min(), outputs[LABELS].max()
        if low < 0 or high >= metadata.meta.num_classes:
            raise _other_outputs(f"labels from 0 to {metadata.meta.num_classes - 1}", f"{low} to {high}", path=path)


def _other_outputs(expected: str, found: str, *, path: str) -> CheckpointError:
    return CheckpointError(
        f"the outputs of an exported file must be those of its metadata, {expected}; the file was edited or is "
        f"damaged: export the run again. Received: path={path!r}, {found}"
    )


def _text(types: Mapping[str, TensorType]) -> str:
    return ", ".join(f"{name}: {tensor}" for name, tensor in types.items())
