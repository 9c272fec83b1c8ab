"""Shipped configs: lookup in a checkout and in a wheel, and `_BASE_: dl_lib://…` that cannot leave their folder."""

import pytest

from dl_lib.config import ConfigError, get_cfg, shipped
from dl_lib.config.shipped import shipped_configs, shipped_playground


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package folder with shipped configs inside, as a wheel installs it."""
    package = tmp_path / "site-packages" / "dl_lib"
    for name, file in (("configs", "Base.yaml"), ("playground", "Mine/config.yaml")):
        path = package / "model_zoo" / name / file
        path.parent.mkdir(parents=True)
        path.write_text("SEED: 5\n")
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    return package


def load(tmp_path, base):
    path = tmp_path / "config.yaml"
    path.write_text(f"_BASE_: {base}\nLOG_PERIOD: 3\n")
    cfg = get_cfg()
    cfg.merge_from_file(path)
    return cfg


def test_a_checkout_has_its_folders_at_the_root():
    assert (shipped_configs() / "Base-DynamicNet4Seg.yaml").is_file()
    assert (shipped_playground() / "Quickstart" / "config.yaml").is_file()


def test_a_wheel_has_its_folders_inside_the_package(wheel):
    assert shipped_configs() == wheel / "model_zoo" / "configs"
    assert shipped_playground() == wheel / "model_zoo" / "playground"


def test_an_installation_without_them_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "dl_lib")
    with pytest.raises(ConfigError, match=r"configs folder is missing.*Received: .*model_zoo"):
        shipped_configs()


def test_a_base_from_the_shipped_configs(tmp_path):
    cfg = load(tmp_path, "dl_lib://Base-DynamicNet4Seg.yaml")
    expected = get_cfg()
    expected.merge_from_file(shipped_configs() / "Base-DynamicNet4Seg.yaml")
    expected.LOG_PERIOD = 3
    assert cfg == expected


def test_a_base_from_a_wheel_and_a_list_of_bases(tmp_path, wheel):
    (tmp_path / "own.yaml").write_text("VIS_PERIOD: 9\n")
    cfg = load(tmp_path, "[dl_lib://Base.yaml, own.yaml]")
    assert (cfg.SEED, cfg.VIS_PERIOD, cfg.LOG_PERIOD) == (5, 9, 3)


@pytest.mark.parametrize("path", ["../secret.yaml", "/etc/passwd", "a/../../secret.yaml", "link.yaml", "linked/x.yaml"])
def test_a_shipped_base_cannot_leave_its_folder(tmp_path, wheel, path):
    folder = wheel / "model_zoo" / "configs"
    (folder.parent / "secret.yaml").write_text("SEED: 1\n")
    (folder / "link.yaml").symlink_to(folder.parent / "secret.yaml")
    (folder.parent / "x.yaml").write_text("SEED: 1\n")
    (folder / "linked").symlink_to(folder.parent)
    with pytest.raises(ConfigError, match=rf"must stay inside the shipped configs.*Received: _BASE_='dl_lib://{path}'"):
        load(tmp_path, f"dl_lib://{path}")


def test_a_null_character_in_a_base_is_an_error(tmp_path):
    for base in ('"dl_lib://a\\0b"', '"a\\0b"'):
        with pytest.raises(ConfigError, match=r"must be a path without null characters\. Received: "):
            load(tmp_path, base)


def test_a_shipped_base_that_does_not_exist_lists_those_that_do(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"expected one of Base-Cityscapes\.yaml, Base-DynamicNet4Seg\.yaml.*Received: _BASE_='dl_lib://B",
    ):
        load(tmp_path, "dl_lib://Base.yaml")
