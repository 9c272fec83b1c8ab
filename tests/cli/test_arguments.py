"""Command lines: overrides and options in any order, and what is refused."""

import pytest

from dl_lib.cli.arguments import parse_run_arguments
from dl_lib.launch import ProcessRequest


def parse(*words, trains=True):
    return parse_run_arguments(words, prog="dl_train", description="", trains=trains)


def test_defaults():
    arguments = vars(parse())
    assert arguments == {
        "config_file": None,
        "resume": False,
        "eval_only": False,
        "submission": False,
        "processes": ProcessRequest(),
        "opts": [],
    }


@pytest.mark.parametrize(
    "words",
    [
        ["--num-gpus", "4", "--resume", "MODEL.WEIGHTS", "a.pth", "SEED=-1"],
        ["MODEL.WEIGHTS", "a.pth", "SEED=-1", "--resume", "--num-gpus=4"],
        ["MODEL.WEIGHTS", "a.pth", "--num-gpus", "4", "SEED=-1", "--resume"],
    ],
)
def test_options_and_overrides_mix(words):
    arguments = parse(*words)
    assert (arguments.processes, arguments.resume) == (ProcessRequest(4), True)
    assert arguments.opts == ["MODEL.WEIGHTS", "a.pth", "SEED=-1"]


def test_gpus_are_processes_and_the_device_is_a_key_that_comes_last():
    arguments = parse("--num-processes", "2", "--device", "cpu", "MODEL.DEVICE=cuda")
    assert arguments.processes == ProcessRequest(2)
    assert arguments.opts == ["MODEL.DEVICE=cuda", "MODEL.DEVICE=cpu"]


def test_a_negative_number_is_a_value():
    assert parse("SEED", "-1", "--eval-only").opts == ["SEED", "-1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--machine-rank", "1"], "Received: machine_rank=1, num_machines=1"),
        (["--num-machines", "2", "--machine-rank", "1"], "Received: dist_url='auto'"),
        (["--num-machines", "0"], "Received: machine_rank=0, num_machines=0"),
        (["--num-gpus", "0"], "at least one process"),
        (["--num-gpu", "4"], "--num-gpu"),
        (["--num-gpus", "many"], "invalid int"),
    ],
)
def test_what_cannot_be_understood_ends_with_status_2(capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        parse(*words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_dl_test_evaluates_and_knows_no_resume(capsys):
    arguments = parse("--num-gpus", "2", trains=False)
    assert (arguments.eval_only, arguments.resume, arguments.submission) == (True, False, False)
    assert parse("SEED=1", "--submission", trains=False).submission
    with pytest.raises(SystemExit):
        parse("--resume", trains=False)
    assert "--resume" in capsys.readouterr().err
