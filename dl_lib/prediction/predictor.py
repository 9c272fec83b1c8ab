"""Predictor: predictions of a trained model for new images."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from dl_lib.config import CfgNode, ConfigError
from dl_lib.data.build import build_test_mapper
from dl_lib.data.catalog import Color, DatasetMeta
from dl_lib.data.datasets.configured import configured_meta
from dl_lib.data.errors import DataError, InvalidSampleError
from dl_lib.data.mapper import DatasetMapper
from dl_lib.evaluation.runner.passes import build_inference_model
from dl_lib.evaluation.runner.run import optimized_copy, timed_outputs
from dl_lib.evaluation.scores.prediction import class_indices
from dl_lib.experiment.experiment import load_experiment
from dl_lib.experiment.trained_run import load_trained_model, load_trained_run
from dl_lib.inference.exporting.onnx_runtime import OnnxModel
from dl_lib.modeling import DynamicNet4Seg
from dl_lib.modeling.costs.costs import FLOPS_KEYS, MFLOPS_PER_GFLOP
from dl_lib.modeling.dynamic.routing import Routing
from dl_lib.prediction.inputs import ImageInMemory, ImageInput, ImageSource, OnError, image_inputs, is_single
from dl_lib.prediction.pixels import WHITE, Pixels, checked_color
from dl_lib.prediction.result import PredictedImage
from dl_lib.utils.memory_errors import is_out_of_memory
from dl_lib.validation import validate_config

__all__ = ["Predictor"]

_WORKERS = 2  # threads that decode images


class Predictor:
    """Trained model that predicts the classes of new images.

    Several threads may share it; each process needs its own.

    Args:
        model: Model in evaluation mode, from a list of input dicts to a list of output dicts.
        mapper: Preprocessing of the images.
        meta: Classes and their colors.
        routing_of: Function from the gates (1, edges) of an image to its routing; None without gates.
        probabilities: Compute the probabilities of all classes.
        background: Color behind transparent pixels.
        batch_size: Images per call of the model; those of equal padded size share a forward pass.

    Raises:
        ValueError: If `background` or `batch_size` is invalid.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        mapper: DatasetMapper,
        meta: DatasetMeta,
        routing_of: Callable[[Tensor], Routing] | None = None,
        probabilities: bool = False,
        background: Color = WHITE,
        batch_size: int = 1,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an integer of at least 1. Received: {batch_size=}")
        self.meta = meta
        self.model = model
        self._mapper = mapper
        self._routing_of = routing_of
        self._probabilities = probabilities
        self._background = checked_color(background)
        self._batch_size = batch_size
        self._lock = threading.Lock()  # parts of a model keep the weights for the size of their last input

    @classmethod
    def from_run(cls, run: str | os.PathLike[str], *, device: str = "", **options: Any) -> Predictor:
        """Return the predictor of the last checkpoint of a run.

        Args:
            run: Run folder, or its config.yaml. Its net.py is executed.
            device: `auto`, `cpu`, `cuda` or `cuda:N`; by default that of the config.
            options: `probabilities`, `background` and `batch_size` of the class.

        Raises:
            ConfigError: If there is no such run, or it has no weights.
            CheckpointError: If the weights cannot be loaded.
        """
        opts = [f"MODEL.DEVICE={device}"] if device else []
        experiment = load_trained_run(os.fspath(run), opts, option="run", purpose="prediction")
        return cls.from_config(experiment.cfg, **options)

    @classmethod
    def from_config(
        cls, config: CfgNode | str | os.PathLike[str], *, weights: str | os.PathLike[str] = "", **options: Any
    ) -> Predictor:
        """Return the predictor of a config and its weights.

        Args:
            config: Complete config, YAML file, or name of a shipped experiment.
            weights: Checkpoint; by default `MODEL.WEIGHTS` of the config.
            options: `probabilities`, `background` and `batch_size` of the class.

        Raises:
            ConfigError: If there is no such config, or it is invalid.
            CheckpointError: If the weights cannot be loaded.
        """
        if isinstance(config, CfgNode):
            validate_config(config, purpose="prediction")
            cfg = config
        else:
            cfg = load_experiment(os.fspath(config), [], purpose="prediction").cfg
        if weights:
            cfg = cfg.with_values({"MODEL.WEIGHTS": os.fspath(weights)})
        if not cfg.MODEL.WEIGHTS:
            raise ConfigError("weights: a trained model needs them; give a checkpoint. Received: MODEL.WEIGHTS=''")
        network = load_trained_model(cfg).eval()
        on_cpu = next(network.parameters()).device.type == "cpu"
        options.setdefault("batch_size", 1 if on_cpu else 8)
        return cls(
            build_inference_model(cfg, optimized_copy(cfg, network)).eval(),
            mapper=build_test_mapper(cfg),
            meta=configured_meta(cfg),
            routing_of=_routing_of(network),
            **options,
        )

    @classmethod
    def from_onnx(cls, file: str | os.PathLike[str], **options: Any) -> Predictor:
        """Return the predictor of a file of `dl_lib export --format onnx`, which runs in ONNX Runtime.

        Args:
            file: Exported file.
            options: `probabilities`, unless the file returns labels, `background` and `batch_size` of the class.

        Raises:
            CheckpointError: If the file cannot be read or was not written by `dl_lib export`.
            ConfigError: If `probabilities` are requested of a file that returns labels.
            MissingExtraError: If onnx or onnxruntime are not installed.
        """
        model = OnnxModel(file)
        metadata = model.metadata
        if options.get("probabilities") and metadata.with_preprocessing:
            raise ConfigError(
                "probabilities: an exported file with preprocessing returns labels only; export the run without "
                f"--with-preprocessing. Received: file={os.fspath(file)!r}"
            )
        mapper = DatasetMapper(
            () if metadata.with_preprocessing else metadata.test_augmentations,
            channel_order=metadata.channel_order,
            num_classes=metadata.meta.num_classes,
            ignore_value=metadata.meta.ignore_value,
            transform_label=False,
        )
        return cls(model, mapper=mapper, meta=metadata.meta, routing_of=metadata.routing, **options)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # arrays and tensors are iterable as well
        self, images: ImageInMemory, *, on_error: OnError | None = None
    ) -> PredictedImage: ...

    @overload
    def __call__(self, images: str | os.PathLike[str], *, on_error: OnError | None = None) -> Any: ...

    @overload
    def __call__(self, images: Iterable[Any], *, on_error: OnError | None = None) -> Generator[PredictedImage]: ...

    def __call__(self, images: ImageSource, *, on_error: OnError | None = None) -> Any:
        """Predict one image or several.

        Args:
            images: Array (H, W, channels) or (H, W), tensor (channels, H, W) or (H, W), PIL image or path of an image:
                one image. Folder, glob pattern, video or iterable of any of these: several. Values are uint8, gray, RGB
                or RGBA. The EXIF orientation of files and PIL images is applied.
            on_error: Function that is called with the name and error of each image of several that cannot be read, or
                that the model refuses; the image is then omitted. None raises the error.

        Returns:
            A `PredictedImage` for one image; otherwise an iterator over these in the order of the input. Only a few
            images are read ahead of it.

        Raises:
            DataError: If an image cannot be read, the model refuses it, or the memory does not suffice for it.
            TypeError: If an input has another type.
        """
        inputs = image_inputs(images, background=self._background)
        if not is_single(images):
            return self._stream(inputs, on_error=on_error)
        (item,) = inputs
        (result,) = self._predict([self._load(item)])
        return result

    def _stream(self, inputs: Iterator[ImageInput], *, on_error: OnError | None) -> Generator[PredictedImage]:
        batch: list[_LoadedImage] = []
        errors: list[Exception] = []  # of `inputs`, raised after the images before it
        with closing(self._load_ahead(_until_error(inputs, errors))) as loading:
            for item, loaded in loading:
                try:
                    batch.append(loaded.result())
                except DataError as error:
                    if on_error is None:
                        yield from self._results(batch, on_error=None)
                        raise
                    on_error(item.name, error)
                if len(batch) == self._batch_size:
                    yield from self._results(batch, on_error=on_error)
                    batch = []
            yield from self._results(batch, on_error=on_error)
        if errors:
            raise errors.pop()

    def _results(self, batch: Sequence[_LoadedImage], *, on_error: OnError | None) -> Iterator[PredictedImage]:
        """Predict a batch; image by image if the model refuses one, as exported files of a fixed size do."""
        try:
            results = self._predict(batch)
        except DataError as error:
            if len(batch) == 1:
                if on_error is None:
                    raise
                on_error(batch[0].name, error)
                return
        else:
            yield from results
            return
        for loaded in batch:
            yield from self._results([loaded], on_error=on_error)

    def _load_ahead(self, inputs: Iterator[ImageInput]) -> Generator[tuple[ImageInput, Future[_LoadedImage]]]:
        """Yield the inputs with their images, some of which are loaded ahead in threads that end with the generator."""
        pending: deque[tuple[ImageInput, Future[_LoadedImage]]] = deque()
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="dl_lib-images") as pool:
            try:
                for item in inputs:
                    pending.append((item, pool.submit(self._load, item)))
                    if len(pending) > self._batch_size + _WORKERS:
                        yield pending.popleft()
                while pending:
                    yield pending.popleft()
            finally:
                pool.shutdown(cancel_futures=True)

    def _load(self, item: ImageInput) -> _LoadedImage:
        image = item.load()
        sample: Any = {"image": image, "image_id": item.name, "file_name": item.name}
        return _LoadedImage(item.name, image, self._mapper(sample, rng=np.random.default_rng(0)))

    def _predict(self, batch: Sequence[_LoadedImage]) -> list[PredictedImage]:
        if not batch:
            return []
        inputs = [loaded.mapped for loaded in batch]
        try:
            with self._lock, torch.inference_mode():
                outputs, seconds = timed_outputs(self.model, inputs)
            return [
                self._result(loaded, output, seconds=seconds / len(batch))
                for loaded, output in zip(batch, outputs, strict=True)
            ]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            largest = max(batch, key=lambda loaded: loaded.image.size)
            raise InvalidSampleError(
                f"{largest.name} needs more memory for its prediction than is free; use a smaller image, or windows of "
                f"it (TEST.SLIDING.WINDOW). Received: height and width={largest.image.shape[:2]}"
            ) from error

    def _result(self, loaded: _LoadedImage, output: Mapping[str, Any], *, seconds: float) -> PredictedImage:
        labels, flops, probabilities = output.get("labels"), output.get("flops", {}), None
        if labels is None:
            labels = class_indices(output["sem_seg"], num_classes=self.meta.num_classes)
        if self._probabilities:
            probabilities = output["sem_seg"].softmax(dim=0, dtype=torch.float32).cpu().numpy()
        return PredictedImage(
            name=loaded.name,
            image=loaded.image,
            classes=labels.cpu().numpy(),
            probabilities=probabilities,
            route=self._route(output.get("gates")),
            gflops={name: float(flops[key]) / MFLOPS_PER_GFLOP for name, key in FLOPS_KEYS.items() if key in flops},
            seconds=seconds,
            meta=self.meta,
        )

    def _route(self, gates: Tensor | None) -> Routing | None:
        return None if gates is None or self._routing_of is None else self._routing_of(gates.double().cpu()[None])


def _until_error(inputs: Iterator[ImageInput], errors: list[Exception]) -> Iterator[ImageInput]:
    """Yield inputs until their iterator raises an error, which is appended to `errors`."""
    try:
        yield from inputs
    except Exception as error:
        errors.append(error)


@dataclass(frozen=True, eq=False)
class _LoadedImage:
    name: str
    image: Pixels
    mapped: dict[str, Any]  # input of the model


def _routing_of(network: nn.Module) -> Callable[[Tensor], Routing] | None:
    if not isinstance(network, DynamicNet4Seg) or not network.backbone.has_gates:
        return None
    backbone = network.backbone
    route, unreached = backbone.route, backbone.unreached
    return lambda gates_BE: Routing.of_gates(route, gates_BE, unreached=unreached)
