"""Lookup of `--config-file`: paths, shipped experiments, errors with similar names."""

import os
import re
from pathlib import Path

import pytest

from dl_lib.config import ConfigError
from dl_lib.experiment import config_file as module
from dl_lib.experiment.config_file import find_config_file, shipped_experiments

PLAYGROUND = Path(__file__).parents[2] / "playground"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_file_or_a_folder(folder):
    for path in ("other.yaml", "Mine/config.yaml"):
        touch(folder / path)
    for name in ("other.yaml", str(folder / "other.yaml"), "./other.yaml"):
        assert find_config_file(name) == Path(name)
    assert find_config_file("Mine") == find_config_file("Mine/config.yaml") == Path("Mine/config.yaml")


def test_pipes_and_devices_are_refused_at_once(folder):
    os.mkfifo(folder / "pipe.yaml")
    for name in ("pipe.yaml", "/dev/zero"):
        with pytest.raises(ConfigError, match=f"must be a file or folder, not a pipe.* Received: --config-file={name}"):
            find_config_file(name)


def test_the_current_folder_is_the_default(folder):
    with pytest.raises(ConfigError, match=r"no config\.yaml in the current folder.*Received: "):
        find_config_file(None)
    touch(folder / "config.yaml")
    assert find_config_file(None) == Path("config.yaml")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Quickstart", "Quickstart"),
        ("Dynamic/Seg.Layer16", "Dynamic/Seg.Layer16"),
        ("Dynamic/Seg.Layer16/", "Dynamic/Seg.Layer16"),
        ("Seg.Layer16", "Dynamic/Seg.Layer16"),
        ("Digits.SAC", "Zoo/Digits.SAC"),
    ],
)
def test_shipped_experiments_by_name(name, path):
    assert find_config_file(name) == PLAYGROUND / path / "config.yaml"


def test_an_existing_path_takes_precedence(folder):
    touch(folder / "Quickstart" / "config.yaml")
    assert find_config_file("Quickstart") == Path("Quickstart/config.yaml")
    (folder / "Quickstart" / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"contains no config\.yaml\. Received: --config-file=Quickstart"):
        find_config_file("Quickstart")


def test_an_ambiguous_name_lists_the_experiments(folder, monkeypatch):
    for name in ("A/One", "B/One", "B/Two", "Two"):
        touch(folder / "shipped" / name / "config.yaml")
    monkeypatch.setattr(module, "shipped_playground", lambda: folder / "shipped")
    with pytest.raises(ConfigError, match=r"use one of A/One, B/One\. Received: --config-file=One"):
        find_config_file("One")
    assert find_config_file("Two") == folder / "shipped" / "Two" / "config.yaml"
    assert find_config_file("B/Two") == folder / "shipped" / "B" / "Two" / "config.yaml"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("conf.yaml", "config files nearby: Mine/config.yaml, other.yaml"),
        ("Min/config.yaml", "config files nearby: Mine/config.yaml, other.yaml"),
        ("Quikstart", "nearest: Quickstart"),
        ("Dynamic/Seg.Layer61", "nearest: Dynamic/Seg.Layer16"),
        ("Seg.Layer33", "Seg.Layer33.ImageNet"),
    ],
)
def test_an_unknown_name_is_answered_with_similar_ones(folder, name, hint):
    for path in ("other.yaml", "Mine/config.yaml", ".hidden.yaml"):
        touch(folder / path)
    with pytest.raises(ConfigError) as caught:
        find_config_file(name)
    assert hint in str(caught.value)
    assert re.search(f"Received: --config-file='?{re.escape(name)}'?$", str(caught.value))


def test_runs_and_hidden_copies_in_the_playground_are_not_experiments(folder, monkeypatch):
    for name in ("One", "One/output/One", ".Trash-1000/files/Two", "One/.ipynb_checkpoints"):
        touch(folder / name / "config.yaml")
    monkeypatch.setattr(module, "shipped_playground", lambda: folder)
    assert list(shipped_experiments()) == ["One"]


@pytest.mark.parametrize("name", ["/Quickstart", "~no_such_user/Quickstart", "../Quickstart", "./Quickstart", " "])
def test_a_path_is_no_name_of_an_experiment(name):
    with pytest.raises(ConfigError) as caught:
        find_config_file(name)
    assert re.search(f"Received: --config-file='?{re.escape(name)}'?$", str(caught.value))
