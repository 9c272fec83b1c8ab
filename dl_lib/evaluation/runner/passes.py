"""Several passes of the network over one image: in windows, at several scales, mirrored.

Raw logits are added up at the size asked for, as in the published code, into one tensor that is never copied; what is
beside it is a class or smaller. An image costs what its passes cost together; the published code reported the costs of
the first pass only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

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


class CoarseModel(Protocol):
    """A model that can be asked for its logits before they are resized."""

    def predict_coarse(self, batched_inputs: Sequence[dict[str, Any]]) -> list[CoarsePrediction]: ...


class MultiPassModel(nn.Module):
    """A model's evaluation, with several passes for each image; called as the model itself.

    Args:
        model: with `predict_coarse`, see `DynamicNet4Seg`.
        scales: shares of the image's size that it is run at.
        flip: run its mirror image, too.
        window: (height, width) in pixels of the windows that all this is done in; None for none.
        overlap: of neighbouring windows, at least, as a share of the window.
        backend: how images are resized.
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
        """Predictions, one image after the other.

        Args:
            batched_inputs: for each image `image` (3, H, W), uint8 if it is to be resized; `height`, `width`, if
                another size than the image's is wanted.

        Returns:
            For each image `sem_seg`: logits (classes, height, width), the mean over the passes (windows are averaged
            first); `flops`: MFLOPs, the sum over the passes; `gates`: (E,) mean over the passes, where there are gates;
            `input_sizes`: the (height, width) of each pass, without padding.
        """
        return [self._predict(inputs) for inputs in batched_inputs]

    def _predict(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        account = _Account()
        size, total, views = requested_size(inputs), None, 0
        for image, mirrored in self._views(inputs["image"]):
            logits = self._run(image, account=account)
            total = logits.new_zeros(size) if total is None else total
            logits.add_to(total, flipped=mirrored)
            views += 1
        assert total is not None, "there is at least one scale"
        total /= views
        return {"sem_seg": total, **account.as_output()}

    def _views(self, image: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """Everything that is run, and whether it is mirrored."""
        for scale in self.scales:
            scaled = self._scaled(image, scale)
            yield scaled, False
            if self.flip:
                yield scaled.flip(-1), True

    def _scaled(self, image: Tensor, scale: float) -> Tensor:
        if scale == 1:
            return image
        if image.dtype != torch.uint8:
            raise ValueError(f"images are resized as uint8, 0..255. Received: image.dtype={image.dtype}")
        height, width = (max(1, round(side * scale)) for side in image.shape[-2:])
        pixels = image.permute(1, 2, 0).cpu().numpy()
        return torch.tensor(Resize(height, width, self.backend).apply_image(pixels)).permute(2, 0, 1)

    def _run(self, image: Tensor, *, account: _Account) -> CoarseLogits:
        model: CoarseModel = self.model  # type: ignore[assignment]  # what a module offers, mypy does not know

        def run(view: Tensor) -> CoarseLogits:
            (prediction,) = model.predict_coarse([{"image": view}])
            account.add(prediction)
            return prediction.logits

        if self.window is None:
            return run(image)
        return run_in_windows(image, run=run, window=self.window, overlap=self.overlap)


class _Account:
    """What the passes over one image cost together, and by which routes they went."""

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
    """The model as the configuration wants images run: itself, if once and as they are.

    Raises:
        ConfigError: if several passes are asked for, and the model cannot do with them.
    """
    sliding, multi_scale = cfg.TEST.SLIDING, cfg.TEST.MULTI_SCALE
    if not sliding.WINDOW and list(multi_scale.SCALES) == [1.0] and not multi_scale.FLIP:
        return model
    if not hasattr(model, "predict_coarse"):
        raise ConfigError(
            "this model cannot be run in windows, at several scales or mirrored: it has no predict_coarse (see "
            f"DynamicNet4Seg); leave TEST.SLIDING and TEST.MULTI_SCALE as they are. Received: {type(model).__name__}"
        )
    return MultiPassModel(
        model,
        scales=multi_scale.SCALES,
        flip=multi_scale.FLIP,
        window=tuple(sliding.WINDOW) or None,
        overlap=sliding.OVERLAP,
        backend=cfg.INPUT.BACKEND,
    )
