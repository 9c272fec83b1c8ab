"""Cluster templates, run with stubs of the cluster's commands."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "tools" / "cluster"
PYTHON = f'exec "{sys.executable}"'
STUBS = {
    "torchrun": f'{PYTHON} -m torch.distributed.run "$@"',
    "dl_lib": f'{PYTHON} -c "from dl_lib.cli.main import main; main()" "$@"',
    "scontrol": 'if [ "$1" = show ]; then printf "localhost\\nother\\n"; else echo "scontrol $*"; fi',
    "srun": 'while case "$1" in --*) true;; *) false;; esac; do shift; done; exec "$@"',
}


@pytest.fixture
def environment(tmp_path):
    """Environment whose PATH has stubs of the cluster's commands."""
    for name, body in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def slurm(environment, *, seconds_left, arguments=()):
    job = {
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NODELIST": "localhost,other",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_JOB_END_TIME": str(int(time.time()) + seconds_left),
    }
    command = ["bash", str(CLUSTER / "slurm.sh"), *arguments]
    return subprocess.run(command, env={**environment, **job}, capture_output=True, text=True, timeout=120)


def test_slurm_starts_two_processes(environment):
    finished = slurm(environment, seconds_left=3600, arguments=["--help"])
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("usage: dl_lib train") == 2


@pytest.mark.parametrize(("seconds_left", "is_requeued"), [(170, True), (3600, False)])
def test_slurm_requeues_a_job_at_its_time_limit(environment, tmp_path, seconds_left, is_requeued):
    (tmp_path / "srun").write_text("#!/bin/bash\nexit 1\n")
    finished = slurm(environment, seconds_left=seconds_left)
    assert finished.returncode == 1
    assert finished.stdout == ("scontrol requeue 4242\n" if is_requeued else "")


def test_kubernetes_starts_two_processes(environment):
    job = yaml.safe_load((CLUSTER / "pytorchjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    pod = worker["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    policy = job["spec"]["elasticPolicy"]
    assert policy["minReplicas"] <= worker["replicas"] <= policy["maxReplicas"]
    from_operator = {
        "PET_RDZV_BACKEND": policy["rdzvBackend"],
        "PET_RDZV_ENDPOINT": "localhost:0",
        "PET_NNODES": "1:1",
        "PET_MAX_RESTARTS": str(policy["maxRestarts"]),
    }
    own = {variable["name"]: variable["value"] for variable in container["env"]}
    finished = subprocess.run(
        [*(argument.replace("node=4", "node=2") for argument in container["command"]), "--help", *container["args"]],
        env={**environment, **from_operator, **own},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("usage: dl_lib train") == 2
