"""Results file of an evaluation, results.json: reading and checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dl_lib.config import ConfigError
from dl_lib.config.errors import shortened
from dl_lib.evaluation.report.tables import COST_LABELS, MEAN_SCORES
from dl_lib.utils.files import read_regular
from dl_lib.utils.run_files import EVALUATIONS_NAME, MAX_RESULTS_BYTES, RESULTS_NAME

__all__ = ["MAX_NUMBER", "MAX_SCORE", "Results", "evaluation_folders", "is_plausible", "read_results"]

MAX_NUMBER = 1e15  # far above any cost, time or number of pixels of an evaluation
MAX_SCORE = 1 + 1e-6  # sums of ratios are rounded


@dataclass(frozen=True)
class Results:
    """Results of an evaluation.

    Attributes:
        datasets: Entry of each dataset by name, as in `records.result_as_dict`: costs, time and scores are numbers.
        parameters: Number of learnable parameters; None if the file does not contain it.
    """

    datasets: Mapping[str, Mapping[str, Any]]
    parameters: int | None


def evaluation_folders(run_folder: Path) -> list[Path]:
    """Return the folders of a run's evaluations with `dl_lib evaluate`, in the order of their names."""
    return [path.parent for path in sorted((run_folder / EVALUATIONS_NAME).glob(f"[!.]*/{RESULTS_NAME}"))]


def read_results(folder: Path) -> Results:
    """Read the results in a run or evaluation folder.

    Raises:
        ConfigError: If the file is missing, damaged, or a file of another kind.
    """
    path = folder / RESULTS_NAME
    try:
        content = json.loads(read_regular(path, max_bytes=MAX_RESULTS_BYTES))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(
            f"RUN must be a folder with a {RESULTS_NAME}; evaluate the run with dl_lib evaluate --config-file "
            f"{folder}, or give the folder that contains it. Received: RUN={str(folder)!r}"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{RESULTS_NAME} cannot be read ({error.strerror}); evaluate the run again. Received: path={str(path)!r}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not valid JSON; evaluate the run again. Received: {type(error).__name__}: {error}"
        ) from error
    problem = _problem(content)
    if problem is not None:
        raise ConfigError(
            f"{path} must have datasets, each with seconds_per_image and costs_gflops that are numbers of at least 0, "
            f"and scores in [0, 1]; evaluate the run again. Received: {shortened(problem)}"
        )
    return Results(content["datasets"], content.get("parameters"))


def _problem(content: Any) -> str | None:
    """Return what is wrong with the content of the file; None if all values in the tables are plausible numbers."""
    if not isinstance(content, dict) or not isinstance(content.get("datasets"), dict) or not content["datasets"]:
        return f"datasets={content.get('datasets')!r}" if isinstance(content, dict) else type(content).__name__
    if content.get("parameters") is not None and not is_plausible(content["parameters"]):
        return f"parameters={content['parameters']!r}"
    for name, values in content["datasets"].items():
        try:
            numbers = {f"costs_gflops.{kind}.avg": values["costs_gflops"][kind]["avg"] for kind in COST_LABELS}
            numbers |= {"seconds_per_image": values["seconds_per_image"]}
            numbers |= {count: values.get(count, 0) for count in ("images", "labelled_pixels")}
            scores = {score: values.get(score) for score in MEAN_SCORES}
            scores |= {f"IoU of {known}": of_class.get("IoU") for known, of_class in values.get("classes", {}).items()}
        except (AttributeError, KeyError, TypeError) as error:
            return f"dataset={name!r}, {type(error).__name__}: {error}"
        wrong = {key: value for key, value in numbers.items() if not is_plausible(value)}
        known_scores = {key: score for key, score in scores.items() if score is not None}
        wrong |= {key: score for key, score in known_scores.items() if not is_plausible(score, high=MAX_SCORE)}
        if wrong:
            return f"dataset={name!r}, {', '.join(f'{key}={value!r}' for key, value in wrong.items())}"
    return None


def is_plausible(value: Any, *, low: float = 0, high: float = MAX_NUMBER) -> bool:
    """Return whether a value of an evaluation is a number in [low, high]."""
    return type(value) in (int, float) and low <= value <= high  # False for NaN
