"""Command `dl_lib export`: files, their metadata and verification, user errors."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from dl_lib.checkpoint import Checkpointer, CheckpointError
from dl_lib.config import get_cfg, write_config
from dl_lib.data import DatasetCatalog
from dl_lib.data.errors import InvalidSampleError
from dl_lib.evaluation.report import write as report
from dl_lib.inference.exporting import network
from dl_lib.inference.exporting.metadata import METADATA_KEY, ExportMetadata
from dl_lib.inference.exporting.onnx_runtime import OnnxModel
from dl_lib.inference.exporting.openvino_file import OpenVinoModel
from dl_lib.inference.exporting.torch_program import TorchProgramModel
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.gate import Gate
from dl_lib.prediction.predictor import Predictor
from tests.helpers.command import run_command as run
from tests.helpers.small_run import DATASET, SMALL, register

DEPLOYMENT = Path(__file__).parents[2] / "docs/deployment.md"
WITHOUT_GATES = ["MODEL.GATE.GATE_ON=False", "MODEL.BUDGET.CONSTRAIN=False", "MODEL.ALLOW_UNEXPECTED_KEYS=[gate]"]
WITHOUT_GATES += ["SOLVER.EMA.DECAY=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Run folder of a network whose gates depend on the image."""
    register()
    folder = tmp_path_factory.mktemp("runs") / "run"
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, "SOLVER.EMA.DECAY", 0, "OUTPUT_DIR", str(folder)])
    torch.manual_seed(3)
    model = build_model(cfg)
    for gate in (module for module in model.modules() if isinstance(module, Gate)):
        nn.init.normal_(gate.predict.weight, std=0.3)
        nn.init.uniform_(gate.predict.bias, -0.3, 1.0)
    Checkpointer(model, folder).save("model_final")
    write_config(cfg, folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return trained_model(folder)


@pytest.fixture(scope="module")
def onnx_file(folder):
    """File under the default name, of the size of the images of the dataset."""
    assert run("export", folder, "--format", "onnx") == 0
    return folder / "exported.onnx"


def config_of(folder):
    cfg = get_cfg()
    cfg.merge_from_file(folder / "config.yaml")
    return cfg


def trained_model(folder):
    model = build_model(config_of(folder))
    Checkpointer(model).load(folder / "model_final.pth", [])
    return model.eval()


def scene(height=96, width=96):
    """Image (height, width, 3), uint8 RGB."""
    image = DatasetCatalog.get(DATASET)[0]["image"]
    return np.tile(image, (2, 2, 1))[:height, :width]


def predicted(model, image):
    """Prediction of a model with BGR input for an RGB image."""
    with torch.inference_mode():
        (output,) = model([{"image": torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)}])
    return output


def run_example(image, path, monkeypatch):
    """Run the example of the documentation with an image and an exported file."""
    monkeypatch.chdir(path.parent)
    path.rename("scenes.onnx")
    Image.fromarray(image).save("scene.png")
    _, code, _ = re.findall(r"```python\n(.*?)```", DEPLOYMENT.read_text(), flags=re.DOTALL)
    exec(code, {})
    Path("scenes.onnx").rename(path)


def assert_equal_logits(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--dynamic-size", "--dynamic"], (101, 77)),
        (["--size", "67x90", "--with-preprocessing"], (67, 90)),
        (["--dynamic-size", "--dynamic", "--with-preprocessing"], (77, 101)),
    ],
)
def test_onnx_files_compute_the_outputs_of_the_run(folder, model, options, size, tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.onnx"
    assert run("export", folder, "--format", "onnx", *options, "--output", path) == 0
    printed = capsys.readouterr().out
    assert "pixels with another label: 0 of " in printed and f"Wrote {path} (" in printed
    assert [*tmp_path.iterdir()] == [path]
    image = scene(*size)
    expected, exported = predicted(model, image), OnnxModel(path)
    found = predicted(exported, image)
    session = onnxruntime.InferenceSession(path)
    if "--with-preprocessing" in options:
        labels = session.run(["labels"], {"image": image[None]})[0][0]
        if "--dynamic" not in options:
            batch = session.run(["labels"], {"image": np.stack([image, image])})[0]
            assert (batch == labels).all() and len(batch) == 2
        if "--dynamic-size" in options:
            run_example(image, path, monkeypatch)
        assert labels.dtype == np.uint8 and (found["labels"].numpy() == labels).all()
        torch.testing.assert_close(found["labels"].long(), expected["sem_seg"].argmax(dim=0))
    else:
        assert_equal_logits(found["sem_seg"], expected["sem_seg"])
    assert ("gates" in found) == ("--dynamic" in options)
    if "--dynamic" in options:
        torch.testing.assert_close(found["gates"], expected["gates"], rtol=0, atol=1e-4)
        assert found["flops"]["real_flops"] == pytest.approx(expected["flops"]["real_flops"])
        values = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        assert values["edges"] == [str(edge) for edge in model.backbone.lattice.edges]
    of_run, of_file = (
        make(source)(image) for make, source in ((Predictor.from_run, folder), (Predictor.from_onnx, path))
    )
    assert (of_file.classes == of_run.classes).all() and of_file.classes.dtype == of_run.classes.dtype
    if of_file.route is not None:
        assert torch.equal(of_file.route.reached_BN, of_run.route.reached_BN)
        assert of_file.gflops == {"real": pytest.approx(of_run.gflops["real"])}
    assert exported.metadata.meta.class_names == DatasetCatalog.meta(DATASET).class_names
    assert ExportMetadata.from_json(exported.metadata.to_json(), path="") == exported.metadata


def test_wrong_files_are_not_left_as_if_good(folder, tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.pt2"
    path.write_text("earlier")
    original = TorchProgramModel.run
    monkeypatch.setattr(TorchProgramModel, "run", lambda *args: {name: 1.1 * y for name, y in original(*args).items()})
    assert run("export", folder, "--format", "torch-export", "--output", path) == 1
    assert "largest difference: 1.00e-01 of the largest logit" in capsys.readouterr().out
    assert path.read_text() == "earlier"
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "mine.unverified.pt2"]


@pytest.mark.parametrize(
    ("name", "option", "open_file"),
    [
        ("a.pt2", "--with-preprocessing", TorchProgramModel),
        ("a.pt2", "--dynamic-size", TorchProgramModel),
        ("a.xml", "--dynamic", OpenVinoModel),
    ],
)
def test_other_formats_compute_the_outputs_of_the_run(folder, model, name, option, open_file, tmp_path, capsys):
    path, image = tmp_path / name, scene(67, 90)
    if (name, option) == ("a.pt2", "--dynamic-size"):  # the smallest size
        image = scene(model.backbone.size_divisor + 1, 90)
    size = [] if option == "--dynamic-size" else ["--size", "67x90"]
    format = {".pt2": "torch-export", ".xml": "openvino"}[path.suffix]
    assert run("export", folder, "--format", format, option, *size, "--output", path) == 0
    files = sorted(tmp_path.iterdir())
    assert [file.suffix for file in files] in ([".pt2"], [".bin", ".xml"])
    names = {"torch-export": f"{path}", "openvino": f"{path} and a.bin"}[format]
    assert f"Wrote {names} ({sum(file.stat().st_size for file in files) / 1e6:.1f} MB)" in capsys.readouterr().out
    exported, expected = open_file(path), predicted(model, image)
    found = predicted(exported, image)
    if "labels" in found:
        torch.testing.assert_close(found["labels"].long(), expected["sem_seg"].argmax(dim=0))
    else:
        assert_equal_logits(found["sem_seg"], expected["sem_seg"])
    assert exported.metadata.meta.class_names == DatasetCatalog.meta(DATASET).class_names


def test_routes_are_those_of_freeze_route(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "_draw", lambda *args, **kwargs: {})  # figures take longer than the rest
    path, frozen = tmp_path / "a.onnx", tmp_path / "frozen"
    route = ["--route", "layer0_stride4.keep=0.25,layer1_stride4.keep,layer2_stride4.keep", "--gates", "one"]
    assert run("export", folder, "--format", "onnx", *route, "--output", path) == 0
    assert "All parts of the network run" not in capsys.readouterr().out
    assert run("freeze-route", folder, *route, "--output", frozen) == 0
    exported, expected = OnnxModel(path), predicted(trained_model(frozen), scene())
    found = predicted(exported, scene())
    assert exported.metadata.outputs == ("logits",)
    assert_equal_logits(found["sem_seg"], expected["sem_seg"])


def test_weights_alone_give_the_same_predictions(folder, model, capsys):
    path = folder / "exported.safetensors"
    for verb in ("Wrote", "Replaced"):
        assert run("export", folder, "--format", "weights", "DATASETS.TEST=[]") == 0
        assert f"{verb} {path} (" in capsys.readouterr().out
    loaded = build_model(config_of(folder))
    Checkpointer(loaded).load(path, [])
    assert torch.equal(predicted(loaded.eval(), scene())["sem_seg"], predicted(model, scene())["sem_seg"])
    assert {*folder.iterdir()} >= {path}
    path.unlink()


def test_missing_datasets_are_replaced_by_generated_images(folder, tmp_path, capsys):
    entry = [{"NAME": "absent_images", "IMAGES": str(tmp_path / "none"), "CLASSES": [f"class {i}" for i in range(11)]}]
    words = [f"DATASETS.FOLDERS={json.dumps(entry)}", "--data", "absent_images", "TEST.MULTI_SCALE.FLIP=True"]
    words += ["DATASETS.TRAIN=[]"]
    assert run("export", folder, "--format", "torch-export", "--output", tmp_path / "a.pt2", *words) == 0
    printed = capsys.readouterr().out
    assert "No images of absent_images, which cannot be read" in printed
    assert "images: 4 (48x48)" in printed
    assert "TEST.MULTI_SCALE are not part of the file" in printed
    assert "All parts of the network run for every image; --dynamic" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format=onnx", "--output=a.pth"], "--output: the name of the file must end in .onnx"),
        (["--format=weights", "--dynamic"], "--format weights: the weights depend on no other option"),
        (["--format=onnx", "--dynamic", "--route=all_open"], "argument --route: not allowed with argument --dynamic"),
        (["--format=weights", "--data=absent"], "--format weights: the weights depend on no other option"),
        (["--format=weights", "--gates=one"], "--format weights: the weights depend on no other option"),
        (["--format=onnx", "--gates=one"], "--gates: gates have fixed values only on a fixed route; add --route"),
        (["--format=onnx", "--size=99999x96"], "--size (size): height and width must be integers from 1 to 16384"),
        (["--format=onnx", "--precision=int8", "DATASETS.TRAIN=[]"], "Received: calibration_images=()"),
        (["--format=onnx", "--route=all_opne"], "--route: must be the name of a route"),
        (["--format=onnx", "--dynamic", *WITHOUT_GATES], "--dynamic (dynamic=True) needs a network with learned gates"),
        (
            ["--format=onnx", "--with-preprocessing", "INPUT.MIN_SIZE_TEST=64", "--size=96x96"],
            "--with-preprocessing: the resize of INPUT.MIN_SIZE_TEST cannot be part of the file",
        ),
    ],
)
def test_user_errors(folder, words, message, capsys):
    before = sorted(folder.iterdir())
    assert run("export", folder, *words) == 2
    assert message in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_predict_with_the_file_gives_the_labels_of_the_run(folder, onnx_file, tmp_path):
    Image.fromarray(scene()).save(tmp_path / "scene.png")
    for runtime, source in (("torch", folder), ("onnx", onnx_file)):
        words = ["--save", "labels,json", "--output", tmp_path / runtime]
        assert run("predict", source, tmp_path / "scene.png", "--runtime", runtime, *words) == 0
    labels = [np.asarray(Image.open(tmp_path / runtime / "labels/scene.png.png")) for runtime in ("torch", "onnx")]
    assert (labels[0] == labels[1]).all() and len(np.unique(labels[0])) > 1


def test_files_of_a_fixed_size_refuse_other_sizes_and_predict_the_rest(onnx_file):
    predictor, problem = (
        Predictor.from_onnx(onnx_file),
        r"takes images of 96x96 pixels .* only; export the run with --d",
    )
    with pytest.raises(InvalidSampleError, match=problem):
        predictor(scene(64, 96))
    failed = {}
    results = predictor([scene(64, 96), scene(), scene(96, 64)], on_error=failed.__setitem__)
    assert [result.classes.shape for result in results] == [(96, 96)]
    assert len(failed) == 2


def test_nothing_remains_of_an_interrupted_export(folder, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(TorchProgramModel, "run", interrupt)
    assert run("export", folder, "--format", "torch-export", "--output", tmp_path / "a.pt2") == 130
    assert [*tmp_path.iterdir()] == []


def test_costs_that_no_formula_describes_need_a_fixed_size(folder, monkeypatch, capsys):
    def refuse(*args):
        raise ValueError("the cost of each part must be a constant plus")

    monkeypatch.setattr(network, "RealCost", type("RealCost", (), {"__init__": refuse}))
    words = ("export", folder, "--format", "torch-export", "--dynamic")
    assert run(*words, "--dynamic-size") == 2
    assert "choose a fixed --size: the cost of each part must be a constant plus" in capsys.readouterr().err
    assert run(*words) == 0
    path = folder / "exported.dynamic.pt2"  # not that of a static file
    assert f"Wrote {path} (" in capsys.readouterr().out
    path.unlink()


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_packages_are_named_before_any_work(folder, name, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert run("export", folder, "--format", "onnx", "--output", folder.parent / "a.onnx") == 2
    assert f"needs {name}, which could not be imported; install with: pip install" in capsys.readouterr().err


def edited(file, path, *, change):
    """Write the file with other metadata."""
    model = onnx.load(file)
    (entry,) = model.metadata_props
    values = json.loads(entry.value)
    change(values)
    entry.value = json.dumps(values)
    path.write_bytes(model.SerializeToString())
    return path


def add_class(values):
    values["class_names"].append("added")
    values["class_colors"].append([1, 2, 3])


def double_size(values):
    values["size"] = [192, 96]


@pytest.mark.parametrize("change", [add_class, double_size, lambda values: values.update(with_preprocessing=True)])
def test_files_with_other_metadata_are_refused(onnx_file, tmp_path, change):
    path = edited(onnx_file, tmp_path / "a.onnx", change=change)
    with pytest.raises(CheckpointError, match=r"must be those of its metadata|outputs must be labels"):
        OnnxModel(path)


def test_damaged_and_foreign_files_are_refused(onnx_file, tmp_path):
    model = onnx.load(onnx_file)
    external = onnx.ModelProto.FromString(model.SerializeToString())
    entry = external.graph.initializer[0]
    entry.data_location = onnx.TensorProto.EXTERNAL
    entry.external_data.add(key="location", value="/etc/passwd")
    foreign = onnx.ModelProto.FromString(model.SerializeToString())
    foreign.ClearField("metadata_props")
    content = onnx_file.read_bytes()
    cases = {
        "undamaged": [b"", content[: len(content) // 2], b"text\n" * 100],
        "weights in other files": [external.SerializeToString()],
        "no metadata": [foreign.SerializeToString()],
    }
    for reason, damaged in cases.items():
        for number, data in enumerate(damaged):
            path = tmp_path / f"{number}.onnx"
            path.write_bytes(data)
            with pytest.raises(CheckpointError, match=reason):
                OnnxModel(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        OnnxModel(tmp_path / "absent.onnx")
