"""Export of a model to a verified file."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from dl_lib.inference.exporting.checks import (
    check_call,
    check_images,
    check_model,
    check_preprocessing,
    check_sample_size,
)
from dl_lib.inference.exporting.description import ModelDescription
from dl_lib.inference.exporting.formats import FILE_FORMATS, FileFormat, FormatName, WriteFile
from dl_lib.inference.exporting.metadata import ExportMetadata, Precision, versions
from dl_lib.inference.exporting.network import ExportedDynamicNetwork, ExportedNetwork, TracedNetwork
from dl_lib.inference.exporting.onnx_file import write_onnx
from dl_lib.inference.exporting.preprocessing import PreprocessedNetwork, normalized
from dl_lib.inference.exporting.samples import fitted_images
from dl_lib.inference.exporting.tracing import MIN_BLOCKS, trace
from dl_lib.inference.exporting.verification import Verification, VerificationError, verify
from dl_lib.modeling.meta_arch.base import SegmentationModel
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg
from dl_lib.utils.rounding import round_up

__all__ = ["export"]

_UNVERIFIED = ".unverified"  # appended to the stem until the file is verified

_log = logging.getLogger(__name__)


def export(
    model: SegmentationModel,
    path: str | os.PathLike[str],
    *,
    format: FormatName = "onnx",
    description: ModelDescription,
    size: tuple[int, int],
    dynamic_size: bool = False,
    dynamic: bool = False,
    precision: Precision = "float32",
    with_preprocessing: bool = False,
    images: Sequence[Tensor] = (),
    calibration_images: Sequence[Tensor] = (),
) -> Verification:
    """Export a model to a file that another runtime executes, and verify the file.

    The file has its name only once it is verified. Until then, and if its outputs differ, its stem ends in
    `.unverified`; an earlier file of the name is kept. After any other error, no file remains.

    Args:
        model: Model to export; it is not changed.
        path: File to write.
        format: `onnx` for ONNX Runtime and others, `torch-export` for torch, `openvino` for OpenVINO.
        description: Classes and preprocessing of the model.
        size: Height and width of the images in pixels.
        dynamic_size: Accept images of any size; `size` is used for verification.
        dynamic: Export a routed network that decides for each image which parts run, for batches of one image.
            Otherwise, all parts run.
        precision: Precision of weights and feature maps; inputs and outputs do not depend on it. `fp16` halves the
            file. `int8` quantizes them where ONNX Runtime has an operator.
        with_preprocessing: Input `image` (N, H, W, 3) uint8 RGB and output `labels` (N, H, W), instead of normalized
            images (N, 3, H, W) and `logits` (N, classes, H, W).
        images: Sample images (3, H, W), uint8 in the channel order of the model, for verification. They are resized to
            `size`; without any, images are generated.
        calibration_images: Images of the same form, of which int8 needs the ranges of the feature maps; 64 to 128 of
            the training data suffice.

    Returns:
        Differences between the file and the model.

    Raises:
        ConfigError: If the model cannot be exported like this.
        ValueError: If the model is in training mode, or images have another form.
        MissingExtraError: If libraries are missing.
        VerificationError: If the outputs differ.
    """
    path = Path(path)
    check_call(model, path, format=format, precision=precision, size=size)
    check_images(images=images, calibration_images=calibration_images)
    file_format = FILE_FORMATS[format]
    check_model(model, format=format, dynamic=dynamic, precision=precision, calibrated=bool(calibration_images))
    file_format.check_installed()
    network = _network(model, dynamic=dynamic, precision=precision, size=None if dynamic_size else size)
    metadata = _metadata(
        model,
        network,
        description=description,
        size=None if dynamic_size else size,
        size_divisor=network.size_divisor if dynamic_size and not file_format.wraps else 1,
        precision=precision,
        with_preprocessing=with_preprocessing,
    )
    check_preprocessing(metadata, size=size, format=format)
    check_sample_size(metadata, size=size, format=format)
    unverified = path.with_name(f"{path.stem}{_UNVERIFIED}{path.suffix}")
    samples = fitted_images(images, size, larger=network.size_divisor if dynamic_size else None)
    try:
        _write(network, metadata, unverified, file_format=file_format, size=size, calibration_images=calibration_images)
        _log.info("Verifying %s with %d %s images", unverified, len(samples), "sample" if images else "generated")
        verification = verify(model, file_format.open(unverified), samples)
    except BaseException:  # Ctrl-C as well
        file_format.remove(unverified)
        raise
    if not verification.passed:
        raise VerificationError(
            f"the outputs of the exported file must be those of the model; it was kept as {unverified.name} and must "
            f"not be used. Received:\n{verification}"
        )
    file_format.rename(unverified, path)
    return verification


def _write(
    network: ExportedNetwork,
    metadata: ExportMetadata,
    path: Path,
    *,
    file_format: FileFormat,
    size: tuple[int, int],
    calibration_images: Sequence[Tensor],
) -> None:
    """Trace the network and write the file."""
    dynamic_size = metadata.size is None
    _log.info(
        "Tracing the network at %dx%d%s", *size, "; large dynamic networks take minutes" if metadata.dynamic else ""
    )
    wraps = metadata.with_preprocessing and not file_format.wraps
    traced: TracedNetwork = PreprocessedNetwork(network, metadata) if wraps else network
    traced_size = _traced_size(network, size) if dynamic_size else size
    program = trace(traced, traced_size, dynamic_size=dynamic_size)
    _log.info("Converting the graph to %s", path.name)
    write = _writer(file_format, metadata, calibration_images, traced_size)
    write(program, metadata, network.size_divisor, path)


def _network(
    model: SegmentationModel, *, dynamic: bool, precision: Precision, size: tuple[int, int] | None
) -> ExportedNetwork:
    if not dynamic:
        return ExportedNetwork(model, dtype=torch.float16 if precision == "fp16" else torch.float32)
    return ExportedDynamicNetwork(cast(DynamicNet4Seg, model), size=size)


def _writer(
    file_format: FileFormat, metadata: ExportMetadata, calibration_images: Sequence[Tensor], size: tuple[int, int]
) -> WriteFile:
    """Return the function that writes the file; quantization is part of it."""
    if metadata.precision != "int8":
        return file_format.write
    images = fitted_images(calibration_images, size, larger=None)
    return partial(write_onnx, calibration=(normalized(image, metadata)[None].numpy() for image in images))


def _traced_size(network: ExportedNetwork, size: tuple[int, int]) -> tuple[int, int]:
    """Return a size of which a graph for any size can be traced, close to the given one."""
    divisor = network.size_divisor
    height, width = (max(MIN_BLOCKS * divisor, round_up(side, divisor)) for side in size)
    return height, width


def _metadata(
    model: SegmentationModel,
    network: ExportedNetwork,
    *,
    description: ModelDescription,
    size: tuple[int, int] | None,
    size_divisor: int,
    precision: Precision,
    with_preprocessing: bool,
) -> ExportMetadata:
    dynamic = isinstance(network, ExportedDynamicNetwork)
    routing: dict[str, Any] = {}
    if dynamic:
        backbone = cast(DynamicNet4Seg, model).backbone
        routing = {
            "cells_per_layer": backbone.lattice.cells_per_layer,
            "unreached": backbone.unreached.value,
            "route": () if backbone.route.is_whole else tuple(backbone.route.entries()),
        }
    return ExportMetadata(
        class_names=description.meta.class_names,
        class_colors=description.meta.class_colors,
        channel_order=description.channel_order,
        pixel_mean=tuple(model.pixel_mean.flatten().tolist()),
        pixel_std=tuple(model.pixel_std.flatten().tolist()),
        test_resize=description.test_resize,
        size=size,
        size_divisor=size_divisor,
        with_preprocessing=with_preprocessing,
        dynamic=dynamic,
        precision=precision,
        config_digest=description.config_digest,
        versions=versions(),
        **routing,
    )
