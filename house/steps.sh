# shellcheck shell=bash
# How ./hive speaks: one line per step with its time; a step's own chatter goes to a log, shown only when it fails.

log_lines_shown=25

note() { printf '%s\n' "$*" >&2; }

refuse() {
    printf 'hive: %s\n' "$*" >&2
    exit 1
}

now_ms() { date +%s%3N; }

seconds_since() { # seconds_since <ms>: "3.4 s"
    local spent=$(($(now_ms) - $1))
    printf '%d.%d s' $((spent / 1000)) $((spent % 1000 / 100))
}

# step <name> <log> <what to do when it fails> -- command…
# Never call it in a condition: bash would then go on after a failing line inside the command.
step() {
    local name=$1 log=$house/log/$2.log advice=$3 began status
    shift 4
    began=$(now_ms)
    printf '  %-34s ' "$name" >&2
    set +e
    (set -e; "$@") >"$log" 2>&1 </dev/null
    status=$?
    set -e
    if [ "$status" -eq 0 ]; then
        printf '%s\n' "$(seconds_since "$began")" >&2
        return
    fi
    printf 'FAILED after %s\n\n' "$(seconds_since "$began")" >&2
    tail -n "$log_lines_shown" "$log" | sed 's/^/    /' >&2
    printf '\n  %s\n  The whole log: %s\n' "$advice" "$log" >&2
    exit 1
}
