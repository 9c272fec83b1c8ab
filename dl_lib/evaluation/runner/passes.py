"""Multi-pass inference: sliding windows, multi-scale and horizontal flip (test-time augmentation).

Logits are accumulated at the requested size, as in the published code, in a single tensor; temporary tensors hold at
most one class. The cost of an image is the sum over its passes; the published code reported the first pass only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from dl_lib.config import ConfigError
from dl_lib.config.choices import ResizeBackend
from dl_lib.data.transforms.resize import Resize
from dl_lib.evaluation.runner.windows import run_in_windows
from dl_lib.modeling.costs.costs import Costs
from dl_lib.modeling.meta_arch.coarse import CoarseLogits, CoarsePrediction, requested_size

__all__ = ["MultiPassModel", "build_inference_model"]


class MultiPassModel(nn.Module):
    """Model wrapper for inference with several forward passes per image; has the interface of the model.

    Args:
        model: Model with `predict_coarse`, see `DynamicNet4Seg`.
        scales: Scale factors of the image.
        flip: Whether to run the horizontally flipped image as well.
        window: Sliding window (height, width) in pixels, applied at every scale; None for the whole image.
        overlap: Minimum overlap of adjacent windows, as a fraction of the window.
        backend: Library that resizes images.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        window: tuple[int, int] | None = None,
        overlap: float = 0.0,
        backend: ResizeBackend = "cv2",
    ) -> None:
        super().__init__()
        self.model = model
        self.scales = tuple(scales)
        self.flip = flip
        self.window = window
        self.overlap = overlap
        self.backend = backend

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predict one image at a time.

        Args:
            batched_inputs: One dict per image with `image` (3, H, W), uint8 if it is resized, and optionally the
                output size `height`, `width`.

        Returns:
            One dict per image. `sem_seg`: logits (classes, height, width), the mean over the passes (over windows
            first). `flops`: MFLOPs, the sum over the passes. `gates`: mean over the passes (E,), if there are gates.
            `input_sizes`: (height, width) of each pass, without padding.
        """
        return [self._predict(inputs) for inputs in batched_inputs]

    def _predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        totals = _PassTotals()
        size, total, views = requested_size(inputs), None, 0
        for image, flipped in self._views(inputs["image"]):
            logits = self._run(image, totals=totals)
            total = logits.new_zeros(size) if total is None else total
            logits.add_to(total, flipped=flipped)
            views += 1
        assert total is not None, "there is at least one scale"
        total /= views
        return {"sem_seg": total, **totals.as_output()}

    def _views(self, image: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """Yield the input of each pass, and whether it is flipped."""
        for scale in self.scales:
            scaled = self._scaled(image, scale)
            yield scaled, False
            if self.flip:
                yield scaled.flip(-1), True

    def _scaled(self, image: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return image
        if image.dtype != torch.uint8:
            raise ValueError(f"image must be uint8 (0..255) to be resized. Received: image.dtype={image.dtype}")
        height, width = (max(1, round(side * scale)) for side in image.shape[-2:])
        pixels = image.permute(1, 2, 0).cpu().numpy()
        return torch.tensor(Resize(height, width, self.backend).apply_image(pixels)).permute(2, 0, 1)

    def _run(self, image: Tensor, *, totals: _PassTotals) -> CoarseLogits:
        model: Any = self.model  # nn.Module does not declare predict_coarse

        def run(view: Tensor) -> CoarseLogits:
            (prediction,) = model.predict_coarse([{"image": view}])
            totals.add(prediction)
            return cast(CoarseLogits, prediction.logits)

        if self.window is None:
            return run(image)
        return run_in_windows(image, run=run, window=self.window, overlap=self.overlap)


class _PassTotals:
    """Costs, gates and input sizes of the passes over one image."""

    def __init__(self) -> None:
        self._costs: list[Costs[float]] = []
        self._gates: list[Tensor] = []
        self._sizes: list[tuple[int, int]] = []

    def add(self, prediction: CoarsePrediction) -> None:
        self._costs.append(prediction.costs)
        if prediction.gates is not None:
            self._gates.append(prediction.gates)
        self._sizes.append(prediction.logits.size)

    def as_output(self) -> dict[str, Any]:
        output = {"flops": sum(self._costs[1:], self._costs[0]).to_flops_dict(), "input_sizes": tuple(self._sizes)}
        return {**output, "gates": torch.stack(self._gates).mean(dim=0)} if self._gates else output


def build_inference_model(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return the model, wrapped in `MultiPassModel` if the configuration requests several passes.

    Raises:
        ConfigError: If several passes are requested and the model does not support them.
    """
    sliding, multi_scale = cfg.TEST.SLIDING, cfg.TEST.MULTI_SCALE
    if not sliding.WINDOW and list(multi_scale.SCALES) == [1.0] and not multi_scale.FLIP:
        return model
    if not hasattr(model, "predict_coarse"):
        raise ConfigError(
            "TEST.SLIDING and TEST.MULTI_SCALE need a model with predict_coarse (see DynamicNet4Seg); keep their "
            f"defaults for this model. Received: model={type(model).__name__}"
        )
    return MultiPassModel(
        model,
        scales=multi_scale.SCALES,
        flip=multi_scale.FLIP,
        window=tuple(sliding.WINDOW) or None,
        overlap=sliding.OVERLAP,
        backend=cfg.INPUT.BACKEND,
    )
