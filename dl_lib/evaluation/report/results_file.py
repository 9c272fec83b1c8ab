"""Results file of an evaluation, results.json: reading and checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dl_lib.config import ConfigError
from dl_lib.evaluation.report.tables import COST_LABELS, MEAN_SCORES
from dl_lib.utils.files import read_regular
from dl_lib.utils.run_files import EVALUATIONS_NAME, MAX_RESULTS_BYTES, RESULTS_NAME

__all__ = ["Results", "evaluation_folders", "read_results"]

_MAX_NUMBER = 1e15  # of a plausible value


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
        ConfigError: If the file is missing, damaged, or another file.
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
    datasets, parameters = map(content.get, ("datasets", "parameters")) if isinstance(content, dict) else (None, None)
    has_parameters = parameters is None or _is_number(parameters)
    if not isinstance(datasets, dict) or not all(map(_is_complete, datasets.values())) or not has_parameters:
        raise ConfigError(
            f"{path} must have datasets, each with seconds_per_image, costs_gflops and scores that are numbers; "
            "evaluate the run again. "
            f"Received: {sorted(content) if isinstance(content, dict) else type(content).__name__}"
        )
    return Results(datasets, parameters)


def _is_complete(values: Any) -> bool:
    """Return whether an entry has costs and time, and all its values in the tables are numbers."""
    try:
        required = [values["seconds_per_image"], *(values["costs_gflops"][kind]["avg"] for kind in COST_LABELS)]
        scores = [values.get(score) for score in MEAN_SCORES]
        scores += [known.get("IoU") for known in values.get("classes", {}).values()]
    except (AttributeError, KeyError, TypeError):  # not an object
        return False
    return all(map(_is_number, required)) and all(score is None or _is_number(score) for score in scores)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _MAX_NUMBER  # False for NaN
