"""Subcommand `dl_lib export`: a trained model as a file that other runtimes execute."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import image_size, local_path
from dl_lib.cli.arguments import parse_arguments, trained_run_parser
from dl_lib.cli.errors import FAILED_STATUS, user_errors
from dl_lib.config import CfgNode, ConfigError
from dl_lib.experiment.trained_run import load_trained_model, load_trained_run
from dl_lib.utils.output_path import prepare_folder
from dl_lib.utils.run_files import EXPORT_STEM

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["main"]

_SUFFIXES = {"onnx": ".onnx"}
_NUM_SAMPLES = 4  # images of the dataset for verification
_NOTES = """
files:
  input `image`: normalized images (N, 3, H, W), float32; output `logits`
  (N, classes, H, W). With --with-preprocessing: images (N, H, W, 3), uint8 RGB, and
  `labels` (N, H, W). --dynamic adds `gates` (edges) and `real_gflops`, for N = 1.
  The file contains classes, colors and preprocessing as metadata.
verification:
  the file is run on images of the dataset, or on generated ones, and compared with
  the model in PyTorch; the exit status is 1 if the outputs differ.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib export") -> None:
    """Write and verify a file; see `dl_lib export --help`."""
    arguments = _parse(argv, prog=prog)
    with user_errors(prog):
        _export(arguments)


def _parse(argv: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = trained_run_parser(
        prog=prog,
        description="Export a trained model to a file that other runtimes execute, and verify that it computes what "
        "the model computes in PyTorch.",
        notes=_NOTES,
    )
    add = parser.add_argument
    add("--format", choices=tuple(_SUFFIXES), required=True, help="format of the file")
    add("--dynamic", action="store_true", help="each image decides which parts of a routed network run")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--size",
        type=image_size,
        metavar="HxW",
        help="height and width of the images (default: those of the first image of the dataset, else INPUT.CROP_SIZE)",
    )
    sizes.add_argument("--dynamic-size", action="store_true", help="accept images of any size")
    add("--with-preprocessing", action="store_true", help="images of uint8 in, labels out")
    add("--output", type=local_path, metavar="FILE", help=f"file to write (default: {EXPORT_STEM}.* in RUN)")
    return parse_arguments(parser, argv)


def _export(arguments: argparse.Namespace) -> None:
    opts = [*arguments.opts, "MODEL.DEVICE=cpu"]
    if arguments.data is not None:
        opts.append(f"DATASETS.TEST={json.dumps([arguments.data])}")
    experiment = load_trained_run(arguments.run, opts, option="RUN")
    from dl_lib.inference.export.api import export
    from dl_lib.inference.export.description import ModelDescription
    from dl_lib.inference.export.verification import VerificationError
    from dl_lib.modeling.meta_arch.base import SegmentationModel
    from dl_lib.utils.logger import setup_logger

    cfg = experiment.cfg
    path = arguments.output or experiment.output_dir / f"{EXPORT_STEM}{_SUFFIXES[arguments.format]}"
    prepare_folder(path.parent, key="--output")
    setup_logger()
    model = load_trained_model(cfg).eval()
    if not isinstance(model, SegmentationModel):
        raise ConfigError(
            "MODEL.META_ARCHITECTURE must be a SegmentationModel, with a backbone and a head, to be exported. "
            f"Received: MODEL.META_ARCHITECTURE={cfg.MODEL.META_ARCHITECTURE}"
        )
    images = _sample_images(cfg)
    try:
        verification = export(
            model,
            path,
            format=arguments.format,
            description=ModelDescription.from_config(cfg),
            size=arguments.size or _default_size(cfg, images),
            dynamic_size=arguments.dynamic_size,
            dynamic=arguments.dynamic,
            with_preprocessing=arguments.with_preprocessing,
            images=images,
        )
    except VerificationError as error:
        print(error)
        raise SystemExit(FAILED_STATUS) from error
    print(f"{verification}\nWrote {path.absolute()}")


def _sample_images(cfg: CfgNode) -> list[Tensor]:
    """Return some images of the dataset as the model receives them; none if the dataset is missing."""
    from dl_lib.data.build import build_test_dataset
    from dl_lib.data.errors import DataError
    from dl_lib.data.raw_dataset import sampled_indices
    from dl_lib.data.samplers import SampleKey

    try:
        dataset = build_test_dataset(cfg.with_values({"DATALOADER.CACHE": "none"}), cfg.DATASETS.TEST[0])
        indices = sampled_indices(dataset, limit=_NUM_SAMPLES)
        return [dataset[SampleKey(epoch=0, index=index)]["image"] for index in indices]
    except DataError:
        return []


def _default_size(cfg: CfgNode, images: Sequence[Tensor]) -> tuple[int, int]:
    from dl_lib.config.crop_size import resolved_crop

    if images:
        height, width = images[0].shape[-2:]
        return height, width
    crop = resolved_crop(cfg)
    if not crop:
        raise ConfigError(
            "--size: the dataset is missing and there is no INPUT.CROP_SIZE; give the size of the images with --size "
            f"HxW. Received: DATASETS.TEST={cfg.DATASETS.TEST}"
        )
    return crop[0], crop[1]
