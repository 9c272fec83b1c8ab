"""Own code of experiments: net.py of a config and its bases, and its copy in a run folder."""

import os
import pickle
import subprocess
import sys

import pytest

from dl_lib.config import ConfigError, write_config
from dl_lib.experiment.experiment import load_experiment, read_experiment
from dl_lib.experiment.net_files import code_digest, copy_nets, find_nets, import_nets

SOUND = "MODEL: {SEM_SEG_HEAD: {NUM_CLASSES: 11}}\nDATASETS: {TRAIN: [digit_scenes_train], TEST: []}\n"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders of a base and of an experiment; effects of net.py on the process are undone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "imported", imported := type(sys)("imported"))
    imported.order = []
    for name in ("Base", "Mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "Base" / "config.yaml").write_text(SOUND)
    (tmp_path / "Mine" / "config.yaml").write_text("_BASE_: ../Base/config.yaml\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write_net(folder, text=""):
    (folder / "net.py").write_text(f"from imported import order\norder.append({folder.name!r})\n{text}")


def run_of(folders):
    """Write the files of a run folder that exist when training starts."""
    experiment = load_experiment("Mine", ["OUTPUT_DIR=run"])
    write_config(experiment.cfg, experiment.output_dir)
    copy_nets(experiment.net_files, experiment.output_dir)
    return folders / "run"


def test_the_code_of_a_base_is_imported_first_and_copied(folders):
    write_net(folders / "Base", "class Part: pass\n")
    write_net(folders / "Mine", "class Part: pass\n")
    run = run_of(folders)
    assert sys.modules["imported"].order == ["Base", "Mine"]
    assert read_experiment("Mine", []).net_files == (folders / "Base" / "net.py", folders / "Mine" / "net.py")
    assert (run / "base_nets" / "00" / "net.py").read_text() == (folders / "Base" / "net.py").read_text()
    assert (run / "net.py").read_text() == (folders / "Mine" / "net.py").read_text()
    assert find_nets([run]) == (run / "base_nets" / "00" / "net.py", run / "net.py")
    copy_nets(find_nets([run]), run)  # as a resumed run does
    assert len(find_nets([run])) == 2
    copy_nets((folders / "Mine" / "net.py",), run)  # a run without base in the same folder
    assert find_nets([run]) == (run / "net.py",)


def test_the_code_of_a_base_alone_is_that_of_the_experiment(folders):
    write_net(folders / "Base")
    run = run_of(folders)
    assert [file.name for file in run.iterdir() if file.suffix == ".py"] == ["net.py"]
    assert sys.modules["net"].__file__ == str(folders / "Base" / "net.py")


def test_one_file_for_several_configs_of_a_folder_is_imported_once(folders):
    (folders / "Mine" / "other.yaml").write_text("_BASE_: [config.yaml, ../Base/config.yaml]\n")
    write_net(folders / "Mine")
    assert len(read_experiment("Mine/other.yaml", []).net_files) == 1
    assert sys.modules["imported"].order == ["Mine"]


def test_modules_that_net_py_imports_are_copied_and_used_from_any_directory(folders, monkeypatch):
    mine = folders / "Mine"
    (mine / "package" / "inner").mkdir(parents=True)
    for name, text in (
        ("helper_one", "import helper_two\n"),
        ("helper_two", ""),
        ("helper_late", "VALUE = 7\n"),
        ("helper_named", ""),
        ("unused", ""),
        ("package/__init__", "from .inner import deep\n"),
        ("package/inner/__init__", ""),
        ("package/inner/deep", ""),
    ):
        (mine / f"{name}.py").write_text(text)
    (mine / "data").mkdir()
    (mine / "package" / "large.bin").write_bytes(b"0")
    write_net(
        mine,
        "import importlib\nimport helper_one, package.inner\n"
        "def late():\n    from helper_late import VALUE\n    return VALUE\n"
        "importlib.import_module('helper_named')\n",
    )
    run = run_of(folders)
    copied = sorted(str(file.relative_to(run)) for file in run.rglob("*.*") if file.name != "config.yaml")
    assert copied == [
        "helper_late.py",
        "helper_named.py",
        "helper_one.py",
        "helper_two.py",
        "net.py",
        "package/__init__.py",
        "package/inner/__init__.py",
        "package/inner/deep.py",
    ]
    code = (
        "import sys, types; sys.modules['imported'] = types.SimpleNamespace(order=[])\n"
        "from dl_lib.experiment.experiment import read_experiment; read_experiment(sys.argv[1], [])\n"
        "assert sys.modules['net'].late() == 7"
    )
    (folders / "Mine").rename(folders / "Gone")
    elsewhere = [path for path in sys.path if "Mine" not in path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(elsewhere)}
    subprocess.run([sys.executable, "-c", code, str(run)], cwd="/", env=environment, check=True)


@pytest.mark.parametrize("helper", ["same_helper.py", "same_helper/__init__.py"])
def test_modules_of_one_name_in_two_folders_are_refused_unless_they_are_equal(folders, helper):
    for name in ("Base", "Mine"):
        (folders / name / helper).parent.mkdir(exist_ok=True)
        (folders / name / helper).write_text("VALUE = 1\n")
        write_net(folders / name, "import same_helper\n")
    read_experiment("Mine", [])
    (folders / "Mine" / helper).write_text("VALUE = 2\n")
    with pytest.raises(ConfigError, match=r"different modules of the same name.*Base/same_helper.* and .*Mine/same"):
        read_experiment("Mine", [])


def test_a_module_in_the_folder_of_the_base_is_copied_with_the_code_that_imports_it(folders):
    (folders / "Base" / "shared_helper.py").write_text("")
    write_net(folders / "Base")
    write_net(folders / "Mine", "import shared_helper\n")
    assert (run_of(folders) / "shared_helper.py").is_file()


def test_objects_of_both_files_can_be_unpickled_in_a_process_that_has_imported_neither(folders):
    for name in ("Base", "Mine"):
        (folders / name / "net.py").write_text(f"class Part:\n    name = {name!r}\n")
    nets = find_nets([folders / "Base", folders / "Mine"])
    import_nets(nets)
    base = next(module for name, module in sys.modules.items() if getattr(module, "__file__", None) == str(nets[0]))
    parts = pickle.dumps([base.Part(), sys.modules["net"].Part()])
    code = "import pickle, sys; print(*(part.name for part in pickle.loads(bytes.fromhex(sys.argv[1]))))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # which multiprocessing passes on
    found = subprocess.run(
        [sys.executable, "-c", code, parts.hex()], env=environment, check=True, capture_output=True, text=True
    )
    assert found.stdout.split() == ["Base", "Mine"]


def test_code_digest_depends_on_the_code_and_not_on_its_folder(tmp_path):
    digests = []
    for name, helper in (("one", "RATE = 1"), ("other", "RATE = 1"), ("changed", "RATE = 2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text("import rates\n")
        (tmp_path / name / "rates.py").write_text(helper)
        digests.append(code_digest([tmp_path / name / "net.py"]))
    assert digests[0] == digests[1] != digests[2]
    assert code_digest([]) is None
