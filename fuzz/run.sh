#!/bin/sh
# Runs the fuzz targets one after the other: fuzz/run.sh [seconds] [target..]. New inputs go to target/, not
# to the committed corpus. Ends with the executions and the coverage of each, and fails with the first finding.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-600}
[ $# -gt 0 ] && shift
targets=${*:-traces metrics logs json tracestate queue}
export RUSTC_BOOTSTRAP=1
summary=
for target in $targets; do
    found=fuzz/target/found/$target
    mkdir -p "$found"
    log=fuzz/target/$target.log
    status=0
    cargo fuzz run -s none "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=8192 -timeout=10 -print_final_stats=1 > "$log" 2>&1 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    reached=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -1)
    summary="$summary$target: ${runs:-no} executions, ${reached:-no coverage}
"
    if [ "$status" -ne 0 ]; then
        tail -40 "$log"
        printf '%s%s: FAILED\n' "$summary" "$target"
        exit "$status"
    fi
done
printf '%s' "$summary"
