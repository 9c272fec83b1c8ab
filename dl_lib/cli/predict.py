"""Subcommand `dl_lib predict`: predictions of a trained run for new images and videos, as files."""

from __future__ import annotations

import argparse
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_lib.cli.arg_types import comma_separated, local_path, positive_int
from dl_lib.cli.arguments import prediction_parser
from dl_lib.cli.errors import FAILED_STATUS, user_errors
from dl_lib.config import ConfigError, get_cfg
from dl_lib.prediction.saving.kinds import FORMATS, LABELS, OVERLAYS, PROBABILITIES, RECORDS
from dl_lib.utils.run_files import EXPORT_SUFFIXES

if TYPE_CHECKING:
    from dl_lib.prediction.predictor import Predictor

__all__ = ["main"]

_ONNX_SUFFIX = EXPORT_SUFFIXES["onnx"][0]
_OVERRIDE = re.compile(r"(?P<section>[A-Z][A-Z0-9_]*)(\.\w+)*(?P<value>=.*)?", re.DOTALL)
_NOTES = f"""
inputs:
  images, videos, folders with their subfolders, and quoted patterns such as
  'photos/**/*.jpg'. NAME is the path below the folder that contains all inputs.
  EXIF orientation is applied; transparent pixels are shown on white.
output:
  {LABELS:13}  labels/NAME.png: class indices, with the colors of the classes as
                 palette; gray values of 16 bits if there are more than 256 classes
  {OVERLAYS:13}  overlays/NAME.jpg: image tinted in the colors of the classes
  {PROBABILITIES:13}  probabilities/NAME.npy: (classes, H, W), float16
  {RECORDS:13}  predictions.jsonl: one line per input with size, GFLOPs, seconds,
                 fractions of the classes and open edges
  of a video: overlays/NAME.mp4, folders labels/NAME and probabilities/NAME with
  a file per frame, and frames/NAME.jsonl with a line per frame.
status:
  1 if an input could not be read; the others are predicted.
"""

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib predict") -> None:
    """Predict images and videos; see `dl_lib predict --help`.

    Raises:
        SystemExit: With status 1 if an input could not be read.
    """
    arguments = _parse(argv, prog=prog)
    with user_errors(prog):
        num_failed = _predict(arguments)
    if num_failed:
        raise SystemExit(FAILED_STATUS)


@dataclass(frozen=True)
class _Source:
    """Source of a predictor.

    Attributes:
        settings: Everything that determines its predictions, as JSON values by name.
        build: Function that returns the predictor.
    """

    settings: dict[str, Any]
    build: Callable[..., Predictor]


def _parse(argv: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = prediction_parser(
        prog=prog,
        description="Predict new images and videos with a trained run. The files of DIR mirror the paths of the "
        "inputs. Ctrl-C keeps what is complete.",
        notes=_NOTES,
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="image, video, folder or pattern; followed by overrides, see below"
    )
    parser.add_argument("--output", type=local_path, required=True, metavar="DIR", help="new folder for the output")
    parser.add_argument(
        "--save",
        type=_formats,
        default=(LABELS, OVERLAYS, RECORDS),
        metavar="KIND,...",
        help=f"kinds of output to write, from: {', '.join(FORMATS)} (default: {LABELS},{OVERLAYS},{RECORDS})",
    )
    parser.add_argument("--resume", action="store_true", help="keep what is complete in DIR, and predict the rest")
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        metavar="N",
        help="images per call of the model (default: 1 on the CPU, 8 on a GPU); more are faster for small networks",
    )
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N; sets MODEL.DEVICE")
    parser.add_argument(
        "--runtime",
        choices=("torch", "onnx"),
        default="torch",
        help="onnx: RUN is a file of dl_lib export --format onnx, which needs no config (default: torch)",
    )
    arguments = parser.parse_intermixed_args(argv)
    arguments.inputs, arguments.opts = _split(arguments.inputs)
    if not arguments.inputs:
        parser.error("the following arguments are required: INPUT")
    return arguments


def _formats(text: str) -> tuple[str, ...]:
    """Return the kinds of output in their order in `FORMATS`."""
    given = comma_separated(text)
    if not {*given} <= {*FORMATS}:
        raise argparse.ArgumentTypeError(f"must be some of {', '.join(FORMATS)}. Received: {text}")
    return tuple(kind for kind in FORMATS if kind in given)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return inputs and overrides: words that name no file and begin like a config key, with their values."""
    sections = {*get_cfg()}
    inputs: list[str] = []
    opts: list[str] = []
    remaining = iter(words)
    for word in remaining:
        match = _OVERRIDE.fullmatch(word)
        if match is None or os.path.lexists(word) or not (match["value"] or match["section"] in sections):
            inputs.append(word)
        else:
            opts += [word] if match["value"] else [word, *islice(remaining, 1)]
    return inputs, opts


def _predict(arguments: argparse.Namespace) -> int:
    """Predict the inputs; return the number of those that could not be read."""
    # Damaged videos are reported in one line by this command, and not by OpenCV and FFmpeg as well.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    from dl_lib.prediction.saving.names import common_folder
    from dl_lib.prediction.saving.settings import check_settings, write_settings
    from dl_lib.utils.folder_lock import locked_folder
    from dl_lib.utils.logger import errors_logged, setup_logger

    setup_logger()
    output, root = arguments.output, common_folder(arguments.inputs)
    source = _onnx_source(arguments) if arguments.runtime == "onnx" else _run_source(arguments)
    settings = {
        "version": version("dl_lib"),
        "inputs_relative_to": os.fspath(root),
        "save": arguments.save,
        **source.settings,
    }
    check_settings(output, settings, resume=arguments.resume)  # before a large folder is listed; again when locked
    files = _find_inputs(arguments)
    with locked_folder(output, key="--output"):
        check_settings(output, settings, resume=arguments.resume)
        setup_logger(output)
        with errors_logged("predicting"):
            options = {} if arguments.batch_size is None else {"batch_size": arguments.batch_size}
            predictor = source.build(probabilities=PROBABILITIES in arguments.save, **options)
            write_settings(output, settings)
            num_failed = _predict_files(predictor, files, arguments, root=root)
        setup_logger()  # closes the log file
    return num_failed


def _find_inputs(arguments: argparse.Namespace) -> list[Path]:
    """Return the input files, without those in the output folder."""
    from dl_lib.prediction.inputs import find_files

    files = (path for text in arguments.inputs for path in find_files(text))
    return [path for path in files if not path.absolute().is_relative_to(arguments.output.absolute())]


def _predict_files(predictor: Predictor, files: Sequence[Path], arguments: argparse.Namespace, *, root: Path) -> int:
    from dl_lib.prediction.saving.run import FilePrediction, count_images
    from dl_lib.prediction.saving.writer import OutputWriter
    from dl_lib.utils.progress import progress_bar

    writer = OutputWriter(arguments.output, formats=arguments.save)
    writer.resume()
    prediction = FilePrediction(writer, relative_to=root)
    pending = prediction.pending(files)
    if arguments.resume:
        _log.info("Resuming: %d of %d inputs remain", len(pending), len(files))
    total, start = count_images(pending), time.perf_counter()
    try:
        with progress_bar(total, description="predicting", unit="image") as bar:
            prediction.run(predictor, pending, bar=bar)
    except (KeyboardInterrupt, OSError):  # errors of reading are data errors
        _log.warning(
            "Stopped after %d of %d images; repeat the command with --resume to predict the rest",
            prediction.num_images,
            total,
        )
        raise
    seconds = time.perf_counter() - start
    costs = f", {prediction.mean_gflops:.3g} GFLOPs per image" if prediction.mean_gflops else ""
    _log.info(
        "Predicted %d images in %.1f s (%.1f images/s%s), %d failed: %s",
        *(prediction.num_images, seconds, prediction.num_images / seconds, costs, prediction.num_failed),
        arguments.output.absolute(),
    )
    return prediction.num_failed


def _run_source(arguments: argparse.Namespace) -> _Source:
    from dl_lib.checkpoint import local_weights
    from dl_lib.evaluation.report.folder import result_settings
    from dl_lib.experiment.net_files import code_digest
    from dl_lib.experiment.trained_run import load_trained_run
    from dl_lib.prediction.predictor import Predictor

    if os.path.isfile(arguments.run) and Path(arguments.run).suffix == _ONNX_SUFFIX:
        raise ConfigError(
            f"RUN: a file of dl_lib export --format onnx needs --runtime onnx; add it. Received: RUN={arguments.run!r}"
        )
    device = [f"MODEL.DEVICE={arguments.device}"] if arguments.device else []
    run = load_trained_run(arguments.run, [*arguments.opts, *device], option="RUN", purpose="prediction")
    cfg = run.cfg
    settings = {key: value for key, value in result_settings(cfg).items() if key != "MODEL.WEIGHTS"}
    weights = _sha256(local_weights(cfg.MODEL.WEIGHTS))
    return _Source(
        {"weights_sha256": weights, "code_sha256": code_digest(run.net_files), **settings},
        lambda **options: Predictor.from_config(cfg, **options),
    )


def _onnx_source(arguments: argparse.Namespace) -> _Source:
    from dl_lib.prediction.predictor import Predictor

    if arguments.opts or arguments.device not in (None, "cpu"):
        raise ConfigError(
            "--runtime onnx: an exported file has its config inside and runs on the CPU; remove overrides and "
            f"--device. Received: overrides={arguments.opts}, --device={arguments.device}"
        )
    if not os.path.isfile(arguments.run):
        raise ConfigError(
            "--runtime onnx: RUN must be a file of dl_lib export --format onnx; export the run, or remove --runtime to "
            f"predict with a run folder. Received: RUN={arguments.run!r}"
        )
    return _Source(
        {"file_sha256": _sha256(arguments.run)},
        lambda **options: Predictor.from_onnx(arguments.run, **options),
    )


def _sha256(path: str) -> str:
    from dl_lib.checkpoint.checksums import sha256_of
    from dl_lib.utils.files import open_regular

    with open_regular(path) as file:
        return sha256_of(file)
