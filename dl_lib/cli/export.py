"""Subcommand `dl_lib export`: a trained model as a file that other runtimes execute."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import image_size, local_path
from dl_lib.cli.arguments import parse_arguments, trained_run_parser
from dl_lib.cli.errors import FAILED_STATUS, user_errors
from dl_lib.cli.given_routes import add_gates_option, add_route_option, build_network, given_route
from dl_lib.config import CfgNode, ConfigError
from dl_lib.experiment.experiment import Experiment
from dl_lib.experiment.trained_run import load_trained_model, load_trained_run
from dl_lib.utils.output_path import prepare_folder
from dl_lib.utils.run_files import EXPORT_STEM, EXPORT_SUFFIXES

if TYPE_CHECKING:
    from torch import Tensor

    from dl_lib.modeling import DynamicNet4Seg
    from dl_lib.modeling.meta_arch.base import SegmentationModel
    from dl_lib.validation import Purpose

__all__ = ["main"]

_WEIGHTS = "weights"
_NUM_SAMPLES = 4  # images of the dataset for verification
_NUM_CALIBRATION = 64  # training images for int8
_NOTES = """
files:
  input `image`: normalized images (N, 3, H, W), float32; output `logits`
  (N, classes, H, W). With --with-preprocessing: images (N, H, W, 3), uint8 RGB, and
  `labels` (N, H, W). --dynamic adds `gates` (edges) and `real_gflops`. N is
  any number, but 1 with --dynamic or kernels that depend on the image (CondConv).
  The file contains classes, colors and preprocessing as metadata.
  --format weights writes the evaluated weights alone, for MODEL.WEIGHTS.
routes:
  without --dynamic, all parts of a routed network run for every image. --route fixes
  a route as dl_lib freeze-route does, and the file holds only its parts.
verification:
  the file is run on images of the dataset, or on generated ones, and compared with
  the model in PyTorch. If the outputs differ, the exit status is 1, and the file is
  kept under the name *.unverified.*.
"""

_log = logging.getLogger(__name__)


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
    add("--format", choices=tuple(EXPORT_SUFFIXES), required=True, help="format of the file")
    routes = parser.add_mutually_exclusive_group()
    routes.add_argument("--dynamic", action="store_true", help="each image decides which parts of the network run")
    add_route_option(routes)
    add_gates_option(parser)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--size",
        type=image_size,
        metavar="HxW",
        help="height and width of the images (default: those of the first image of the dataset, else INPUT.CROP_SIZE)",
    )
    sizes.add_argument("--dynamic-size", action="store_true", help="accept images of any size")
    add("--with-preprocessing", action="store_true", help="uint8 images in, labels out")
    add(
        "--precision",
        choices=("float32", "fp16", "int8"),
        default="float32",
        help="precision of weights and feature maps; int8 is calibrated with training images (default: float32)",
    )
    add("--output", type=local_path, metavar="FILE", help=f"file to write (default: {EXPORT_STEM}.* in RUN)")
    arguments = parse_arguments(parser, argv)
    names = ("dynamic", "route", "gates", "size", "dynamic_size", "with_preprocessing", "data")
    others = any(getattr(arguments, name) for name in names) or arguments.precision != "float32"
    if arguments.format == _WEIGHTS and others:
        parser.error("--format weights: the weights depend on no other option than --output; remove the others")
    if arguments.gates and not arguments.route:
        parser.error("--gates: gates have fixed values only on a fixed route; add --route, or remove --gates")
    return arguments


def _export(arguments: argparse.Namespace) -> None:
    opts = [*arguments.opts, "MODEL.DEVICE=cpu"]
    if arguments.data is not None:
        opts.append(f"DATASETS.TEST={json.dumps([arguments.data])}")
    purpose: Purpose = "prediction" if arguments.format == _WEIGHTS else "evaluation"  # weights need no dataset
    experiment = load_trained_run(arguments.run, opts, option="RUN", purpose=purpose)
    from dl_lib.utils.logger import setup_logger

    path = _output_file(arguments, experiment)
    setup_logger()
    verb = "Replaced" if path.exists() else "Wrote"
    model = load_trained_model(experiment.cfg).eval()
    if arguments.format == _WEIGHTS:
        from dl_lib.inference.exporting.weights_file import write_weights

        write_weights(model, path)
    else:
        _export_graph(arguments, experiment.cfg, _checked(model, experiment.cfg), path=path)
    files = [path.with_suffix(suffix) for suffix in EXPORT_SUFFIXES[arguments.format]]
    names = " and ".join([str(path.absolute()), *(file.name for file in files[1:])])
    print(f"{verb} {names} ({sum(file.stat().st_size for file in files) / 1e6:.1f} MB)")


def _output_file(arguments: argparse.Namespace, experiment: Experiment) -> Path:
    suffix = EXPORT_SUFFIXES[arguments.format][0]
    stem = f"{EXPORT_STEM}.dynamic" if arguments.dynamic else EXPORT_STEM
    path: Path = arguments.output or experiment.output_dir / f"{stem}{suffix}"
    if path.suffix != suffix:
        raise ConfigError(f"--output: the name of the file must end in {suffix}. Received: --output={str(path)!r}")
    prepare_folder(path.parent, key="--output")
    return path


def _checked(model: object, cfg: CfgNode) -> SegmentationModel:
    from dl_lib.modeling.meta_arch.base import SegmentationModel

    if isinstance(model, SegmentationModel):
        return model
    raise ConfigError(
        "MODEL.META_ARCHITECTURE must be a SegmentationModel, with a backbone and a head, to be exported. "
        f"Received: MODEL.META_ARCHITECTURE={cfg.MODEL.META_ARCHITECTURE}"
    )


def _export_graph(arguments: argparse.Namespace, cfg: CfgNode, model: SegmentationModel, *, path: Path) -> None:
    from dl_lib.inference.exporting.api import export
    from dl_lib.inference.exporting.description import ModelDescription
    from dl_lib.inference.exporting.verification import VerificationError

    if arguments.route is not None:
        model = _on_route(arguments, cfg, model)
    images = _sample_images(cfg, cfg.DATASETS.TEST, limit=_NUM_SAMPLES)
    int8 = arguments.precision == "int8"
    _log_omissions(cfg, model, dynamic=arguments.dynamic)
    try:
        verification = export(
            model,
            path,
            format=arguments.format,
            description=ModelDescription.from_config(cfg),
            size=arguments.size or _default_size(cfg, images),
            dynamic_size=arguments.dynamic_size,
            dynamic=arguments.dynamic,
            precision=arguments.precision,
            with_preprocessing=arguments.with_preprocessing,
            images=images,
            calibration_images=_sample_images(cfg, cfg.DATASETS.TRAIN, limit=_NUM_CALIBRATION) if int8 else (),
        )
    except VerificationError as error:
        print(error)
        raise SystemExit(FAILED_STATUS) from error
    print(verification)


def _on_route(arguments: argparse.Namespace, cfg: CfgNode, model: SegmentationModel) -> DynamicNet4Seg:
    """Return the network of the route on the command line."""
    from dl_lib.evaluation.runner.network_comparison import check_single_pass, image_gates
    from dl_lib.evaluation.runner.threshold_sweep import check_gates
    from dl_lib.modeling import DynamicNet4Seg

    check_single_pass(cfg)
    check_gates(model)
    assert isinstance(model, DynamicNet4Seg), "it has a backbone with gates"
    route = given_route(cfg, model, arguments, gates=lambda: image_gates(cfg, model, dataset_name=cfg.DATASETS.TEST[0]))
    return build_network(cfg, model, route).eval()


def _log_omissions(cfg: CfgNode, model: SegmentationModel, *, dynamic: bool) -> None:
    """Log what the file does not contain although the run has it."""
    from dl_lib.modeling import DynamicNet4Seg

    if isinstance(model, DynamicNet4Seg) and model.backbone.has_gates and not dynamic:
        _log.info("All parts of the network run for every image; --dynamic exports a file that decides for each image")
    if cfg.TEST.SLIDING.WINDOW or list(cfg.TEST.MULTI_SCALE.SCALES) != [1.0] or cfg.TEST.MULTI_SCALE.FLIP:
        _log.warning("TEST.SLIDING and TEST.MULTI_SCALE are not part of the file, which runs one pass per image")


def _sample_images(cfg: CfgNode, names: Sequence[str], *, limit: int) -> list[Tensor]:
    """Return some images of the first dataset as the model receives them; none if the dataset is missing."""
    from dl_lib.data.build import build_test_dataset
    from dl_lib.data.errors import DataError
    from dl_lib.data.raw_dataset import sampled_indices
    from dl_lib.data.samplers import SampleKey
    from dl_lib.utils.extras import MissingExtraError

    if not names:
        return []
    name = names[0]
    try:
        dataset = build_test_dataset(cfg.with_values({"DATALOADER.CACHE": "none"}), name)  # else it would be built
        indices = sampled_indices(dataset, limit=limit)
        return [dataset[SampleKey(epoch=0, index=index)]["image"] for index in indices]
    except (DataError, MissingExtraError) as error:
        _log.warning("No images of %s, which cannot be read: %s", name, error)
        return []


def _default_size(cfg: CfgNode, images: Sequence[Tensor]) -> tuple[int, int]:
    if images:
        height, width = images[0].shape[-2:]
        return height, width
    height, width = cfg.INPUT.CROP_SIZE or (0, 0)  # of the run, if it was automatic
    if not height:
        raise ConfigError(
            "--size: the dataset is missing and there is no INPUT.CROP_SIZE; give the size of the images with --size "
            f"HxW. Received: DATASETS.TEST={cfg.DATASETS.TEST}"
        )
    return height, width
