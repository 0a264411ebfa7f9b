#!/usr/bin/env bash
# launch/supervise.sh COMMAND...
#
# Runs a command, and the same one again where that helps:
#   75 (stopped and saved): at once, as often as it happens
#   69 (another process is lost): after 10, 20, 40, ... seconds, five times in a row
# It ends where the command ends otherwise: 0 done, 65 bad data, 70 numbers became NaN, 78 bad configuration, anything else.
# Its exit code is the command's. Told to stop (TERM, HUP, Ctrl-C), it tells the command, waits for it, and does not start it again.
#
# AGAIN_PAUSE: the first pause, in seconds (10). AGAIN_LIMIT: how often 69 may follow 69 (5).
# The other scripts here source this file, and say what else it takes to stop their processes.

told=    # to stop
owed=    # ... before there was a command to tell
stirred= # a signal came while we waited
running= # the command's process
pausing= # or that of the pause before it

# How the command is told to stop.
pass_on() {
  kill -TERM "$running" 2> /dev/null || true
}

stop() {
  told=1 stirred=1
  if [ -n "$pausing" ]; then
    kill "$pausing" 2> /dev/null || true
  elif [ -n "$running" ]; then
    pass_on
  else
    owed=1
  fi
}

# The exit code of process $1, however many signals come before it ends.
ended() {
  local code=0 found
  stirred=1
  while [ -n "$stirred" ]; do
    stirred=
    found=0
    wait "$1" || found=$?
    [ "$found" -eq 127 ] || code=$found
  done
  return "$code"
}

again() {
  local code pause began lost=0
  trap stop TERM HUP INT
  set -m # a process group of its own: Ctrl-C reaches the command once, from us
  while :; do
    began=$SECONDS code=0
    "$@" < /dev/null &
    running=$!
    [ -z "$owed" ] || pass_on
    ended "$running" || code=$?
    running=
    [ -z "$told" ] || return "$code"
    case $code in
      75)
        lost=0 pause=1
        ;;
      69)
        [ $((SECONDS - began)) -le 600 ] || lost=0
        if [ "$lost" -ge "${AGAIN_LIMIT:-5}" ]; then
          echo "again: 69 for the ${lost}th time in a row after a restart: this does not mend itself" >&2
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
    echo "again: it ended with $code; once more in $pause s" >&2
    sleep "$pause" &
    pausing=$!
    [ -z "$told" ] || kill "$pausing"
    ended "$pausing" || true
    pausing=
    [ -z "$told" ] || return "$code"
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
  again "$@"
  exit
fi
