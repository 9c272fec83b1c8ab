"""Command `dl_lib profile-costs` on a small network: files, table, check, errors."""

import csv

import cv2
import pytest

from dl_lib.cli.profile_costs import main
from dl_lib.config import get_cfg
from dl_lib.inference import latency
from dl_lib.modeling.costs.latency_file import configured_latency
from dl_lib.utils.environment import library_versions
from tests.helpers.small_run import SMALL


def profile(tmp_path, *words):
    (tmp_path / "config.yaml").write_text("{}\n")
    overrides = [*map(str, SMALL), "DATASETS.TEST", "[digit_scenes_val]", "DATASETS.TRAIN", "[digit_scenes_train]"]
    main([str(tmp_path), *overrides, "SOLVER.BEST_METRIC=", "OUTPUT_DIR", str(tmp_path / "run"), *words])


def test_table_check_and_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(latency, "_MAX_ROUNDS", 1)
    profile(tmp_path, "--size", "40x64")
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"latency_table_48x64.{kind}" for kind in ("csv", "json", "png")
    ]
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, "MODEL.BUDGET.LATENCY_TABLE", str(folder / "latency_table_48x64.json")])
    table = configured_latency(cfg)
    assert table.conditions.size == (48, 64) and table.conditions.versions == library_versions()
    rows = list(csv.DictReader((folder / "latency_table_48x64.csv").read_text().splitlines()))
    assert len(rows) == latency.NUM_ROUTES
    highest = table.dense * (1 + 1e-9)  # with all gates open, up to rounding
    assert all(table.unconditional < float(row["predicted_ms"]) <= highest for row in rows)
    assert cv2.imread(str(folder / "latency_table_48x64.png")).shape[2] == 3
    output = capsys.readouterr().out
    assert "48x64 on " in output and "Median error of the predicted latency: " in output
    assert sum(line.split()[0].isdecimal() for line in output.splitlines() if line) == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "96"], "must be a size HEIGHTxWIDTH of up to 99999 pixels, such as 512x1024. Received: 96"),
        ([], "the following arguments are required: --size"),
        (
            ["--size", "64x64", "MODEL.BUDGET.CONSTRAIN=False", "MODEL.GATE.GATE_ON=False"],
            "cannot be profiled: the network must have learned gates",
        ),
        (["--size", "64x64", "SEED=x"], "SEED must be of type int"),
        (
            ["--size", "16x16", "MODEL.GATE.SMALL_GATE=True", "INPUT.CROP_SIZE=[64,64]"],
            "the smallest valid size is 64x64",
        ),
    ],
)
def test_errors(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        profile(tmp_path, *words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_missing_config_is_named_by_its_argument(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "absent"), "--size", "64x64"])
    assert ended.value.code == 2
    assert "dl_lib profile-costs: error: CONFIG: no such file, folder or shipped" in capsys.readouterr().err
