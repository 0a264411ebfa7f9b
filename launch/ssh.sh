#!/usr/bin/env bash
# HOSTS="a b c" launch/ssh.sh [RECIPE] [--field value ...]
#
# One run on several hosts that share nothing but a network and a workdir: one process on each, which takes all accelerators of its host.
# All hosts hold this checkout and its environment at the same paths; ssh asks for no password.
# Their output comes here, each line behind its host's name. What restarts is said in supervise.sh.
#
# HOSTS: where to run; the first is process 0, and the others must reach it under that name.
# PORT: where they meet on it (61440). DIRECTORY: of the checkout (this one). PYTHON: there (python3).
# SSH: how to call (ssh -o BatchMode=yes).
# GRACE: seconds that the others have after one of them failed, before they are stopped (60).

set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/supervise.sh
source "$here/supervise.sh"

read -r -a hosts <<< "${HOSTS:?name the hosts: HOSTS=\"a b c\" $0 ...}"
read -r -a ssh <<< "${SSH:-ssh -o BatchMode=yes}"
port=${PORT:-61440}
directory=${DIRECTORY:-$(dirname "$here")}
python=${PYTHON:-python3}
codes=$(mktemp -d)
trap 'rm -rf "$codes"' EXIT

# Where process $1 notes its id, on its host.
note() {
  echo "/tmp/inception_jax.$(id -un).$port.$1.pid"
}

# What a host runs: process $1, with the arguments behind it.
line() {
  local number=$1 said
  shift
  printf -v said 'cd %q && export JAX_COORDINATOR_ADDRESS=%q JAX_NUM_PROCESSES=%q JAX_PROCESS_ID=%q &&' \
    "$directory" "${hosts[0]##*@}:$port" "${#hosts[@]}" "$number"
  said="$said { $(printf '%q ' "$python" train.py "$@")& echo \$! > $(note "$number");"
  said="$said wait \$!; code=\$?; rm -f $(note "$number"); exit \$code; }"
  printf 'bash -c %q' "$said"
}

stop_all() {
  local number
  for number in "${!hosts[@]}"; do
    "${ssh[@]}" "${hosts[$number]}" "test ! -e $(note "$number") || kill -TERM \$(cat $(note "$number"))" < /dev/null &
  done
}

# The exit codes of those that have ended.
ends() {
  cat "$codes"/*[0-9] 2> /dev/null
}

# One process on each host; the verdict on their codes.
attempt() {
  local number since='' asked=''
  trap 'stop_all' TERM
  rm -f "$codes"/*
  for number in "${!hosts[@]}"; do
    {
      "${ssh[@]}" "${hosts[$number]}" "$(line "$number" "$@")" 2>&1 < /dev/null \
        | while IFS= read -r text || [ -n "$text" ]; do printf '%s: %s\n' "${hosts[$number]}" "$text"; done
      echo "${PIPESTATUS[0]}" > "$codes/$number.new"
      mv "$codes/$number.new" "$codes/$number"
    } &
  done
  while [ "$(ends | wc -w)" -lt "${#hosts[@]}" ]; do
    sleep 0.2
    # shellcheck disable=SC2046
    verdict $(ends) || [ "$?" -eq 75 ] || [ -n "$since" ] || since=$SECONDS
    if [ -n "$since" ] && [ -z "$asked" ] && [ $((SECONDS - since)) -ge "${GRACE:-60}" ]; then
      asked=1
      stop_all
    fi
  done
  wait
  # shellcheck disable=SC2046
  verdict $(ends)
}

supervise attempt "$@"
