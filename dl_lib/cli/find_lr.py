"""`dl_lib find-lr`: the loss under ever higher learning rates, to choose one by."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import at_least_ten, positive_float, ratio
from dl_lib.cli.errors import user_errors
from dl_lib.cli.experiment import Experiment, check_weights, load_experiment
from dl_lib.config import ConfigError
from dl_lib.utils.run_files import LR_FINDER_STEM

if TYPE_CHECKING:
    from dl_lib.config import CfgNode
    from dl_lib.solver.lr_finder import LRFinderResult

__all__ = ["main"]

_EPILOG = """
what is suggested:
  the learning rate at which the loss falls most steeply over its logarithm, up to the lowest moving average. The
  training is that of the configuration from its beginning, without warm-up, drop path and budget; groups of parameters
  keep their multiples. The test ends when the moving average of the loss is four times its lowest value. Weights are
  changed in memory only.
overrides:
  every key of the configuration can be set as KEY VALUE or KEY=VALUE
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib find-lr") -> None:
    """Run the test, write find_lr.csv and find_lr.png, and print a suggestion; see `dl_lib find-lr --help`."""
    arguments = _parse(argv, prog=prog)
    with user_errors(prog):
        if arguments.low >= arguments.high:
            raise ConfigError(
                f"the test goes upwards, from --low to --high. Received: --low {arguments.low:g} --high "
                f"{arguments.high:g}"
            )
        experiment = load_experiment(arguments.config_file, arguments.opts)
        check_weights(experiment)
        result = _test(experiment, arguments)
        if not result.rates:
            raise ConfigError(
                "the loss is not finite at the very first step, whatever the learning rate; look at MODEL.WEIGHTS and "
                f"MODEL.LOSS. Received: --low {arguments.low:g}"
            )
        folder = arguments.output or experiment.output_dir
        _write(result, folder=folder, name=experiment.output_dir.resolve().name)
    print(_summary(result))
    print(f"{LR_FINDER_STEM}.csv and {LR_FINDER_STEM}.png are in {folder.absolute()}")


def _parse(argv: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train some iterations with a learning rate that grows exponentially, and draw the loss over it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config-file", metavar="PATH", help="an experiment (default: that of this folder)")
    parser.add_argument("--low", type=positive_float, default=1e-6, metavar="LR", help="(default: 1e-6)")
    parser.add_argument("--high", type=positive_float, default=10.0, metavar="LR", help="(default: 10)")
    parser.add_argument("--iterations", type=at_least_ten, default=200, metavar="N", help="(default: 200)")
    parser.add_argument(
        "--smoothing", type=ratio, default=0.9, metavar="SHARE", help="of the moving average, in [0, 1) (default: 0.9)"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="(default: the run's folder)")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides of the configuration, see below")
    return parser.parse_intermixed_args(argv)


def _test(experiment: Experiment, arguments: argparse.Namespace) -> LRFinderResult:
    from dl_lib.solver.lr_finder import exponential_rates, run_lr_finder
    from dl_lib.utils.logger import setup_logger
    from dl_lib.utils.progress import progress_bar

    setup_logger()
    cfg = experiment.cfg.clone()
    cfg.defrost()
    cfg.SEED = max(0, cfg.SEED)
    cfg.freeze()
    step = _step_of(cfg)
    rates = exponential_rates(arguments.low, arguments.high, count=arguments.iterations)
    with progress_bar(len(rates), description="testing learning rates", unit="iteration") as bar:

        def shown_step(rate: float) -> float:
            loss = step(rate)
            bar.update()
            return loss

        return run_lr_finder(shown_step, rates=rates, smoothing=arguments.smoothing)


def _step_of(cfg: CfgNode) -> Callable[[float], float]:
    """What makes a step of the configured training with a learning rate, and returns its loss."""
    from dl_lib.checkpoint import Checkpointer
    from dl_lib.data.build import build_train_loader
    from dl_lib.engine.setup import build_configured_model, seed_everything
    from dl_lib.engine.training.precision import Precision
    from dl_lib.engine.training.train_step import GradientClip, TrainStep
    from dl_lib.modeling.build import resolve_device
    from dl_lib.solver import build_optimizer

    seed_everything(cfg.SEED)
    model = build_configured_model(cfg)
    lack, more = cfg.MODEL.ALLOW_MISSING_KEYS, cfg.MODEL.ALLOW_UNEXPECTED_KEYS
    Checkpointer(model).load(cfg.MODEL.WEIGHTS, [], allow_missing_keys=lack, allow_unexpected_keys=more)
    model.train()
    optimizer = build_optimizer(cfg, model)
    training = TrainStep(
        model,
        optimizer,
        clip=GradientClip(cfg.SOLVER.GRAD_CLIP, cfg.SOLVER.GRAD_CLIP_TYPE),
        precision=Precision(cfg.SOLVER.PRECISION, device=resolve_device(cfg.MODEL.DEVICE)),
    )
    multiples = [group["lr"] / cfg.SOLVER.OPTIMIZER.BASE_LR for group in optimizer.param_groups]
    batches = iter(build_train_loader(cfg))

    def step(rate: float) -> float:
        for group, multiple in zip(optimizer.param_groups, multiples, strict=True):
            group["lr"] = rate * multiple
        parts = [next(batches) for _ in range(cfg.SOLVER.ACCUMULATION_STEPS)]
        loss = training.backward(parts, step_rate=0.0)["total_loss"].item()
        if math.isfinite(loss):
            training.apply()
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
    end = f"diverged at {result.rates[-1]:.2g}" if result.diverged else "did not diverge below --high"
    if result.suggestion is None:
        return f"no suggestion: the loss fell nowhere; lower --low, or raise --iterations. It {end}"
    return (
        f"suggestion: SOLVER.OPTIMIZER.BASE_LR={result.suggestion:.2g}, where the loss falls most steeply over the "
        f"logarithm of the learning rate. It {end}"
    )
