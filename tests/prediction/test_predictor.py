"""Predictor: results equal evaluations, order and look-ahead of streams, threads, and what it refuses."""

import gc
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dl_lib
from dl_lib.cli import evaluate
from dl_lib.config import ConfigError, get_cfg, write_config
from dl_lib.data import DatasetCatalog
from dl_lib.data.errors import DataError, InvalidSampleError, MissingDataError
from dl_lib.experiment.trained_run import load_trained_run
from dl_lib.prediction.predictor import Predictor
from dl_lib.utils.run_files import CONFIG_NAME
from tests.helpers.prediction_run import CLASSES, SIZES, make_dataset, make_run
from tests.helpers.training import restore_logging
from tests.helpers.videos import COLORS, write_video

PIXELS = np.zeros((4, 4, 3), np.uint8)
PASSES = {
    "as in the dataset": {},
    "resized": {"INPUT.MIN_SIZE_TEST": 24, "INPUT.MAX_SIZE_TEST": 64},
    "windows": {"TEST.SLIDING.WINDOW": [16, 16], "TEST.SLIDING.OVERLAP": 0.25},
    "multi-scale and flip": {"TEST.MULTI_SCALE.SCALES": [0.75, 1.5], "TEST.MULTI_SCALE.FLIP": True},
}
STATIC = {
    **{
        "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
        "MODEL.BACKBONE.NAME": "rexnet",
        "MODEL.BUDGET.CONSTRAIN": False,
    },
    **{"MODEL.BACKBONE.WIDTH_FACTOR": 0.25, "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["c2", "c3"]},
}


@pytest.fixture(autouse=True)
def catalog(monkeypatch):
    """Registered datasets are forgotten after a test."""
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    return make_run(tmp_path_factory.mktemp("runs") / "run", data=data)


@pytest.fixture(scope="module")
def predictor(run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
        return Predictor.from_run(run, probabilities=True)


@pytest.fixture
def images():
    """Images of many sizes, some of which are padded to the same size."""
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (5, 3), (16, 24), (15, 23), (33, 17), (9, 40), (16, 20)] * 2
    return [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]


def image_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("dl_lib-images")]


def assert_same(found, expected):
    for result, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result.classes, reference.classes)
        np.testing.assert_array_equal(result.image, reference.image)


@pytest.mark.parametrize("name", PASSES)
def test_labels_equal_those_of_an_evaluation(tmp_path, data, name):
    run = make_run(tmp_path / "run", data=data, overrides=PASSES[name])
    with restore_logging():
        evaluate.main(["--config-file", str(run), "TEST.SAVE_PREDICTIONS=[label_png]"])
    results = list(Predictor.from_run(run, probabilities=True)(data["IMAGES"]))
    assert [result.classes.shape for result in results] == list(SIZES)
    assert len(np.unique(np.concatenate([result.classes.ravel() for result in results]))) > 1
    for result in results:
        (path,) = (run / "evaluations").rglob(f"{Path(result.name).stem}.png")
        np.testing.assert_array_equal(result.classes, np.asarray(Image.open(path)))
        np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_array_equal(result.probabilities.argmax(axis=0), result.classes)


def test_result_of_one_image(predictor, data):
    path = Path(data["IMAGES"], "0.png")
    pixels = np.asarray(Image.open(path))
    tensor = torch.tensor(pixels).permute(2, 0, 1)
    first, *others = [predictor(image) for image in (path, pixels, tensor, Image.open(path), str(path))]
    assert_same(others, [first] * 4)
    assert (first.name, others[0].name) == (str(path), "0")
    assert first.classes.dtype == np.uint8 and first.probabilities.dtype == np.float32
    assert first.route.gates_BE.shape == (1, 4) and first.gflops["executed"] > 0 and first.seconds > 0
    assert first.meta.class_names == tuple(CLASSES) and first.overlay().shape == (*SIZES[0], 3)
    assert not image_threads()


@pytest.mark.parametrize("batch_size", [2, 5])
def test_batches_keep_order_and_labels(run, predictor, images, batch_size):
    batched = Predictor.from_run(run, batch_size=batch_size)
    results = list(batched(iter(images)))
    assert [result.name for result in results] == [str(number) for number in range(len(images))]
    assert_same(results, [predictor(image) for image in images])
    assert all(result.probabilities is None for result in results)


def test_several_threads_get_the_results_of_one(predictor, images):
    expected = [predictor(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        singles = list(pool.map(predictor, images))
        streams = list(pool.map(lambda _: list(predictor(images)), range(3)))
    for results in (singles, *streams):
        assert_same(results, expected)


def test_look_ahead_is_bounded_and_threads_end(predictor, images):
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield images[2]

    for how in ("close", "drop"):
        read.clear()
        results = predictor(endless())
        assert not read
        for number in range(5):
            next(results)
            assert len(read) <= number + 5
        assert image_threads()
        if how == "close":
            results.close()
        del results
        gc.collect()
        assert not image_threads()


def test_images_of_a_stream_are_freed(predictor, images, monkeypatch):
    load, references = predictor._load, []

    def recorded(item):
        loaded = load(item)
        references.append(weakref.ref(loaded.mapped["image"]))
        return loaded

    monkeypatch.setattr(predictor, "_load", recorded)
    for result in predictor(images):
        del result
        assert sum(reference() is not None for reference in references) <= 4
    assert len(references) == len(images)


def test_unreadable_inputs_of_a_stream_are_reported_in_order(predictor, data, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"text")
    good, float_image = Path(data["IMAGES"], "0.png"), np.zeros((4, 4))
    sources = [good, "missing.png", float_image, tmp_path / "broken.png", data["IMAGES"], str(tmp_path / "*.gif")]
    reported = []
    results = predictor(sources, on_error=lambda name, error: reported.append((name, type(error).__name__)))
    assert [Path(result.name).name for result in results] == ["0.png", "0.png", "1.png", "2.png"]
    assert reported == [
        *[("missing.png", "MissingDataError"), ("2", "InvalidSampleError")],
        *[(str(tmp_path / "broken.png"), "UnreadableFileError"), (str(tmp_path / "*.gif"), "MissingDataError")],
    ]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (InvalidSampleError("the file has a fixed size"), "^the file has a fixed size$"),
        (torch.OutOfMemoryError("CUDA"), r"^4 needs more memory .*Received: height and width=\(33, 17\)$"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 bytes"), "^4 needs more memory"),
    ],
)
def test_images_that_the_model_refuses_are_reported_alone(
    run, predictor, images, monkeypatch, batch_size, refusal, message
):
    limited = Predictor.from_run(run, batch_size=batch_size)
    forward = limited.model.forward

    def fixed_size(inputs):
        if any(sample["image"].shape[-2:] == (33, 17) for sample in inputs):
            raise refusal
        return forward(inputs)

    monkeypatch.setattr(limited.model, "forward", fixed_size)
    reported = []
    results = list(limited(images, on_error=lambda name, error: reported.append(name)))
    kept = [number for number, image in enumerate(images) if image.shape[:2] != (33, 17)]
    assert reported == ["4", "11"] and [result.name for result in results] == [str(number) for number in kept]
    assert_same(results, [predictor(images[number]) for number in kept])
    results = limited(images)
    assert [next(results).name for _ in range(4)] == ["0", "1", "2", "3"]
    with pytest.raises(InvalidSampleError, match=message):
        next(results)


def failing_after(images, error):
    yield from images
    raise error


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(
    ("following", "error"),
    [
        (["missing.png", PIXELS], MissingDataError),
        (["missing.png", 3], MissingDataError),
        ([3], TypeError),
        (failing_after, RuntimeError),
    ],
)
def test_an_error_follows_the_images_before_it(run, images, batch_size, following, error):
    first = images[:3]
    source = failing_after(first, error("camera lost")) if following is failing_after else [*first, *following]
    on_error = None if error is MissingDataError else pytest.fail
    results = Predictor.from_run(run, batch_size=batch_size)(source, on_error=on_error)
    assert [next(results).name for _ in first] == ["0", "1", "2"]
    with pytest.raises(error):
        next(results)
    assert not image_threads()


def test_errors_of_one_image_are_raised_at_once(predictor):
    with pytest.raises(MissingDataError, match=r"^no such file or folder"):
        predictor("missing.png", on_error=pytest.fail)
    for other in (3, b"image.png"):
        with pytest.raises(TypeError):
            predictor(other)
    with pytest.raises(DataError):
        predictor(np.zeros((2, 4, 4, 3), np.uint8))


def test_frames_of_a_video(predictor, tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    results = list(predictor(path))
    assert [result.name for result in results] == [f"{path}#{number}" for number in range(len(COLORS))]
    assert results[0].image.shape == (32, 48, 3) and results[0].classes.shape == (32, 48)


def test_transparent_pixels_have_the_background(run):
    clear = np.zeros((8, 8, 4), np.uint8)
    assert (Predictor.from_run(run)(clear).image == 255).all()
    assert (Predictor.from_run(run, background=(1, 2, 3))(clear).image == (1, 2, 3)).all()


def test_runs_need_no_data(tmp_path, predictor, images):
    data = make_dataset(tmp_path / "data")
    run = make_run(tmp_path / "run", data=data, overrides={"DATASETS.TEST": []})
    shutil.rmtree(tmp_path / "data")
    moved = shutil.move(run, tmp_path / "moved")
    found = Predictor.from_run(moved)
    assert found.meta.class_names == tuple(CLASSES)
    assert_same(found(images), predictor(images))


def test_runs_whose_datasets_share_a_name_keep_their_classes(tmp_path, run, predictor, images):
    data = {**make_dataset(tmp_path / "data"), "CLASSES": ["a", "b", "c"]}
    other = tmp_path / "run"
    shutil.copytree(run, other)
    cfg = get_cfg()
    cfg.merge_from_file(run / CONFIG_NAME)
    cfg.merge_from_list(["DATASETS.FOLDERS", [data]])
    write_config(cfg, other)
    Predictor.from_run(run)
    for found in (Predictor.from_run(other), Predictor.from_config(cfg, weights=other / "model_final.pth")):
        assert found.meta.class_names == ("a", "b", "c") and predictor.meta.class_names == tuple(CLASSES)
        assert_same(found(images[:3]), predictor(images[:3]))
    with pytest.raises(ConfigError, match=r"must not be the name of another registered dataset"):
        load_trained_run(str(other), [])


def test_static_networks_have_no_route(tmp_path, data, images):
    result = Predictor.from_run(make_run(tmp_path / "run", data=data, overrides=STATIC))(images[2])
    assert result.route is None and result.gflops["executed"] > 0


def test_from_config(tmp_path, run, predictor, images, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(run / "model_final.pth", "weights.pth")
    cfg = get_cfg()
    cfg.merge_from_file(run / CONFIG_NAME)
    for config in (cfg, run, run / CONFIG_NAME):
        assert_same(Predictor.from_config(config, weights="weights.pth")(images[:3]), predictor(images[:3]))
    with pytest.raises(ConfigError, match=r"^weights: .*Received: MODEL\.WEIGHTS=''$"):
        Predictor.from_config(cfg)
    cfg.TEST.EXECUTION = "fast"
    with pytest.raises(ConfigError, match=r"TEST\.EXECUTION"):
        Predictor.from_config(cfg, weights="weights.pth")


def test_what_cannot_be_loaded(tmp_path, run):
    with pytest.raises(ConfigError, match=r"^run: no such file"):
        Predictor.from_run(tmp_path / "none")
    for size in (0, 2.5):
        with pytest.raises(ValueError, match=rf"^batch_size must be an integer .*Received: batch_size={size}$"):
            Predictor.from_run(run, batch_size=size)
    cfg = get_cfg()
    cfg.merge_from_file(run / CONFIG_NAME)
    cfg.merge_from_list(["DATASETS.TRAIN", [], "DATASETS.TEST", []])
    with pytest.raises(ConfigError, match=r"^DATASETS\.TEST names the classes"):
        Predictor.from_config(cfg, weights=run / "model_final.pth")


def test_predictor_is_a_name_of_the_package():
    assert dl_lib.Predictor is Predictor
    with pytest.raises(AttributeError, match="module 'dl_lib' has no attribute 'predictor'"):
        _ = dl_lib.predictor
