#!/bin/sh
# A run that waits for a human over a restart: every line below is a process of its own. Works in the current folder;
# FLUJO is the command, `flujo` without it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
flujo=${FLUJO:-flujo}
export FLUJO_ALLOW=command=sh FLUJO_STATE_URI=true

# Begins, and ends as soon as it has to wait: exit code 3. The run is kept in .flujo/runs.db.
code=0
"$flujo" run -q "$here/order.yaml" --run-id order-7 --input "tea" || code=$?
[ "$code" -eq 3 ]

# Whoever comes by, perhaps after days and a restart, sees what waits, and answers.
"$flujo" runs list --status paused
"$flujo" runs show order-7

# An answer that doesn't fit is not taken, and the run waits on.
code=0
"$flujo" runs answer -q order-7 '{approved: perhaps}' || code=$?
[ "$code" -eq 3 ]

"$flujo" runs answer -q order-7 '{approved: true, by: Ada}'

# The result stays: asking again runs nothing.
"$flujo" run -q "$here/order.yaml" --run-id order-7 --input "tea"
cat order.log
