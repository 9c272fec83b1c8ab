"""Paths in configs: `~`, variables, and the folders of relative paths."""

import os
from pathlib import Path

import pytest

from dl_lib.config import ConfigError, get_cfg, write_config
from dl_lib.config.paths import config_folder, datasets_root, expand_path, locate_data
from dl_lib.data.catalog import Catalog
from dl_lib.data.datasets.coco import register_coco_sem_seg
from dl_lib.data.datasets.folder import register_folder_sem_seg
from dl_lib.data.errors import MissingDataError
from dl_lib.data.files import ensure_exists

ENTRY = {"NAME": "mine", "IMAGES": "images", "LABELS": "labels", "CLASSES": ["a", "b"]}
PATH_KEYS = ["OUTPUT_DIR", "MODEL.WEIGHTS", "DATALOADER.CACHE_DIR"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Dataset root and home folder; the current folder is empty."""
    monkeypatch.setenv("DL_DATASETS", "${STORE}/data")
    monkeypatch.setenv("STORE", str(tmp_path))
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("NO_SUCH", raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        ("plain/a.b", "plain/a.b"),
        ("", ""),
        ("~/runs", "/home/me/runs"),
        ("$STORE/runs", "{store}/runs"),
        ("a/${STORE}b", "a/{store}b"),
        ("price_in_$$", "price_in_$"),
        ("https://host/$STORE.pth", "https://host/{store}.pth"),
    ],
)
def test_tilde_and_variables_are_expanded(root, given, expanded):
    assert expand_path(given, key="X") == expanded.format(store=root.parent)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("$NO_SUCH/a", "environment variable NO_SUCH, which is not set"),
        ("${NO_SUCH}/a", "environment variable NO_SUCH, which is not set"),
        ("${STORE:-x}", r"neither \$VARIABLE nor \$\{VARIABLE\}"),
        ("5$", r"neither \$VARIABLE nor \$\{VARIABLE\}"),
        ("~no_such_user/a", "~no_such_user, which has no home folder"),
        ("a\0b", "without null characters"),
    ],
)
def test_invalid_paths_raise_with_key_and_variable(root, given, problem):
    with pytest.raises(ConfigError, match=rf"^OUTPUT_DIR .*{problem}.*Received: OUTPUT_DIR="):
        expand_path(given, key="OUTPUT_DIR")


@pytest.mark.parametrize("key", PATH_KEYS)
def test_path_keys_are_expanded_in_files_and_overrides_and_written_literally(root, tmp_path, key):
    cfg = get_cfg()
    cfg.merge_from_list([f"{key}=$STORE/a$$b"])
    assert cfg.flat()[key] == f"{tmp_path}/a$b"
    again = get_cfg()
    again.merge_from_file(write_config(cfg, tmp_path))
    assert again == cfg
    with pytest.raises(ConfigError, match=rf"{key} contains the environment variable NO_SUCH.*Received: {key}="):
        cfg.merge_from_list([f"{key}=$NO_SUCH"])


def test_data_paths_are_relative_to_the_root_or_else_to_the_file_they_stand_in(root, tmp_path):
    for folder in ("data/images", "base/images", "base/labels", "top/$x"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "base" / "base.yaml").write_text(f"DATASETS: {{FOLDERS: [{ENTRY}]}}")
    (tmp_path / "top" / "config.yaml").write_text("_BASE_: $STORE/base/base.yaml")
    cfg = get_cfg()
    cfg.merge_from_file(tmp_path / "top" / "config.yaml")
    labels = str(tmp_path / "base" / "labels")
    assert [{**ENTRY, "LABELS": labels}] == cfg.DATASETS.FOLDERS  # `images` exists in the dataset root
    with config_folder(tmp_path / "top"):
        cfg.merge_from_list([f"DATASETS.FOLDERS={[{**ENTRY, 'IMAGES': '$$x', 'LABELS': ['~/l', 'nowhere']}]}"])
    entry = {**ENTRY, "IMAGES": str(tmp_path / "top" / "$x"), "LABELS": ["/home/me/l", "nowhere"]}
    assert [entry] == cfg.DATASETS.FOLDERS
    again = get_cfg()
    again.merge_from_file(write_config(cfg, tmp_path / "run"))
    assert again == cfg


def test_an_undefined_variable_in_an_entry_is_named_with_its_key(root):
    entry = {**ENTRY, "LABELS": "$NO_SUCH/labels"}
    with pytest.raises(ConfigError, match=r"DATASETS\.FOLDERS\[0\]\.LABELS contains the environment variable NO_SUCH"):
        get_cfg().merge_from_other_cfg({"DATASETS": {"FOLDERS": [entry]}})


def test_the_dataset_root_is_expanded(root, monkeypatch):
    assert datasets_root() == root
    monkeypatch.setenv("DL_DATASETS", "$NO_SUCH/data")
    with pytest.raises(ConfigError, match=r"DL_DATASETS contains the environment variable NO_SUCH"):
        datasets_root()


def test_paths_of_register_functions_follow_the_same_rule(root, tmp_path):
    (tmp_path / "net" / "images").mkdir(parents=True)
    catalog = Catalog()
    with config_folder(tmp_path / "net"):
        register_folder_sem_seg("a", images="images", labels="${STORE}/l", classes=["x", "y"], catalog=catalog)
        register_coco_sem_seg("b", images="images", json=Path("~/a.json"), catalog=catalog)
    folder, coco = (catalog._entries[name].loader for name in ("a", "b"))
    assert (folder.images, folder.labels) == (str(tmp_path / "net" / "images"), f"{tmp_path}/l")
    assert (coco.images, coco.annotations) == (str(tmp_path / "net" / "images"), "/home/me/a.json")
    with pytest.raises(ConfigError, match="images contains the environment variable NO_SUCH"):
        register_folder_sem_seg("c", images="$NO_SUCH", classes=["x", "y"], catalog=catalog)


def test_without_a_config_relative_data_paths_stay_relative(root):
    os.mkdir("here")
    assert locate_data("here", key="X") == "here"


def test_a_path_that_is_too_long_does_not_exist(root, tmp_path):
    with config_folder(tmp_path), pytest.raises(MissingDataError, match="does not exist"):
        ensure_exists(Path(locate_data("x" * 300, key="IMAGES")), layout="a folder of images")
