"""Rank information from launcher environments, and its consistency with the requested processes."""

import pytest

from dl_lib.launch import LaunchError, ProcessRequest, detect_process_info, resolve_world_size
from dl_lib.launch import slurm as slurm_module
from dl_lib.launch.process_info import ProcessInfo

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu1", "MASTER_PORT": "29500"}
SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
}
PORT = 15000 + 31 * 1234567 % 15000
DEFAULT = ProcessRequest()


def without(environment, *names):
    return {name: value for name, value in environment.items() if name not in names}


def test_torchrun():
    expected = ProcessInfo("torchrun", rank=5, world_size=8, local_rank=1, init_method="env://")
    assert detect_process_info(DEFAULT, TORCHRUN) == expected
    assert detect_process_info(DEFAULT, {**SRUN, **TORCHRUN, "RANK": "5"}) == expected  # srun starts torchrun
    assert detect_process_info(DEFAULT, {"MASTER_ADDR": "gpu1", "MASTER_PORT": "29500"}) is None


def test_torchrun_restart_uses_separate_store_keys():
    elastic = {
        **TORCHRUN,
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "2",
        "TORCHELASTIC_MAX_RESTARTS": "3",
        "GROUP_WORLD_SIZE": "1",
    }
    info = detect_process_info(DEFAULT, elastic)
    assert (info.init_method, info.is_hosted, info.attempt) == ("tcp://gpu1:29500", True, "2")
    assert detect_process_info(DEFAULT, {**elastic, "MASTER_ADDR": "fe80::1"}).init_method == "tcp://[fe80::1]:29500"
    several = {**elastic, "GROUP_WORLD_SIZE": "2"}
    with pytest.raises(LaunchError, match=r"TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.*Received: GROUP_WORLD_SIZE=2"):
        detect_process_info(DEFAULT, several)
    assert detect_process_info(DEFAULT, {**several, "TORCHELASTIC_MAX_RESTARTS": "0"}).attempt == "2"
    fresh = detect_process_info(DEFAULT, {**several, "TORCHELASTIC_USE_AGENT_STORE": "False"})
    assert (fresh.init_method, fresh.is_hosted) == ("env://", False)


def test_srun():
    expected = ProcessInfo("srun", rank=5, world_size=8, local_rank=1, init_method=f"tcp://gpu03:{PORT}")
    assert detect_process_info(DEFAULT, SRUN) == expected
    assert detect_process_info(DEFAULT, without(SRUN, "SLURM_STEP_NUM_TASKS")) == expected
    named = detect_process_info(DEFAULT, {**SRUN, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4242"})
    assert named.init_method == "tcp://10.0.0.1:4242"
    other_step = detect_process_info(DEFAULT, {**SRUN, "SLURM_STEP_ID": "1"})
    assert other_step.init_method != expected.init_method


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [
        ("login1", "login1"),
        ("gpu3,gpu7", "gpu3"),
        ("gpu[03-05,9],login1", "gpu03"),
        ("r[1-2]n[07,09]", "r1n07"),
        ("gpu[2,4]-ib", "gpu2-ib"),
        ("a-b[10]", "a-b10"),
    ],
)
def test_first_host_of_a_node_list(nodelist, host):
    info = detect_process_info(DEFAULT, {**SRUN, "SLURM_STEP_NODELIST": nodelist})
    assert info.init_method.startswith(f"tcp://{host}:")


def test_batch_scripts_and_interactive_shells_are_not_steps(monkeypatch):
    batch = without(SRUN, "SLURM_STEP_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS")
    assert detect_process_info(DEFAULT, batch) is None
    assert detect_process_info(DEFAULT, {**SRUN, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert detect_process_info(DEFAULT, {**SRUN, "SLURM_STEP_ID": str(0xFFFFFFFA)}) is None  # salloc's interactive step
    shell = {**SRUN, "SLURM_PTY_PORT": "40000"}
    for has_terminal in (True, False):
        monkeypatch.setattr(slurm_module, "_has_terminal", lambda answer=has_terminal: answer)
        assert (detect_process_info(DEFAULT, shell) is None) == has_terminal


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (without(TORCHRUN, "LOCAL_RANK", "MASTER_PORT"), "missing: LOCAL_RANK, MASTER_PORT.*Received: RANK='5'"),
        ({**TORCHRUN, "RANK": "8"}, "Received: rank=8, world_size=8, launcher=torchrun"),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, "Received: WORLD_SIZE='two'"),
        ({**SRUN, "SLURM_PROCID": "-1"}, "Received: SLURM_PROCID='-1'"),
        ({**TORCHRUN, "RANK": "9" * 5000}, "at most 18 digits. Received: RANK='999"),
        ({**SRUN, "SLURM_STEP_NODELIST": "[1]"[:1]}, "Received: SLURM_STEP_NODELIST='\\['"),
    ],
)
def test_invalid_environment_is_rejected(environment, message):
    with pytest.raises(LaunchError, match=message):
        detect_process_info(DEFAULT, environment)


def test_world_size():
    assert resolve_world_size(DEFAULT, {}) == 1
    assert resolve_world_size(ProcessRequest(4), {}) == 4
    assert resolve_world_size(ProcessRequest(4, num_machines=2, dist_url="tcp://a:1"), {}) == 8
    assert resolve_world_size(DEFAULT, TORCHRUN) == resolve_world_size(DEFAULT, SRUN) == 8
    assert resolve_world_size(ProcessRequest(8), TORCHRUN) == 8


@pytest.mark.parametrize(
    "requested",
    [
        ProcessRequest(4),
        ProcessRequest(num_machines=2, dist_url="tcp://a:1"),
        ProcessRequest(8, dist_url="tcp://a:1"),
    ],
)
def test_request_that_contradicts_the_launcher_is_rejected(requested):
    with pytest.raises(LaunchError, match=r"torchrun has started this process with world size 8.*Received:"):
        detect_process_info(requested, TORCHRUN)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_machines": 2}, "tcp://.*Received: dist_url='auto', num_machines=2"),
        ({"num_machines": 2, "machine_rank": 2}, "Received: machine_rank=2, num_machines=2"),
        ({"num_processes": 0}, "Received: num_processes=0"),
        ({"num_processes": 10**6}, r"num_processes must be in \[1, 1024\].*Received: num_processes=1000000"),
        ({"num_machines": 10**6}, r"num_machines must be in \[1, 65536\]"),
        *(
            ({"dist_url": url}, f"^dist_url must be of the form tcp://HOST:PORT.*Received: dist_url='{url}'$")
            for url in ("tcp://a", "tcp://a:0", "tcp://a:99999", "tcp://a:b", "tcp://:1", "a:1", "http://a:1", "")
        ),
    ],
)
def test_inconsistent_request_is_rejected(settings, message):
    with pytest.raises(LaunchError, match=message):
        ProcessRequest(**settings)
