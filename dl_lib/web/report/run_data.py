"""Run folder as the report shows it: results, metrics, config and environment, as far as they are present."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dl_lib.config import ConfigError
from dl_lib.config.config_node import leaves
from dl_lib.config.yaml_text import MAX_CHARACTERS, parse_yaml
from dl_lib.evaluation.report.csv_files import ImageRow, read_confusion, read_images
from dl_lib.evaluation.report.gates_file import ImageGates, read_gates
from dl_lib.evaluation.report.report_file import read_report_data
from dl_lib.evaluation.report.results_file import evaluation_folders, read_results
from dl_lib.evaluation.scores.report_data import ReportData
from dl_lib.utils.escaping import printable
from dl_lib.utils.files import read_regular
from dl_lib.utils.metrics_file import MetricsFileError, Series, read_metrics
from dl_lib.utils.names import is_safe_name
from dl_lib.utils.run_files import (
    CONFIG_NAME,
    CONFUSION_STEM,
    GATES_STEM,
    LOG_NAME,
    PER_IMAGE_STEM,
    REPORT_DATA_STEM,
    RESULTS_NAME,
    dataset_suffix,
    is_evaluation_folder,
    run_name,
)
from dl_lib.web.report.same_evaluation import Confusion, EvaluationCheck

__all__ = ["DatasetResult", "RunData", "read_run"]

_MAX_LOG_BYTES = 2**28
_MAX_ENVIRONMENT = 2**14  # characters
_ENVIRONMENT, _NEXT_RECORD = "Environment:\n", "\n["

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True, eq=False)
class DatasetResult:
    """Evaluation of a run on one dataset.

    Attributes:
        values: Entry of the dataset in results.json.
        images: Rows of per_image.csv; empty if it is missing.
        confusion: Class names, and pixels (classes, classes), [true, predicted]; None if they are missing.
        gates: Gate values of each image; None if they are missing.
        data: Images and counts of the evaluation; None if they are missing.
    """

    values: Mapping[str, Any]
    images: tuple[ImageRow, ...]
    confusion: Confusion | None
    gates: ImageGates | None
    data: ReportData | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about suspicious results."""
        found = self.values.get("warnings")
        return tuple(map(str, found)) if isinstance(found, list) else ()


@dataclass(frozen=True, eq=False)
class RunData:
    """Run or evaluation folder.

    Attributes:
        name: Name in the report, unique among its runs.
        folder: Evaluation that is shown: the run folder, or one of its evaluations.
        parameters: Number of learnable parameters; None if it is unknown.
        datasets: Results by dataset.
        metrics: Logged scalars of the training; empty if they are missing.
        config: Values by full key, such as `SOLVER.MAX_ITER`; empty if they are missing.
        environment: Versions and devices of the training, as in its log; empty if they are missing.
        missing: Sentence about each part of the report that the folder has no data for.
    """

    name: str
    folder: Path
    parameters: int | None
    datasets: Mapping[str, DatasetResult]
    metrics: Mapping[str, Series]
    config: Mapping[str, Any]
    environment: str
    missing: tuple[str, ...]

    @property
    def training_seconds(self) -> float | None:
        """Time of all training steps, from the median step of each logged interval; None without metrics."""
        series = self.metrics.get("iteration_seconds")
        if series is None:
            return None
        steps = np.diff(series.iterations, prepend=0)
        return float((steps * np.array(series.values)).sum())


def read_run(folder: Path, *, among: Iterable[Path]) -> RunData:
    """Read a run or evaluation folder; of a run without an evaluation of its own, the last `dl_lib evaluate`.

    Args:
        folder: The folder.
        among: All folders of the report.

    Raises:
        ConfigError: If it has no valid results.json.
    """
    evaluation = _evaluation_of(folder)
    results = read_results(evaluation)
    _check_names(results.datasets)
    run_folder = evaluation.resolve().parents[1] if is_evaluation_folder(evaluation) else evaluation
    missing: list[str] = []
    return RunData(
        name=printable(run_name(folder, among=among)),
        folder=evaluation,
        parameters=results.parameters,
        datasets={
            name: _read_dataset(
                values, evaluation, suffix=dataset_suffix(name, among=results.datasets), missing=missing
            )
            for name, values in results.datasets.items()
        },
        metrics=_optional(read_metrics, run_folder, default={}, missing=missing),
        config=_optional(_read_config, evaluation / CONFIG_NAME, default={}, missing=missing),
        environment=_optional(_read_environment, run_folder / LOG_NAME, default="", missing=missing),
        missing=tuple(missing),
    )


def _read_dataset(values: Mapping[str, Any], folder: Path, *, suffix: str, missing: list[str]) -> DatasetResult:
    """Read the files of an evaluation on one dataset.

    Args:
        values: Entry of the dataset in results.json.
        folder: Run or evaluation folder.
        suffix: End of the stem of each file.
        missing: List to which a sentence about each missing file is added.
    """
    check = EvaluationCheck(values)

    def read(reader: Callable[[Path], T], stem: str, kind: str, *, check: Callable[[T, Path], None]) -> T | None:
        def checked(path: Path) -> T:
            content = reader(path)
            check(content, path)
            return content

        return _optional(checked, folder / f"{stem}{suffix}.{kind}", default=None, missing=missing)

    has_labels, has_gates = "mIoU" in values, "mean_gates" in values
    return DatasetResult(
        values=values,
        images=read(read_images, PER_IMAGE_STEM, "csv", check=check.images) or (),
        confusion=read(read_confusion, CONFUSION_STEM, "csv", check=check.confusion) if has_labels else None,
        gates=read(read_gates, GATES_STEM, "npz", check=check.gates) if has_gates else None,
        data=read(read_report_data, REPORT_DATA_STEM, "npz", check=check.data),
    )


def _optional(read: Callable[[Path], T], path: Path, *, default: D, missing: list[str]) -> T | D:
    """Read a file; add a sentence to `missing` and return the default if it cannot be used."""
    try:
        return read(path)
    except (ConfigError, MetricsFileError) as error:
        missing.append(str(error))
        return default


def _evaluation_of(folder: Path) -> Path:
    evaluations = [] if (folder / RESULTS_NAME).exists() else evaluation_folders(folder)
    return max(evaluations, key=lambda path: (path / RESULTS_NAME).stat().st_mtime) if evaluations else folder


def _check_names(datasets: Collection[str]) -> None:
    """Check the names of several datasets, which are parts of file names."""
    for name in datasets if len(datasets) > 1 else ():
        if not is_safe_name(name):
            raise ConfigError(
                f"{RESULTS_NAME}: the name of a dataset must be one of a file; evaluate the run again. "
                f"Received: {name!r}"
            )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path, max_bytes=MAX_CHARACTERS).decode()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read ({error}). Received: path={str(path)!r}") from error
    content = parse_yaml(text, name=str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must be a mapping from keys to values. Received: {type(content).__name__}")
    return dict(leaves(content))


def _read_environment(path: Path) -> str:
    try:
        text = read_regular(path, max_bytes=_MAX_LOG_BYTES).decode(errors="replace")
    except OSError as error:
        raise ConfigError(
            f"{path.name} cannot be read ({error.strerror or error}). Received: path={str(path)!r}"
        ) from error
    _, found, after = text.rpartition(_ENVIRONMENT)
    environment = after.partition(_NEXT_RECORD)[0].strip() if found else ""
    if not 0 < len(environment) <= _MAX_ENVIRONMENT or environment.startswith("["):
        raise ConfigError(f"{path.name} does not state the environment of the training. Received: path={str(path)!r}")
    return environment
