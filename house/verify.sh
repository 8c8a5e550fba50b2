# shellcheck shell=bash
# What ./hive check and ./hive test run. Checks go two at a time, longest first; each is one line, a failing one is
# shown whole. The suite of ./hive test is one pytest run, whose summary is the last thing printed.

checks_at_once=2
# Tests that need nothing but Python: the fast loop. The rest is the whole suite's.
fast_tests="not whole and not cage and not browser and not systemd and not cli and not slow"

fast_test_s_max=30

# Registries and places of one machine never belong in a file that others clone. Written so as not to match themselves.
forbidden_hosts='py[p]i\.org|python[h]osted|registry\.np[m]js|deb\.de[b]ian\.org'
forbidden_places='/ro[o]t/|/wo[r]k/|/fa[r]m/|/tmp/hi[v]e/'

check() {
    local began
    began=$(now_ms)
    side_by_side "tests, unit and property=fast_suite" "${linters[@]}" || refuse "what failed is shown above"
    note "All well after $(seconds_since "$began")."
}

whole_suite() { # whole_suite [pytest arguments]
    local linted=0 tested=0
    side_by_side "${linters[@]}" || linted=$?
    HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-thorough} "$python" -m pytest "$@" </dev/null || tested=$?
    [ "$linted" -eq 0 ] || note "hive: linters failed too; see above the tests"
    [ "$tested" -eq 0 ] || exit "$tested"
    exit "$linted"
}

linters=(
    "types (mypy)=types"
    "types (pyright)=strict_types"
    "import rules=import_rules"
    "lint=lint"
    "format=format"
    "browser modules (tsc)=browser_types"
    "shell=shell_syntax"
    "forbidden strings=forbidden_strings"
)

fast_suite() { "$python" -m pytest -q -m "$fast_tests" --timeout "$fast_test_s_max" -o faulthandler_timeout=$((2 * fast_test_s_max)); }
types() { "$python" -m mypy; }
strict_types() { "$root/node_modules/.bin/pyright"; }
import_rules() { "$house/venv/bin/lint-imports" --cache-dir "$house/cache/imports"; }
lint() { "$python" -m ruff check; }
format() { "$python" -m ruff format --check; }

browser_types() { "$root/node_modules/.bin/tsc" --project "$root/webd/static"; }

shell_syntax() {
    local file
    for file in hive .ci/run house/*.sh requirements/compile; do
        bash -n "$file" || return
    done
    ! command -v shellcheck >/dev/null || shellcheck --external-sources hive .ci/run requirements/compile
}

forbidden_strings() {
    git rev-parse --git-dir >/dev/null 2>&1 || { echo "not a git checkout"; return 0; }
    git grep --untracked -nIE "$forbidden_hosts|$forbidden_places" -- .
    [ $? -eq 1 ] # 1 is "nothing found"; more is git's own trouble
}

# side_by_side <name=function>…: all of them run even when one fails; 1 if any did.
side_by_side() {
    local entry results failed=0
    results=$(mktemp -d "$house/log/checks.XXXXXX")
    set -m # each check is its own process group, so that an interrupt ends all of it
    trap 'stop_checks; exit 130' INT TERM
    for entry in "$@"; do
        while [ "$(jobs -rp | wc -l)" -ge "$checks_at_once" ]; do
            wait -n || true
        done
        one_check "${entry%%=*}" "${entry##*=}" "$results" &
    done
    wait
    trap - INT TERM
    set +m
    for entry in "$@"; do
        [ -e "$results/${entry##*=}.passed" ] || failed=$((failed + 1))
    done
    rm -r "$results"
    [ "$failed" -eq 0 ] || { note "  $failed of $# failed"; return 1; }
}

stop_checks() {
    local group
    for group in $(jobs -p); do
        kill -TERM -- "-$group" 2>/dev/null || true
    done
}

one_check() { # one_check <name> <function> <results>
    local began log=$3/$2.log
    began=$(now_ms)
    if "$2" >"$log" 2>&1 </dev/null; then
        touch "$3/$2.passed"
        printf '  %-34s %s\n' "$1" "$(seconds_since "$began")" >&2
    else
        { printf '  %-34s FAILED after %s\n\n' "$1" "$(seconds_since "$began")"; sed 's/^/    /' "$log"; echo; } >&2
    fi
}
