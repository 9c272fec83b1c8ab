"""Command `dl_lib config`: keys, shipped experiments, differences."""

import pytest

from dl_lib.cli.config import main
from dl_lib.config import get_cfg
from dl_lib.config.reference import describe_keys


@pytest.mark.parametrize("words", [[], ["MODEL.DEVICE"], ["SOLVER"], ["solver.optimizer"]])
def test_keys_are_described(capsys, words):
    main(words)
    assert capsys.readouterr().out == describe_keys(*words) + "\n"


def test_every_key_is_listed(capsys):
    main([])
    printed = capsys.readouterr().out
    assert all(f"{key} = " in printed for key in get_cfg().flat())


def test_shipped_experiments(capsys):
    main(["--list"])
    names = capsys.readouterr().out.splitlines()
    assert {"Quickstart", "Dynamic/Seg.Layer16", "Paper/Fix", "VOC/Seg.Layer16.Aug", "Zoo/Digits.SAC"} <= set(names)
    assert names == sorted(names)


def test_differences_between_configs(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text("_BASE_: dl_lib://Base-DynamicNet4Seg.yaml\nSEED: 7\n")
    (tmp_path / "other.yaml").write_text("_BASE_: dl_lib://Base-DynamicNet4Seg.yaml\n")
    main(["--diff", str(tmp_path / "other.yaml"), str(tmp_path / "own.yaml")])
    assert capsys.readouterr().out == f"SEED: {get_cfg().SEED} -> 7\n"
    main(["--diff", "Seg.Layer16", "Dynamic/Seg.Layer16"])
    assert capsys.readouterr().out == ""
    main(["--diff", "Seg.Layer16", "Seg.Layer16.SmallGate.Dynamic_A"])
    assert "MODEL.GATE.SMALL_GATE: False -> True" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SOLVER.BASE_LR"], "SOLVER.OPTIMIZER.BASE_LR"),
        (["--diff", "Quickstart", "Quikstart"], "error: --diff: no such file, folder or shipped experiment"),
        (["--diff", "Quickstart", "Quikstart"], "nearest: Quickstart). Received: --diff=Quikstart"),
        (["--diff", "Quickstart"], "expected 2 arguments"),
        (["SEED", "--list"], "not allowed with"),
    ],
)
def test_errors(capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err
