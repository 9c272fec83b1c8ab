#!/bin/bash
# SLURM batch script for multi-node training that requeues itself until training ends; see docs/cluster.md.
# Submit from a shell in which `dl_lib train` works (its environment is exported), in a folder shared by all machines:
#   sbatch [--nodes=N …] tools/cluster/slurm.sh --config-file playground/Dynamic/Seg.Layer16 [KEY=VALUE …]
#SBATCH --job-name=dl_lib
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -u
: "${SLURM_JOB_END_TIME:?requires SLURM 22.05 or newer, to decide whether to requeue}"

first_host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # restarted workers must not read keys of the previous attempt
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=100   # seconds for the last step and the checkpoint, before torchrun sends SIGKILL

srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \
    torchrun --nnodes="$SLURM_NNODES" --nproc-per-node="$SLURM_GPUS_ON_NODE" --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$first_host:$((15000 + SLURM_JOB_ID % 15000))" \
    --no-python dl_lib train --resume "$@"
status=$?

# SLURM may send the signal up to a minute early. A failure at any other time would only repeat.
if [ "$status" -ne 0 ] && [ "$(date +%s)" -ge "$((SLURM_JOB_END_TIME - 240))" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
