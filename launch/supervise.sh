#!/usr/bin/env bash
# launch/supervise.sh COMMAND...
#
# Runs a command, and the same one again where that helps:
#   75 (stopped and saved): at once, as often as it happens
#   69 (another process is lost): after 10, 20, 40, ... seconds, five times in a row
# It ends where the command ends otherwise: 0 done, 65 bad data, 70 numbers became NaN, 78 bad configuration, anything else.
# Its exit code is the command's. On TERM, HUP or Ctrl-C it stops the command, waits for it, and does not start it again.
#
# AGAIN_PAUSE: the first pause, in seconds (10). AGAIN_LIMIT: how often 69 may follow 69 (5).
# The other scripts here source this file, and say what else it takes to stop their processes.

is_stopping= # a signal asked to stop
is_pending=  # ... before there was a command
has_signal=  # a signal came during a wait
running= # the command's process
pausing= # or that of the pause before it

# Stops the command; scripts that source this file may replace it.
pass_on() {
  kill -TERM "$running" 2> /dev/null || true
}

stop() {
  is_stopping=1 has_signal=1
  if [ -n "$pausing" ]; then
    kill "$pausing" 2> /dev/null || true
  elif [ -n "$running" ]; then
    pass_on
  else
    is_pending=1
  fi
}

# The exit code of process $1, however many signals come before it ends.
ended() {
  local code=0 found
  has_signal=1
  while [ -n "$has_signal" ]; do
    has_signal=
    found=0
    wait "$1" || found=$?
    [ "$found" -eq 127 ] || code=$found
  done
  return "$code"
}

supervise() {
  local code pause began lost=0
  trap stop TERM HUP INT
  set -m # a process group of its own: Ctrl-C reaches the command once, from us
  while :; do
    began=$SECONDS code=0
    "$@" < /dev/null &
    running=$!
    [ -z "$is_pending" ] || pass_on
    ended "$running" || code=$?
    running=
    [ -z "$is_stopping" ] || return "$code"
    case $code in
      75)
        lost=0 pause=1
        ;;
      69)
        [ $((SECONDS - began)) -le 600 ] || lost=0
        if [ "$lost" -ge "${AGAIN_LIMIT:-5}" ]; then
          echo "supervise: 69 for the ${lost}th time in a row after a restart: this does not mend itself" >&2
          return "$code"
        fi
        pause=$((${AGAIN_PAUSE:-10} << lost))
        lost=$((lost + 1))
        ;;
      *)
        return "$code"
        ;;
    esac
    [ "${AGAIN_PAUSE:-10}" -ne 0 ] || pause=0
    echo "supervise: it ended with $code; once more in $pause s" >&2
    sleep "$pause" &
    pausing=$!
    [ -z "$is_stopping" ] || kill "$pausing"
    ended "$pausing" || true
    pausing=
    [ -z "$is_stopping" ] || return "$code"
  done
}

# The exit code of a run whose processes ended with these: an error of its own before the 69 of those who lost it, that before 75.
# Who was killed from outside (137), or whose connection broke (255), is lost.
verdict() {
  local code found=0
  for code in "$@"; do
    case $code in
      0) ;;
      69 | 137 | 255) found=69 ;;
      75) [ "$found" -ne 0 ] || found=75 ;;
      *) return "$code" ;;
    esac
  done
  return "$found"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -uo pipefail
  : "${1:?give a command: $0 python train.py ...}"
  supervise "$@"
  exit
fi
