"""MLflow as an experiment tracker (https://mlflow.org/docs)."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_lib.config import CfgNode
from dl_lib.engine.trackers.registry import TRACKER_REGISTRY, HParam, Tracker
from dl_lib.utils.extras import requires_extra
from dl_lib.utils.run_files import tracker_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["MLflowTracker"]

_ENVIRONMENT = {  # unless they are set
    "MLFLOW_DISABLE_TELEMETRY": "true",  # read when mlflow is imported
    "MLFLOW_EXPERIMENT_NAME": "dl_lib",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds of each of 8 attempts, by default 120, for which the run waits
}
_STORE = "mlflow"  # folder of the local store in the run folder
_INVALID_IN_NAMES = re.compile(r"[^a-zA-Z0-9_\-./ ]")
_PARAMS_PER_CALL = 100  # limits of MLflow
_MAX_PARAM_LENGTH = 6000

_log = logging.getLogger(__name__)


class MLflowTracker(Tracker):
    """Tracker that writes an MLflow run to `MLFLOW_TRACKING_URI`, by default a store in the run folder.

    Params cannot be changed in MLflow: values that a resumed run has changed become tags.

    Args:
        folder: Run folder, whose name becomes that of the MLflow run.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).absolute()
        self._artifacts = (self._folder / _STORE / "artifacts").as_uri()  # images of the local store
        self._client: Any = None
        self._run_id = ""

    def open(self, *, run_id: str | None, written: int, hparams: Mapping[str, HParam]) -> str:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with requires_extra("mlflow", feature="TRACKERS=[mlflow]", packages="mlflow"):
            from mlflow import MlflowClient

        is_local = not os.environ.get("MLFLOW_TRACKING_URI")
        self._client = MlflowClient(self._local_store() if is_local else None)
        if run_id is None:
            run = self._client.create_run(self._experiment_id(is_local=is_local), run_name=self._folder.name)
        else:
            run = self._client.get_run(run_id)
            self._client.update_run(run_id, status="RUNNING")
        self._run_id = run.info.run_id
        if is_local and not run.info.artifact_uri.startswith(self._artifacts):
            raise ValueError(
                "the run folder has moved, but its MLflow store still refers to the old path for images; delete "
                f"{tracker_name('mlflow')} and {_STORE}/ to track a new run, or set MLFLOW_TRACKING_URI. "
                f"Received: artifact_uri={run.info.artifact_uri!r}"
            )
        self._write_params(hparams, before={**run.data.params, **run.data.tags})
        return self._run_id

    def write(self, metrics: Mapping[str, float], *, iteration: int) -> None:
        from mlflow.entities import Metric

        milliseconds = round(time.time() * 1000)
        self._client.log_batch(
            self._run_id,
            metrics=[Metric(_valid(name), value, milliseconds, iteration) for name, value in metrics.items()],
        )

    def write_image(self, name: str, image: npt.NDArray[np.uint8], *, iteration: int) -> None:
        self._client.log_image(self._run_id, image, key=_valid(name), step=iteration)

    def close(self, *, completed: bool) -> None:
        if self._run_id:
            self._client.set_terminated(self._run_id, status="FINISHED" if completed else "FAILED")

    def _local_store(self) -> str:
        """Return the address of the store in the run folder, which is created."""
        folder = self._folder / _STORE
        if any(character in str(folder) for character in "?%"):
            raise ValueError(
                "the path of MLflow's local store must not contain ? or %; use another OUTPUT_DIR, or set "
                f"MLFLOW_TRACKING_URI. Received: {folder}"
            )
        folder.mkdir(exist_ok=True)
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        _log.info("Recording in a local MLflow store; show it with: mlflow ui --backend-store-uri %s", uri)
        return uri

    def _experiment_id(self, *, is_local: bool) -> str:
        """Return the id of the experiment, which is created if it does not exist."""
        name = os.environ["MLFLOW_EXPERIMENT_NAME"]
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            return experiment.experiment_id
        return self._client.create_experiment(name, artifact_location=self._artifacts if is_local else None)

    def _write_params(self, hparams: Mapping[str, HParam], *, before: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        values = {key: str(value)[:_MAX_PARAM_LENGTH] for key, value in hparams.items()}
        params = [Param(key, value) for key, value in values.items() if key not in before]
        for start in range(0, len(params), _PARAMS_PER_CALL):
            self._client.log_batch(self._run_id, params=params[start : start + _PARAMS_PER_CALL])
        for key, value in values.items():
            if before.get(key, value) != value:
                self._client.set_tag(self._run_id, key, value)


@TRACKER_REGISTRY.register()
def mlflow(cfg: CfgNode) -> MLflowTracker:
    """Build the tracker of a run folder."""
    return MLflowTracker(cfg.OUTPUT_DIR)


def _valid(name: str) -> str:
    return _INVALID_IN_NAMES.sub("_", name)
