"""Exported files with the call interface of a model in evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.data.errors import InvalidSampleError
from dl_lib.inference.exporting.metadata import LABELS, LOGITS, ExportMetadata
from dl_lib.inference.exporting.preprocessing import file_input
from dl_lib.inference.exporting.signature import check_outputs
from dl_lib.inference.exporting.tracing import smallest_side
from dl_lib.modeling.costs.costs import MFLOPS_PER_GFLOP
from dl_lib.modeling.meta_arch.coarse import requested_size
from dl_lib.utils.memory_errors import is_out_of_memory

__all__ = ["ExportedModel"]


class ExportedModel(nn.Module, ABC):
    """Exported file with the call interface of a model in evaluation; several threads may call it.

    Attributes:
        metadata: Metadata of the file.
        path: The file.
    """

    def __init__(self, metadata: ExportMetadata, *, path: str) -> None:
        super().__init__()
        self.metadata, self.path = metadata, path
        self.eval()

    @abstractmethod
    def run(self, image: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return the outputs of the file by name for one image, the input `image` of the file with N = 1."""

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predict one image at a time.

        Args:
            batched_inputs: One dict per image with `image` (3, H, W), uint8 in the channel order of the metadata, and
                optionally the output size `height`, `width`.

        Returns:
            One dict per image, with what the file computes: `sem_seg`, logits (classes, height, width), or `labels`
            (height, width) for files with preprocessing; `gates` (edges,); `flops` with `real_flops` in MFLOPs.

        Raises:
            InvalidSampleError: If an image has a size that the file does not accept.
            CheckpointError: If the runtime fails, or the outputs of the file are not those of its metadata.
        """
        return [self._predict(inputs) for inputs in batched_inputs]

    def _predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        image, size = inputs["image"], requested_size(inputs)
        self._check_size(image, requested=size)
        given = file_input(image, self.metadata)
        arrays = self._outputs(given)
        rows_first = 1 if self.metadata.with_preprocessing else 2
        check_outputs(self.metadata, arrays, size=given.shape[rows_first : rows_first + 2], path=self.path)
        found = {name: torch.from_numpy(array) for name, array in arrays.items()}
        output: dict[str, Any] = {}
        if LABELS in found:
            output["labels"] = found[LABELS][0]
        else:
            output["sem_seg"] = _resized(found[LOGITS], image.shape[-2:], size)
        if "gates" in found:
            output["gates"] = found["gates"]
        if "real_gflops" in found:
            output["flops"] = {"real_flops": MFLOPS_PER_GFLOP * found["real_gflops"].item()}
        return output

    def _outputs(self, image: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return {name: np.array(output) for name, output in self.run(image).items()}
        except Exception as error:  # the types of the runtimes have no common base
            if is_out_of_memory(error):
                raise
            raise CheckpointError(
                "the runtime must be able to run the exported file; export the run again. "
                f"Received: path={self.path!r}, input of shape {image.shape}, "
                f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000]
            ) from error

    def _check_size(self, image: Tensor, *, requested: tuple[int, int]) -> None:
        size, given = self.metadata.size, tuple(image.shape[-2:])
        if size is not None and given != size:
            raise InvalidSampleError(
                f"the exported file takes images of {_text(size)} pixels (height x width) only; export the run with "
                f"--dynamic-size, or with --size {_text(given)}. Received: image of {_text(given)}"
            )
        smallest = smallest_side(self.metadata.size_divisor)
        if min(given) < smallest:
            raise InvalidSampleError(
                f"the exported program takes images of at least {_text((smallest, smallest))} pixels; export the run "
                f"with --size {_text(given)}, or to ONNX. Received: image of {_text(given)}"
            )
        if self.metadata.with_preprocessing and requested != given:
            raise InvalidSampleError(
                "an exported file with preprocessing returns labels of the size of the image; export the run without "
                f"--with-preprocessing to resize. Received: image of {_text(given)}, output of {_text(requested)}"
            )


def _resized(logits: Tensor, image_size: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Return the logits (classes, *size) of the one image, without its padding."""
    logits = logits[..., : image_size[0], : image_size[1]]
    if logits.shape[-2:] != size:
        logits = interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return logits[0]


def _text(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
