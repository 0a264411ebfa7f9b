#!/usr/bin/env bash
# sbatch --nodes 2 launch/slurm.sh [RECIPE] [--field value ...]      (in the folder of the checkout)
#
# One run on the hosts of a job: one process on each, which takes all GPUs of its host. What restarts is said in supervise.sh.
# 120 s before the time limit the run stops and saves, and the job goes back to the queue, where the same line goes on.
# scancel stops and saves it too (within KillWait, 30 s on most clusters), and it does not come back.
#
# PYTHON: the interpreter (python3). SRUN: how to start a step (srun).
#SBATCH --job-name=inception_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120

set -uo pipefail
cd "${SLURM_SUBMIT_DIR:-.}" || exit # a batch script is a copy elsewhere
# shellcheck source=launch/supervise.sh
source launch/supervise.sh
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" # srun does not take it over by itself
said=$(mktemp)
trap 'rm -f "$said"' EXIT

# USR1, before the time limit, comes to this shell alone; TERM, when Slurm ends a job, to the tasks as well, and with two signals they would
# end at once, unsaved. To srun it is never sent: that kills the tasks.
requeue=
pass_on() {
  [ -z "$requeue" ] || scancel --signal=TERM "$SLURM_JOB_ID"
}

# One step; the verdict on the codes of its tasks, which srun tells of a line for each code. Of itself it gives the highest alone, and
# so 69 where one of them ended with 65, and 137 where one was killed.
# shellcheck disable=SC2329
attempt() {
  local code=0 codes
  "${SRUN:-srun}" --kill-on-bad-exit=0 "${PYTHON:-python3}" train.py "$@" 2> >(tee "$said" >&2) || code=$?
  wait
  codes=$(
    sed -nE -e 's/^srun: error: .*: Exited with exit code ([0-9]+)$/\1/p' -e 's/^srun: error: .*: (Killed|Out Of Memory)$/137/p' "$said"
  )
  # shellcheck disable=SC2086
  verdict ${codes:-"$code"}
}

trap 'requeue=1; stop' USR1
supervise attempt "$@"
code=$?
if [ -n "$requeue" ] && [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
