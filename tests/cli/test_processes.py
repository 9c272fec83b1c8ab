"""What a command hands on to the processes of its run."""

from dl_lib.cli.arguments import parse_run_arguments
from dl_lib.cli.experiment import Experiment
from dl_lib.cli.processes import start
from dl_lib.config import get_cfg
from dl_lib.launch import ProcessRequest
from dl_lib.launch import launch as launch_module


def test_what_the_configuration_says_of_the_processes_reaches_them(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(launch_module, "launch", lambda *args, **settings: calls.append((args, settings)))
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "PROCESS_TIMEOUT_SECONDS", 7.0])
    experiment = Experiment(cfg, tmp_path, None)
    arguments = parse_run_arguments(["--num-processes", "2"], prog="dl_train", description="", trains=True)
    start(print, arguments, experiment, True)
    settings = {"device": "cpu", "timeout_seconds": 7.0, "args": (experiment, True)}
    assert calls == [((print, ProcessRequest(2)), settings)]
