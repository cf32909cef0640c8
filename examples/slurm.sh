#!/usr/bin/env bash
# A search over several SLURM nodes. When the time is up it stops, is queued again, and goes on where it was.
#
#   sbatch examples/slurm.sh     # from the root of a checkout, on a file system that all nodes see
#
#SBATCH --job-name=evonas
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

# shellcheck disable=SC1091
source "${EVONAS_VENV:-venv}/bin/activate" # edit: evonas and Ray, the same on every node
cpus=${SLURM_CPUS_PER_TASK:-16} gpus=${SLURM_GPUS_ON_NODE:-4}

RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))') # of this job alone
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
head=$(hostname)
RAY_ADDRESS=$(hostname --all-ip-addresses | awk '{ print $1 }'):$((20000 + SLURM_JOB_ID % 10000))
export RAY_ADDRESS

# The head is this node, the first one. It evaluates, too.
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap --cpus-per-task="$cpus" --gpus="$gpus" \
    ray start --head --block --node-ip-address="${RAY_ADDRESS%:*}" --port="${RAY_ADDRESS#*:}" \
    --num-cpus="$cpus" --num-gpus="$gpus" --disable-usage-stats &
steps=("$!")
trap 'kill "${steps[@]}" 2>/dev/null || true; wait' EXIT # the cluster; the search has ended, or never began

waited=0
until ray health-check --address "$RAY_ADDRESS" 2>/dev/null; do
    if [ $((waited += 1)) -gt 60 ]; then
        echo "expected the head of the cluster at $RAY_ADDRESS, it does not answer; see the lines above" >&2
        exit 1
    fi
    sleep 1
done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes="$others" --ntasks="$others" --exclude="$head" --cpus-per-task="$cpus" --gpus-per-node="$gpus" \
        ray start --block --address="$RAY_ADDRESS" --num-cpus="$cpus" --num-gpus="$gpus" --disable-usage-stats &
    steps+=("$!")
fi

# Device and threads are named so that they do not depend on which nodes have joined yet.
python experiments/roco_cifar10.py --preset paper --data cifar10 --executor ray --device cuda --threads 4 \
    --timeout 7200 --out "${EVONAS_OUT:-runs/paper}" &
search=$!
stopped=
trap 'stopped=yes; kill -TERM "$search"' TERM
status=0
wait "$search" || status=$?
if [ -n "$stopped" ]; then # the signal ended that wait, not the search
    status=0
    wait "$search" || status=$?
    if [ "$status" -ne 0 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
fi
exit "$status"
