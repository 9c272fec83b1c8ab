"""Command `dl_lib inspect`: tables of routed and static networks, and what cannot run."""

import math

import pytest

from dl_lib.cli.main import main
from dl_lib.experiment.experiment import load_experiment
from dl_lib.modeling import SegmentationModel, build_model


def printed(capsys, *words):
    main(["inspect", *words])
    return capsys.readouterr().out


def rows_of(text):
    return {cells[0]: cells[1:] for line in text.splitlines() if len(cells := line.split()) > 2}


def test_routed_network(capsys):
    text = printed(capsys, "Quickstart", "MODEL.DEVICE=cpu")
    model = build_model(load_experiment("Quickstart", ["MODEL.DEVICE=cpu"], purpose="evaluation").cfg)
    parameters = sum(values.numel() for values in model.parameters())
    assert text.startswith(f"{parameters:,} parameters, images of 96x96 pixels, all gates open\n")
    rows = rows_of(text)
    assert rows["layer3_stride32"][0] == "192x3x3" and rows["all"][:2] == ["parts", f"{parameters:,}"]
    _, _, operations, gates, transitions, total, percent = rows["all"]
    unrouted = float(rows["stem"][2]) + float(rows["head"][2])
    assert float(operations) + float(gates) + float(transitions) + unrouted == pytest.approx(float(total), abs=4e-6)
    assert (total, percent) == ("0.066595", "100.0")
    images = {line[0]: line[2] for line in ([*part.split("  ")] for part in text.splitlines()) if len(line) > 2}
    assert "training step" in images and "prediction" in images
    larger = rows_of(printed(capsys, "Quickstart", "MODEL.DEVICE=cpu", "--batch", "3", "--size", "128x96"))
    assert larger["training"][1] == larger["prediction"][0] == "3" and larger["stem"][0] == "24x32x24"


def test_static_network(capsys):
    text = printed(capsys, "Zoo/Digits.ReXNet", "MODEL.DEVICE=cpu", "--size", "64x64")
    rows = rows_of(text)
    assert "gate" not in text
    assert rows["head"][0] == "11x16x16" and rows["c2"][0].endswith("x16x16") and rows["c5"][0].endswith("x2x2")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["Quickstart", "--batch", "0"], "--batch: must be an integer in [1, 4096]. Received: 0"),
        (["Quickstart", "--size", "96"], "must be a size HEIGHTxWIDTH"),
        (["Quickstar"], "CONFIG: no such file, folder or shipped experiment (nearest: Quickstart"),
        (["Quickstart", "INPUT.CROP_SIZE=[0,0]"], "--size: there is no INPUT.CROP_SIZE; give the size of the images"),
        (
            ["Zoo/Digits.ReXNet", "--size", "4x4", "--batch", "1"],
            "cannot run on images of 4x4 pixels in batches of 1 (training step) and 1 (prediction); choose another",
        ),
        (["Quickstart", "--size", "99999x99999", "--batch", "5000"], "must be an integer in [1, 4096]"),
    ],
)
def test_errors(capsys, words, problem):
    with pytest.raises(SystemExit) as ended:
        main(["inspect", *words, *(["MODEL.DEVICE=cpu"] if len(words) > 1 and words[1][0] == "-" else [])])
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


SMALL = [
    *("Quickstart", "MODEL.DEVICE=cpu", "MODEL.BACKBONE.LAYER_NUM=2", "MODEL.BACKBONE.CELL_NUM_LIST=[2,3]"),
    *("MODEL.BACKBONE.MAX_STRIDE=16", "MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_0,layer_1,layer_2]"),
]


def test_only_errors_of_a_size_are_refusals(capsys, monkeypatch):
    preprocess = SegmentationModel.preprocess_images

    def fail_below(height):
        def run(model, inputs):
            if inputs[0]["image"].shape[1] < height:
                raise RuntimeError(f"image below {height} pixels") from OSError("cause")
            return preprocess(model, inputs)

        monkeypatch.setattr(SegmentationModel, "preprocess_images", run)

    fail_below(200)
    with pytest.raises(SystemExit):
        main(["inspect", *SMALL])
    assert "cannot run on images of 96x96 pixels" in (message := capsys.readouterr().err)
    assert message.endswith("Received: image below 200 pixels\n")
    fail_below(math.inf)
    with pytest.raises(RuntimeError, match="image below inf pixels") as defect:
        main(["inspect", *SMALL])
    assert isinstance(defect.value.__cause__, OSError)


def test_operation_that_needs_values(capsys, monkeypatch):
    monkeypatch.setattr(SegmentationModel, "preprocess_images", lambda _, inputs: inputs[0]["image"].unique())
    with pytest.raises(SystemExit):
        main(["inspect", *SMALL])
    assert "memory of this network cannot be predicted: an operation needs the values" in capsys.readouterr().err
