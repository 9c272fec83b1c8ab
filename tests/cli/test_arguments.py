"""Command line arguments: overrides and options in any order, invalid arguments."""

import argparse
from pathlib import Path

import pytest

from dl_lib.cli import arg_types
from dl_lib.cli.arguments import experiment_parser, parse_run_arguments
from dl_lib.launch import ProcessRequest


def parse(*words):
    parser = experiment_parser(prog="dl_train", description="")
    parser.add_argument("--resume", action="store_true")
    return parse_run_arguments(parser, words)


def test_defaults():
    assert vars(parse()) == {"config_file": None, "resume": False, "processes": ProcessRequest(), "opts": []}


@pytest.mark.parametrize(
    "words",
    [
        ["--num-gpus", "4", "--resume", "MODEL.WEIGHTS", "a.pth", "SEED=-1"],
        ["MODEL.WEIGHTS", "a.pth", "SEED=-1", "--resume", "--num-gpus=4"],
        ["MODEL.WEIGHTS", "a.pth", "--num-gpus", "4", "SEED=-1", "--resume"],
    ],
)
def test_options_and_overrides_in_any_order(words):
    arguments = parse(*words)
    assert (arguments.processes, arguments.resume) == (ProcessRequest(4), True)
    assert arguments.opts == ["MODEL.WEIGHTS", "a.pth", "SEED=-1"]


def test_device_is_the_last_override():
    arguments = parse("--num-processes", "2", "--device", "cpu", "MODEL.DEVICE=cuda")
    assert arguments.processes == ProcessRequest(2)
    assert arguments.opts == ["MODEL.DEVICE=cuda", "MODEL.DEVICE=cpu"]


def test_a_negative_number_is_a_value():
    assert parse("SEED", "-1", "--resume").opts == ["SEED", "-1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--machine-rank", "1"], "Received: machine_rank=1, num_machines=1"),
        (["--num-machines", "2", "--machine-rank", "1"], "Received: dist_url='auto'"),
        (["--num-machines", "0"], "Received: num_machines=0"),
        (["--num-gpus", "0"], "Received: num_processes=0"),
        (["--num-gpu", "4"], "--num-gpu"),
        (["--num-gpus", "many"], "invalid int"),
    ],
)
def test_invalid_arguments_exit_with_status_2(capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        parse(*words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("function", "valid", "invalid"),
    [
        (arg_types.positive_int, {"1": 1, "20": 20}, ["0", "-1", "1.0", "x", "", "1000001", "9" * 5000]),
        (arg_types.worker_count, {"0": 0}, ["1025"]),
        (arg_types.user_path, {"~/a": Path("/home/me/a"), "$STORE/b": Path("/store/b")}, ["$NO_SUCH_VARIABLE", "a$"]),
        (arg_types.non_negative_int, {"0": 0, "3": 3}, ["-1", "x"]),
        (arg_types.at_least_ten, {"10": 10}, ["9", "1e2"]),
        (arg_types.positive_float, {"1e-6": 1e-6, "2": 2.0}, ["0", "-1", "inf", "nan", "x"]),
        (arg_types.ratio, {"0": 0.0, "0.9": 0.9}, ["1", "-0.1", "nan", "x"]),
        (arg_types.comma_separated, {"a, b,c": ["a", "b", "c"]}, []),
        (arg_types.comma_separated_ints, {"0,1, 2": [0, 1, 2]}, ["0,", "-1", "1.5", "9" * 5000]),
        (
            arg_types.comma_separated_sizes,
            {"512x1024,64x128": [(512, 1024), (64, 128)]},
            ["512", "0x8", "8x8x8", "8x123456"],
        ),
    ],
)
def test_argument_types(function, valid, invalid, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("STORE", "/store")
    for text, value in valid.items():
        assert function(text) == value
    for text in invalid:
        with pytest.raises(argparse.ArgumentTypeError, match="Received: "):
            function(text)
