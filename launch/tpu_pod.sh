#!/usr/bin/env bash
# TPU=name ZONE=zone launch/tpu_pod.sh [RECIPE] [--field value ...]
#
# One run on all hosts of a Cloud TPU, one process on each; they find each other by themselves. What restarts is said in supervise.sh.
# All hosts hold this checkout, e.g.
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
#     --command="git clone URL inception_jax && cd inception_jax && python3 -m venv .venv && .venv/bin/pip install -e '.[tpu,gcs]'"
# and the workdir is one that all of them reach: --workdir gs://BUCKET/RUN.
#
# QUEUED=1: TPU names a queued resource, whose slices all take part.
# DIRECTORY: of the checkout on the hosts (inception_jax). PYTHON: in it (.venv/bin/python). GCLOUD: how to call (gcloud).

set -uo pipefail
# shellcheck source=launch/supervise.sh
source "$(dirname "$0")/supervise.sh"
: "${TPU:?name the TPU: TPU=name ZONE=zone $0 ...}" "${ZONE:?and its zone}"
note=/tmp/inception_jax.pid
heard=$(mktemp)
trap 'rm -f "$heard"' EXIT

which=(tpu-vm ssh)
all=(--worker=all)
if [ -n "${QUEUED:-}" ]; then
  which=(queued-resources ssh)
  all+=(--node=all)
fi

everywhere() {
  "${GCLOUD:-gcloud}" compute tpus "${which[@]}" "$TPU" --zone="$ZONE" "${all[@]}" --command="$1" < /dev/null
}

# One process on each host; the verdict on the codes that they say, since gcloud gives but one of them.
attempt() {
  local line status codes
  trap 'has_signal=1; everywhere "test ! -e $note || kill -TERM \$(cat $note)"' TERM
  printf -v line '%q ' "${PYTHON:-.venv/bin/python}" train.py "$@"
  line="cd ${DIRECTORY:-inception_jax} && { $line& echo \$! > $note; wait \$!; code=\$?; rm -f $note;"
  line="$line echo \"inception_jax: exit code \$code\"; exit \$code; }"
  {
    everywhere "$(printf 'bash -c %q' "$line")" 2>&1
    echo "gcloud ended with $?"
  } | tee "$heard" &
  ended $! # so that a signal is heard meanwhile
  status=$(sed -n 's/^gcloud ended with //p' "$heard")
  codes=$(grep -oE 'inception_jax: exit code [0-9]+$' "$heard" | grep -oE '[0-9]+$')
  # shellcheck disable=SC2086
  verdict $codes || return
  verdict "${status:-1}"
}

supervise attempt "$@"
