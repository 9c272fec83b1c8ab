"""Subcommand `dl_lib find-lr`: learning rate range test (arXiv 1506.01186, section 3.3) of an experiment."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import at_least_ten, local_path, positive_float, ratio
from dl_lib.cli.arguments import experiment_parser, parse_arguments
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.experiment.experiment import Experiment, check_weights, load_experiment
from dl_lib.utils.output_path import prepare_folder
from dl_lib.utils.run_files import LR_FINDER_STEM

if TYPE_CHECKING:
    from dl_lib.config import CfgNode
    from dl_lib.solver.lr_finder import LRFinderResult

__all__ = ["main"]

_NOTES = """
suggestion:
  the learning rate at which the loss, plotted against the logarithm of the
  learning rate, falls most steeply before the smoothed loss reaches its minimum.
  The test starts at iteration 0, without warmup, drop path and budget loss; the
  learning rates of parameter groups keep their ratios. It stops when the smoothed
  loss exceeds four times its minimum. Weights are changed in memory only.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib find-lr") -> None:
    """Run the test, write a table and a figure, and print a suggestion; see `dl_lib find-lr --help`."""
    arguments = _parse(argv, prog=prog)
    with user_errors(prog):
        if arguments.low >= arguments.high:
            raise ConfigError(
                f"--low must be less than --high. Received: --low={arguments.low:g}, --high={arguments.high:g}"
            )
        experiment = load_experiment(arguments.config_file, arguments.opts)
        check_weights(experiment)
        folder, key = (arguments.output, "--output") if arguments.output else (experiment.output_dir, "OUTPUT_DIR")
        prepare_folder(folder, key=key)
        result = _run_test(experiment, arguments)
        if not result.rates:
            raise ConfigError(
                "the loss is not finite in the first iteration, before any update; check MODEL.WEIGHTS and MODEL.LOSS. "
                f"Received: --low={arguments.low:g}"
            )
        _write(result, folder=folder, name=experiment.output_dir.resolve().name)
    print(_summary(result))
    print(f"Wrote {LR_FINDER_STEM}.csv and {LR_FINDER_STEM}.png to {folder.absolute()}")


def _parse(argv: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = experiment_parser(
        prog=prog,
        description="Train with an exponentially increasing learning rate; plot the loss over it and suggest a value.",
        notes=_NOTES,
    )
    add = parser.add_argument
    add("--low", type=positive_float, default=1e-6, metavar="LR", help="first learning rate (default: 1e-6)")
    add("--high", type=positive_float, default=10.0, metavar="LR", help="last learning rate (default: 10)")
    add("--iterations", type=at_least_ten, default=200, metavar="N", help="number of iterations (default: 200)")
    add(
        "--smoothing",
        type=ratio,
        default=0.9,
        metavar="RATIO",
        help="decay of the EMA of the loss, in [0, 1) (default: 0.9)",
    )
    add("--output", type=local_path, metavar="DIR", help="folder of the results (default: OUTPUT_DIR)")
    return parse_arguments(parser, argv)


def _run_test(experiment: Experiment, arguments: argparse.Namespace) -> LRFinderResult:
    from dl_lib.engine.image_sizes import resolve_crop_size
    from dl_lib.solver.lr_finder import exponential_rates, run_lr_finder
    from dl_lib.utils.logger import setup_logger
    from dl_lib.utils.progress import progress_bar

    setup_logger()
    cfg = experiment.cfg.clone()
    cfg.defrost()
    cfg.SEED = max(0, cfg.SEED)
    resolve_crop_size(cfg)
    cfg.freeze()
    step = _build_step(cfg)
    rates = exponential_rates(arguments.low, arguments.high, count=arguments.iterations)
    with progress_bar(len(rates), description="testing learning rates", unit="iteration") as bar:

        def step_with_progress(rate: float) -> float:
            loss = step(rate)
            bar.update()
            return loss

        return run_lr_finder(step_with_progress, rates=rates, smoothing=arguments.smoothing)


def _build_step(cfg: CfgNode) -> Callable[[float], float]:
    """Return a function that runs one training step with a learning rate and returns its loss."""
    from dl_lib.checkpoint import Checkpointer, allowed_keys
    from dl_lib.data.build import build_train_loader
    from dl_lib.engine.setup import build_configured_model, seed_everything
    from dl_lib.engine.training.precision import Precision
    from dl_lib.engine.training.train_step import GradientClip, TrainStep
    from dl_lib.modeling.build import resolve_device
    from dl_lib.solver import build_optimizer

    seed_everything(cfg.SEED)
    model = build_configured_model(cfg)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS, [], **allowed_keys(cfg))
    model.train()
    optimizer = build_optimizer(cfg, model)
    train_step = TrainStep(
        model,
        optimizer,
        clip=GradientClip(cfg.SOLVER.GRAD_CLIP, cfg.SOLVER.GRAD_CLIP_TYPE),
        precision=Precision(cfg.SOLVER.PRECISION, device=resolve_device(cfg.MODEL.DEVICE)),
    )
    lr_ratios = [group["lr"] / cfg.SOLVER.OPTIMIZER.BASE_LR for group in optimizer.param_groups]
    batches = iter(build_train_loader(cfg))

    def step(rate: float) -> float:
        for group, lr_ratio in zip(optimizer.param_groups, lr_ratios, strict=True):
            group["lr"] = rate * lr_ratio
        micro_batches = [next(batches) for _ in range(cfg.SOLVER.ACCUMULATION_STEPS)]
        loss = train_step.backward(micro_batches, step_rate=0.0)["total_loss"].item()
        if math.isfinite(loss):
            train_step.apply()
        return loss

    return step


def _write(result: LRFinderResult, *, folder: Path, name: str) -> None:
    from dl_lib.utils.files import write_atomically
    from dl_lib.visualization.figure import save_figure
    from dl_lib.visualization.lr_finder import draw_lr_finder

    rows = zip(result.rates, result.losses, result.smoothed, strict=True)
    lines = ["learning_rate,loss,smoothed_loss", *(",".join(map(repr, row)) for row in rows)]
    write_atomically(folder / f"{LR_FINDER_STEM}.csv", "\n".join(lines) + "\n")
    figure = draw_lr_finder(
        result.rates,
        result.losses,
        result.smoothed,
        suggestion=result.suggestion,
        title=f"Learning rate range test: {name}",
    )
    save_figure(figure, folder / f"{LR_FINDER_STEM}.png")


def _summary(result: LRFinderResult) -> str:
    end = f"diverged at {result.rates[-1]:.2g}" if result.diverged else "did not diverge up to --high"
    if result.suggestion is None:
        return f"No suggestion: the loss, which {end}, did not decrease; decrease --low, or increase --iterations"
    return (
        f"Suggestion: SOLVER.OPTIMIZER.BASE_LR={result.suggestion:.2g}, where the loss decreases fastest as a "
        f"function of the logarithm of the learning rate; the loss {end}"
    )
