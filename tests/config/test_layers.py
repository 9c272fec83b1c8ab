"""Config files and their bases: encoding, files that are none, and limits."""

import os
import subprocess
import sys

import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.config.layers import read_layers


def merged(path):
    cfg = get_cfg()
    cfg.merge_from_file(path)
    return cfg


def test_bases_come_first_and_keep_their_files(tmp_path):
    for name, text in (("a", "_BASE_: [b.yaml, c.yaml]\nSEED: 1"), ("b", "_BASE_: c.yaml"), ("c", "SEED: 3")):
        (tmp_path / f"{name}.yaml").write_text(text)
    layers = read_layers(tmp_path / "a.yaml")
    assert [(os.path.basename(layer.path), layer.values) for layer in layers] == [
        ("c.yaml", {"SEED": 3}),
        ("b.yaml", {}),
        ("c.yaml", {"SEED": 3}),
        ("a.yaml", {"SEED": 1}),
    ]


def test_files_are_utf8_whatever_the_locale(tmp_path):
    path = tmp_path / "utf8.yaml"
    path.write_text("\ufeffSOLVER: {BEST_METRIC: straße/mIoU}\n", encoding="utf-8")
    code = "from dl_lib.config import get_cfg; c = get_cfg(); c.merge_from_file('utf8.yaml'); " + (
        "assert c.SOLVER.BEST_METRIC == 'stra\\xdfe/mIoU'; from dl_lib.config import write_config; write_config(c, '.')"
    )
    (tmp_path / "read.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "read.py"], cwd=tmp_path, env=environment, check=True)
    assert "BEST_METRIC: straße/mIoU" in (tmp_path / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_an_error_with_the_file(tmp_path, encoding):
    (tmp_path / "base.yaml").write_bytes("OUTPUT_DIR: straße".encode(encoding))
    (tmp_path / "top.yaml").write_text("_BASE_: base.yaml")
    with pytest.raises(ConfigError, match=r"must be a text file in UTF-8.*Received: .*base\.yaml$"):
        merged(tmp_path / "top.yaml")


def test_pipes_devices_folders_and_large_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_text("#" * 1_000_001)
    (tmp_path / "folder.yaml").mkdir()
    for base, problem in (
        ("pipe.yaml", "must be a regular file"),
        ("/dev/zero", "must be a regular file"),
        ("folder.yaml", "must be a regular file"),
        ("large.yaml", "must not be larger than 1000000 bytes"),
        ("absent.yaml", r"the _BASE_ of .*top\.yaml, cannot be read: No such file"),
    ):
        (tmp_path / "top.yaml").write_text(f"_BASE_: {base}")
        with pytest.raises(ConfigError, match=rf"{problem}.*Received: .*{base}$"):
            merged(tmp_path / "top.yaml")


@pytest.mark.parametrize(("copies", "depth"), [(2, 40), (1, 500)])
def test_too_many_bases_are_refused(tmp_path, copies, depth):
    for number in range(depth):
        (tmp_path / f"{number}.yaml").write_text(f"_BASE_: {[f'{number + 1}.yaml'] * copies}")
    (tmp_path / f"{depth}.yaml").write_text("SEED: 1")
    with pytest.raises(ConfigError, match=r"a config must include at most 100 files by _BASE_.*\d\.yaml$"):
        merged(tmp_path / "0.yaml")
