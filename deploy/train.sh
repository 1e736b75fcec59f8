#!/usr/bin/env bash
# One machine's part of a run on several: every machine runs this with its own MACHINE_RANK.
#
#   RUN            name of the run; if machine 0 has it already, it is resumed
#   CONFIG         YAML file of its settings, the same on every machine
#   MACHINES       how many machines
#   MACHINE_RANK   which of them this is; 0 keeps the run, in PHI3TUNE_HOME
#   PROCESSES      processes on each, one for each GPU
#   MAIN_ADDRESS   host:port of machine 0
set -euo pipefail

: "${RUN:?}" "${CONFIG:?}" "${MACHINES:?}" "${MACHINE_RANK:?}" "${PROCESSES:?}" "${MAIN_ADDRESS:?}"

# A resumed run may be on other machines than those that its settings name.
export PHI3TUNE_MAIN_ADDRESS="$MAIN_ADDRESS"

if [[ $MACHINE_RANK == 0 && -e ${PHI3TUNE_HOME:-workspace}/runs/$RUN/run.yaml ]]; then
    exec phi3tune resume "$RUN"
fi
exec phi3tune train --config "$CONFIG" --name "$RUN" --processes "$PROCESSES" \
    --machines "$MACHINES" --machine-rank "$MACHINE_RANK" --main-address "$MAIN_ADDRESS"
