"""Checks before an export: combinations of model, format and options that cannot be exported correctly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from dl_lib.config import ConfigError
from dl_lib.inference.exporting.formats import FILE_FORMATS, FormatName
from dl_lib.inference.exporting.metadata import ExportMetadata, Precision
from dl_lib.inference.exporting.tracing import MAX_SIDE_PX, smallest_side
from dl_lib.modeling.meta_arch.base import SegmentationModel
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg

__all__ = ["check_call", "check_images", "check_model", "check_preprocessing", "check_sample_size"]

_MAX_BYTES = 2**31 - 2**24  # of weights: files of ONNX have at most 2 GiB, some of them for the graph
_BYTES_PER_WEIGHT: dict[Precision, int] = {"float32": 4, "fp16": 2, "int8": 4}  # int8 is made of a file of float32


def check_call(
    model: SegmentationModel, path: Path, *, format: FormatName, precision: Precision, size: tuple[int, int]
) -> None:
    """Check arguments whose errors would otherwise appear only after the network has been traced.

    Raises:
        ConfigError: If the format, name, folder, precision or size is invalid.
        ValueError: If the model is in training mode.
    """
    if format not in FILE_FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FILE_FORMATS)}. Received: format={format!r}")
    suffixes = FILE_FORMATS[format].suffixes
    if path.suffix != suffixes[0]:
        raise ConfigError(
            f"path: the name of a file of the format {format} must end in {suffixes[0]}. Received: path={path}"
        )
    for file in map(path.with_suffix, suffixes):
        if file.is_dir():
            raise ConfigError(f"--output (path): a folder has this name; choose another one. Received: path={file}")
    if not path.parent.is_dir():
        raise ConfigError(f"path: the folder must exist; create {path.parent} first. Received: path={path}")
    if precision not in get_args(Precision):
        raise ConfigError(f"precision must be one of {', '.join(get_args(Precision))}. Received: {precision=}")
    sides = size if isinstance(size, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= MAX_SIDE_PX for side in sides):
        raise ConfigError(
            f"--size (size): height and width must be integers from 1 to {MAX_SIDE_PX}, in pixels. Received: {size=}"
        )
    if model.training:
        raise ValueError("the model must be in evaluation mode; call model.eval() first. Received: model.training=True")


def check_model(
    model: SegmentationModel, *, format: FormatName, dynamic: bool, precision: Precision, calibrated: bool
) -> None:
    """Reject models and options that cannot be exported correctly.

    Args:
        model: Model to export.
        format: Format of the file.
        dynamic: Whether each image decides which parts run.
        precision: Precision of weights and feature maps.
        calibrated: Whether there are images to calibrate int8.

    Raises:
        ConfigError: If the model cannot be exported like this.
    """
    if dynamic:
        _check_dynamic(model, precision=precision)
    if precision == "int8":
        _check_int8(format=format, calibrated=calibrated)
    if format != "torch-export":
        _check_weights(model, format=format, precision=precision)


def _check_dynamic(model: SegmentationModel, *, precision: Precision) -> None:
    if not (isinstance(model, DynamicNet4Seg) and model.backbone.has_gates):
        raise ConfigError(
            "--dynamic (dynamic=True) needs a network with learned gates; export this one without it. "
            f"Received: model={type(model).__name__}"
        )
    if precision != "float32":
        raise ConfigError(
            "--dynamic: the precision must be float32, because gates close at a threshold, where rounded feature maps "
            "would decide otherwise; export without --dynamic, or with --precision float32. "
            f"Received: --precision={precision}"
        )


def _check_int8(*, format: FormatName, calibrated: bool) -> None:
    if format != "onnx":
        raise ConfigError(
            "--precision int8: only ONNX files are quantized, by ONNX Runtime; use --format onnx, or another "
            f"precision. Received: --format={format}"
        )
    if not calibrated:
        raise ConfigError(
            "--precision int8 needs images of the dataset, from which it computes the ranges of feature maps; make "
            "the dataset available (DATASETS.TRAIN, DL_DATASETS), or use another precision. "
            "Received: calibration_images=()"
        )


def _check_weights(model: SegmentationModel, *, format: FormatName, precision: Precision) -> None:
    """Reject more weights than an ONNX file can hold; OpenVINO files are converted from one."""
    size = _BYTES_PER_WEIGHT[precision] * sum(parameter.numel() for parameter in model.parameters())
    if size > _MAX_BYTES:
        raise ConfigError(
            f"--format {format}: an ONNX file has at most 2 GiB; use --format torch-export, or --precision fp16. "
            f"Received: {size / 2**30:.1f} GiB of weights"
        )


def check_images(**images: Sequence[Tensor]) -> None:
    """Check the images for verification and calibration, by the name of their argument.

    Raises:
        ValueError: If one has another shape or dtype.
    """
    for name, given in images.items():
        if isinstance(given, Tensor) or not all(map(_is_image, given)):
            found = given if isinstance(given, Tensor) else next(image for image in given if not _is_image(image))
            raise ValueError(
                f"{name} must be a list of tensors (3, H, W), uint8 with values in 0..255 and the channel order of the "
                f"model. Received: {type(found).__name__}, shape={getattr(found, 'shape', None)}, "
                f"dtype={getattr(found, 'dtype', None)}"
            )


def _is_image(image: Any) -> bool:
    return isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and len(image) == 3


def check_sample_size(metadata: ExportMetadata, *, size: tuple[int, int], format: FormatName) -> None:
    """Reject sample images that are too small for a file that accepts images of any size.

    Raises:
        ConfigError: If one side of the images is too short.
    """
    smallest = smallest_side(metadata.size_divisor)
    if min(size) < smallest:
        raise ConfigError(
            f"--dynamic-size (dynamic_size=True): a file of the format {format} takes images of at least "
            f"{smallest}x{smallest} pixels, and so must be those that verify it; choose a fixed --size, or --format "
            f"onnx. Received: size={size[0]}x{size[1]}"
        )


def check_preprocessing(metadata: ExportMetadata, *, size: tuple[int, int], format: FormatName) -> None:
    """Reject preprocessing that cannot be part of the file.

    Raises:
        ConfigError: If images must be resized, or padded by the caller, which is only correct after normalization.
    """
    resize = metadata.test_resize
    if not metadata.with_preprocessing:
        return
    if metadata.size_divisor > 1:
        raise ConfigError(
            f"--with-preprocessing: a file of the format {format} for any size must be given padded images; choose a "
            "fixed --size, or --format onnx. Received: --dynamic-size"
        )
    if resize is not None and (metadata.size is None or not resize.keeps(size)):
        raise ConfigError(
            "--with-preprocessing: the resize of INPUT.MIN_SIZE_TEST cannot be part of the file, because other "
            "runtimes round it differently; choose a --size that it keeps, or resize images before the file is "
            f"called and export with INPUT.MIN_SIZE_TEST=0. Received: INPUT.MIN_SIZE_TEST={resize.short_edge_px}"
        )
