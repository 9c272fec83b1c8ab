"""Experiments: config lookup, own code in net.py, run folders, weights to evaluate."""

import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch

from dl_lib.cli.arguments import experiment_parser, parse_run_arguments
from dl_lib.cli.processes import start_processes
from dl_lib.config import ConfigError, get_cfg, write_config
from dl_lib.data.catalog import DatasetCatalog
from dl_lib.experiment.experiment import (
    Experiment,
    check_run_folder,
    check_weights,
    keep_crop,
    load_experiment,
    register_parts,
)
from dl_lib.experiment.net_files import copy_nets
from dl_lib.experiment.trained_run import load_trained_run, with_weights
from dl_lib.launch import ProcessRequest
from dl_lib.launch import launch as launch_module
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.route import Route

SOUND = """
MODEL: {SEM_SEG_HEAD: {NUM_CLASSES: 11}}
DATASETS: {TRAIN: [digit_scenes_train], TEST: [digit_scenes_val]}
"""


def write(experiment):
    """Write the files of a run folder that exist when training starts."""
    write_config(experiment.cfg, experiment.output_dir)
    copy_nets(experiment.net_files, experiment.output_dir)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Folder of an experiment, which is the current folder; effects of net.py on the process are undone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "net", raising=False)
    folder = tmp_path / "Mine"
    folder.mkdir()
    (folder / "config.yaml").write_text(SOUND)
    monkeypatch.chdir(folder)
    yield folder
    sys.modules.pop("net", None)


def test_the_config_of_the_current_folder_is_found(folder):
    experiment = load_experiment(None, ["SEED=4"])
    assert (experiment.cfg.SEED, experiment.cfg.OUTPUT_DIR) == (4, "./output/Mine")
    assert experiment.cfg.is_frozen()
    assert experiment.net_files == ()


def test_a_file_or_a_folder_can_be_named(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "other.yaml").write_text("_BASE_: config.yaml\nSEED: 5\n")
    for name, output_dir, seed in (
        ("Mine", "./output/Mine", 0),
        ("Mine/config.yaml", "./output/Mine", 0),
        (str(folder / "other.yaml"), "./output/other", 5),
    ):
        experiment = load_experiment(name, [])
        assert dict(experiment.cfg)["SEED"] == seed
        assert experiment.output_dir == Path(output_dir)
    assert load_experiment("Mine", ["OUTPUT_DIR", "elsewhere"]).output_dir == Path("elsewhere")


def test_net_py_is_imported_once_before_the_configuration_is_checked(folder):
    (folder / "neighbour.py").write_text("NAME = 'experiment_test_set'\n")
    (folder / "net.py").write_text(
        "from dl_lib.data.catalog import DatasetCatalog, DatasetMeta\n"
        "from neighbour import NAME\n"
        "DatasetCatalog.register(NAME, lambda: [], DatasetMeta(('a', 'b'), ((0, 0, 0), (1, 1, 1))))\n"
    )
    (folder / "config.yaml").write_text(
        "MODEL: {SEM_SEG_HEAD: {NUM_CLASSES: 2}}\nDATASETS: {TRAIN: [experiment_test_set], TEST: []}\n"
    )
    experiment = load_experiment(None, [])
    assert experiment.net_files == (folder / "net.py",)
    register_parts(experiment)  # registering a name twice would raise
    write(load_experiment(".", ["OUTPUT_DIR=run"]))
    assert (folder / "run" / "net.py").read_text() == (folder / "net.py").read_text()


FOLDERS = """
MODEL: {SEM_SEG_HEAD: {NUM_CLASSES: 2}}
DATASETS:
  TRAIN: [experiment_folder_set]
  FOLDERS:
    - {NAME: experiment_folder_set, IMAGES: mine/images, LABELS: mine/labels, CLASSES: [road, car]}
"""


def test_datasets_of_the_config_are_registered_in_each_process(folder, monkeypatch):
    (folder / "config.yaml").write_text(FOLDERS)
    known = dict(DatasetCatalog._entries)
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(known))
    experiment = load_experiment(None, [])
    assert DatasetCatalog.meta("experiment_folder_set").class_names == ("road", "car")
    write(experiment)
    assert load_experiment("output/Mine", []).cfg == experiment.cfg  # registering the same dataset twice is no conflict
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(known))
    register_parts(pickle.loads(pickle.dumps(experiment)))  # as in a spawned process
    assert DatasetCatalog.meta("experiment_folder_set").class_names == ("road", "car")


def test_a_dataset_of_the_config_with_a_registered_name_is_rejected(folder):
    (folder / "config.yaml").write_text(FOLDERS.replace("experiment_folder_set", "digit_scenes_val"))
    with pytest.raises(ConfigError, match=r"the name of another registered dataset"):
        load_experiment(None, [])


def test_datasets_on_the_command_line(folder, monkeypatch):
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    entry = "{NAME: typed_set, IMAGES: mine/images, LABELS: mine/labels, CLASSES: [road, car]}"
    load_experiment(
        None,
        [
            f"DATASETS.FOLDERS=[{entry}]",
            "DATASETS.TRAIN=[typed_set]",
            "DATASETS.TEST=[]",
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES=2",
        ],
    )
    assert "typed_set" in DatasetCatalog.names()


def test_an_error_in_net_py_keeps_its_type_and_leaves_nothing_behind(folder):
    (folder / "net.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_experiment(None, [])
    assert "net" not in sys.modules


def test_the_written_config_runs_again_as_it_is(folder):
    experiment = load_experiment(None, ["SEED=6", "MODEL.BACKBONE.DROP_PROB=0.25"])
    write(experiment)
    again = load_experiment("output/Mine/config.yaml", [])
    assert again.cfg == experiment.cfg
    check_run_folder(again)  # a complete config may be overwritten by another one


def test_training_does_not_overwrite_a_hand_written_config(folder):
    with pytest.raises(ConfigError, match=r"would overwrite config\.yaml"):
        check_run_folder(load_experiment(None, ["OUTPUT_DIR=."]))
    assert (folder / "config.yaml").read_text() == SOUND


def finished_run(folder, name="run"):
    """Write a run folder with a last checkpoint, from a run with other initial weights."""
    write(load_experiment(None, [f"OUTPUT_DIR={name}", "MODEL.WEIGHTS=start.pth"]))
    torch.save({"model": {"weight": torch.zeros(1)}}, folder / name / "model_0000007.pth")
    (folder / name / "last_checkpoint").write_text("model_0000007.pth")


def test_route_file_becomes_part_of_the_config(folder):
    route = Route.whole(Lattice(get_cfg().MODEL.BACKBONE.CELL_NUM_LIST), gated=False)
    (folder / "route.json").write_text(route.to_json())
    experiment = load_experiment(None, ["MODEL.BACKBONE.ROUTE=route.json"])
    assert route.entries() == experiment.cfg.MODEL.BACKBONE.ROUTE


def test_latency_table_of_a_run_is_found_from_other_folders(folder, tmp_path, monkeypatch):
    write(load_experiment(None, ["MODEL.BUDGET.LATENCY_TABLE=$$ table.json"]))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = load_experiment(str(folder / "output" / "Mine"), [])
    assert str(folder / "$ table.json") == again.cfg.MODEL.BUDGET.LATENCY_TABLE


def test_a_moved_run_keeps_its_folder(folder):
    finished_run(folder)
    (folder / "run").rename(folder / "moved")
    assert load_experiment("moved", []).cfg.OUTPUT_DIR == "moved"
    assert load_experiment("moved", ["OUTPUT_DIR=new"]).cfg.OUTPUT_DIR == "new"


@pytest.mark.parametrize(
    ("name", "opts", "weights"),
    [
        ("run", [], "run/model_0000007.pth"),
        ("run", ["MODEL.WEIGHTS", "mine.pth"], "mine.pth"),
        ("run", ["MODEL.WEIGHTS=mine.pth"], "mine.pth"),
        ("run", ["OUTPUT_DIR=empty"], "run/model_0000007.pth"),
        ("config.yaml", ["OUTPUT_DIR=empty", "MODEL.WEIGHTS=mine.pth"], "mine.pth"),
        ("config.yaml", ["OUTPUT_DIR=run"], "run/model_0000007.pth"),
        ("run/evaluations/val", ["OUTPUT_DIR=run"], "start.pth"),
        ("run/sweeps/val", ["OUTPUT_DIR=run"], "start.pth"),
    ],
)
def test_which_weights_are_evaluated(folder, name, opts, weights):
    finished_run(folder)
    for copy in ("run/evaluations/val", "run/sweeps/val"):
        shutil.copytree("run", copy, ignore=shutil.ignore_patterns("*_checkpoint", "evaluations"))
    chosen = with_weights(load_experiment(name, opts), opts).cfg.MODEL
    assert dict(chosen)["WEIGHTS"] == weights


def test_nothing_to_evaluate(folder):
    with pytest.raises(ConfigError, match=r"^MODEL\.WEIGHTS: no weights to evaluate"):
        with_weights(load_experiment(None, []), [])
    opts = ["MODEL.WEIGHTS=a.pth", "DATASETS.TEST=[]"]
    with pytest.raises(ConfigError, match=r"^DATASETS\.TEST: no datasets"):
        load_trained_run(None, opts)


def test_weights_must_exist_before_anything_is_written(folder):
    (folder / "model_final.pth").touch()
    with pytest.raises(ConfigError, match=r"^MODEL\.WEIGHTS: .*nearest: model_final\.pth.*'model_fnal\.pth'"):
        check_weights(load_experiment(None, ["MODEL.WEIGHTS=model_fnal.pth"]))
    with pytest.raises(ConfigError, match="the folder does not exist"):
        check_weights(load_experiment(None, ["MODEL.WEIGHTS=absent/model.pth"]))
    for weights in ("", "model_final.pth"):
        check_weights(load_experiment(None, [f"MODEL.WEIGHTS={weights}"]))


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    experiment = load_experiment(None, ["OUTPUT_DIR=~/run", "MODEL.WEIGHTS=~/a.pth"])
    assert experiment.output_dir == folder / "run"
    assert dict(experiment.cfg.MODEL)["WEIGHTS"] == str(folder / "a.pth")


def test_processes_are_started_as_configured(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(launch_module, "launch", lambda *args, **settings: calls.append((args, settings)))
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "PROCESS_TIMEOUT_SECONDS", 7.0])
    experiment = Experiment(cfg, tmp_path)
    arguments = parse_run_arguments(experiment_parser(prog="dl_train", description=""), ["--num-processes", "2"])
    start_processes(print, arguments, experiment, True)
    settings = {"device": "cpu", "timeout_seconds": 7.0, "args": (experiment, True)}
    assert calls == [((print, ProcessRequest(2)), settings)]


def test_an_automatic_crop_of_a_run_is_kept(folder):
    experiment = load_experiment(None, [])
    assert keep_crop(experiment, folder / "absent").cfg == experiment.cfg
    assert keep_crop(experiment, folder / "absent", default=[512, 512]).cfg.INPUT.CROP_SIZE == [512, 512]
    write(load_experiment(None, ["INPUT.CROP_SIZE=[64,96]", "SEED=5"]))
    kept = keep_crop(experiment, experiment.output_dir, default=[512, 512]).cfg
    assert (kept.INPUT.CROP_SIZE, kept.SEED, kept.is_frozen()) == ([64, 96], 0, True)
    fixed = load_experiment(None, ["INPUT.CROP_SIZE=[32,32]"])
    assert keep_crop(fixed, experiment.output_dir) is fixed
