# shellcheck shell=bash
# The private environments under .hive, each named after the hash of what went into it, so that a second ./hive finds
# them by name and installs nothing:
#   env/python-<hash>   daemons, hivectl, tools       .hive/venv    points to it
#   env/cage-<hash>     third-party part of a cage
#   cages/<hash>        that part and our packages    .hive/cage    points to the newest; bound at /opt/hive/env
#   env/node-<hash>     Node.js where the machine has none
#   claude/claude       the pinned agent CLI
# An environment is filled under another name and renamed when whole: an interrupted ./hive leaves nothing half made.

packages_ours=(protocol runtime boxes privd brokerd webd egressd harness hivectl)
packages_in_cage=(protocol runtime harness)
# Running cages and daemons keep the environment they were started with: a few older ones stay.
# Older environments stay for a while, and as long as a hive that was started from them is up (see hold_environments).
cages_kept=8
pythons_kept=2
npm_oldest=9
advice_registry="Is the package registry reachable from here? Run the command again when it is; nothing half made stays."

prepare_house() {
    house=$root/.hive
    copies=no
    if [ "$(id -u)" -eq 0 ] && ! reachable_by_everyone; then
        # Daemons run under their own uids: in root's home they could not even open the checkout.
        copies=yes
        house=/var/cache/hyperhive/$(printf '%s' "$root" | sha256sum | cut -c1-12)
        [ -e "$root/.hive" ] || ln -sfn "$house" "$root/.hive"
    fi
    mkdir -p "$house"/{log,env,cages,cache,stamps} 2>/dev/null || true
    if [ ! -w "$house" ] && [ ! -x "$house/venv/bin/python" ]; then
        refuse "$house is not yours to write. Clone the repository as the user who runs it."
    fi
    python=$house/venv/bin/python
}

reachable_by_everyone() {
    local folder=$root
    [ -n "$(find "$root/hive" -maxdepth 0 -perm -o=r)" ] || return 1
    while [ "$folder" != / ]; do
        [ -n "$(find "$folder" -maxdepth 0 -perm -o=x)" ] || return 1
        folder=$(dirname "$folder")
    done
}

# Where hivectl and the tests find what was prepared.
export_places() {
    export HIVE_CHECKOUT=$root HIVE_HOUSE=$house HIVE_CAGE_ENV=$house/cage
    export PATH="$house/venv/bin:$PATH"
    [ ! -x "$house/claude/claude" ] || export HIVE_CLAUDE=$house/claude/claude
    [ ! -d "$house/node/bin" ] || export PATH="$house/node/bin:$PATH"
}

hash_of() { sha256sum "$@" | sha256sum | cut -c1-12; }

point() { # point <link> <target>: atomically
    ln -sfn "$2" "$house/$1.new" && mv -T "$house/$1.new" "$house/$1"
}

keep_newest() { # keep_newest <how many> <folder>…
    local kept=$1 folder
    shift
    [ $# -gt "$kept" ] || return 0
    # shellcheck disable=SC2012 # our own names, sorted by time
    ls -1dt "$@" | tail -n "+$((kept + 1))" | while read -r folder; do
        [ ! -e "$folder/.held" ] || flock --nonblock "$folder/.held" true || continue
        rm -rf "$folder"
    done
}

# What hivectl up runs from, and what it starts cages from, is not tidied away while it is up.
hold_environments() {
    local folder descriptor
    for folder in "$house/venv" "$house/cage"; do
        [ -w "$folder/." ] || continue
        exec {descriptor}>"$folder/.held"
        flock --shared "$descriptor"
    done
}

# ----------------------------------------------------------------------------------------------------------- python

lock_hash() {
    { "$(find_python)" -I -c 'import sys; print(sys.version)'; printf '%s\n' "$root"; cat "$@"; } | sha256sum | cut -c1-12
}

python_environment() { # python_environment <run|dev>
    local environment
    environment=env/python-$(lock_hash requirements/run.txt requirements/dev.txt)
    if [ ! -e "$house/$environment/.has-$1" ]; then
        step "python environment ($1)" "python-$1" "$advice_registry" -- fill_python "$house/$environment" "$1"
    fi
    [ "$(readlink "$house/venv")" != "$environment" ] || return 0
    point venv "$environment"
    keep_newest "$pythons_kept" "$house"/env/python-*
}

# Both sets pin the same versions, so `dev` only adds to `run`: in place, running processes notice nothing.
fill_python() {
    [ -x "$1/bin/python" ] || new_environment "$1"
    pip_into "$1" "$2"
    [ "$copies" = yes ] || printf '%s\n' "$root" >"$(site_packages "$1")/hyperhive.pth"
    [ "$2" != dev ] || touch "$1/.has-run"
    touch "$1/.has-$2"
}

new_environment() {
    rm -rf "$1"
    if "$(find_python)" -I -c 'import ensurepip' 2>/dev/null; then
        "$(find_python)" -I -m venv "$1"
    else
        "$(find_python)" -I -m venv --without-pip "$1"
    fi
}

pip_into() { # pip_into <environment> <set>
    local pip="$1/bin/python -m pip"
    "$1/bin/python" -I -c 'import pip' 2>/dev/null || pip="$(foreign_pip) --python $1/bin/python"
    # shellcheck disable=SC2086 # a command and its arguments
    env -u PYTHONPATH -u PIP_REQUIRE_VIRTUALENV -u PIP_USER $pip install --disable-pip-version-check --no-input \
        --require-hashes --no-deps --only-binary :all: -r "$root/requirements/$2.txt"
}

site_packages() { printf '%s' "$1"/lib/python3.*/site-packages; }

# ------------------------------------------------------------------------------------------------------------- cage

cage_environment() {
    local base generation
    base=$house/env/cage-$(lock_hash requirements/cage.txt)
    generation=$(cage_generation "$base")
    if [ ! -e "$base/.whole" ]; then
        step "cage environment" cage "$advice_registry" -- fill_cage "$base"
        keep_newest "$pythons_kept" "$house"/env/cage-*
    fi
    if [ ! -e "$house/$generation" ]; then
        step "cage packages" cage-packages "Remove $house/cages and run the command again." -- \
            new_cage_generation "$base" "$house/$generation"
    fi
    [ "$(readlink "$house/cage")" = "$generation" ] || point cage "$generation"
}

# What the files say, not their times: a fresh checkout of the same commit is the same generation.
cage_generation() {
    local sources
    sources=$(cd "$root" && find "${packages_in_cage[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0r sha256sum)
    printf 'cages/%s' "$(printf '%s\n%s\n' "$1" "$sources" | sha256sum | cut -c1-12)"
}

# No pip and no scripts inside: scripts bear the path they were installed under, and a cage has no use for pip.
fill_cage() {
    rm -rf "$1" "$1.new"
    "$(find_python)" -I -m venv --without-pip "$1.new"
    local pip="$python -m pip --python $1.new/bin/python"
    "$python" -I -c 'import pip' 2>/dev/null || pip="$(foreign_pip) --python $1.new/bin/python"
    # shellcheck disable=SC2086 # a command and its arguments
    env -u PYTHONPATH -u PIP_REQUIRE_VIRTUALENV -u PIP_USER $pip install --disable-pip-version-check --no-input \
        --require-hashes --no-deps --only-binary :all: -r "$root/requirements/cage.txt"
    find "$1.new/bin" -mindepth 1 ! -name 'python*' -delete
    touch "$1.new/.whole"
    mv -T "$1.new" "$1"
}

new_cage_generation() { # third-party files are hard links: a generation costs our own sources only
    rm -rf "$2.new"
    cp -al "$1" "$2.new"
    copy_packages "$2.new" "${packages_in_cage[@]}"
    mv -T "$2.new" "$2"
    touch "$2"
    keep_newest "$cages_kept" "$house"/cages/*
}

copy_packages() { # copy_packages <environment> <package>…
    local target package
    target=$(site_packages "$1")
    shift
    for package in "$@"; do
        rm -rf "${target:?}/$package"
        cp -r "$root/$package" "$target/$package"
        find "$target/$package" -name __pycache__ -prune -exec rm -rf {} +
        "$(find_python)" -I -m compileall -q "$target/$package"
    done
}

# Only where the checkout itself is closed to the daemons' uids (see prepare_house).
package_copies() {
    [ "$copies" = yes ] || return 0
    local sources
    sources=$(find "${packages_ours[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0r sha256sum | sha256sum)
    sources="$sources $(readlink "$house/venv")"
    [ "$(cat "$house/stamps/copies" 2>/dev/null)" != "$sources" ] || return 0
    step "packages" packages-ours "Remove $house/stamps and run the command again." -- \
        copy_packages "$house/venv" "${packages_ours[@]}"
    printf '%s' "$sources" >"$house/stamps/copies"
}

# --------------------------------------------------------------------------------------------------------- frontend

frontend_packages() { # frontend_packages <run|dev>
    [ -e "$root/package-lock.json" ] || return 0
    local wanted
    wanted="$(hash_of package-lock.json house/vendor.py) $1"
    case "$(cat "$house/stamps/frontend" 2>/dev/null)" in
        "$wanted" | "${wanted% *} dev") [ -e "$root/webd/static/vendor" ] && return ;;
    esac
    node_environment
    local only=
    [ "$1" = dev ] || only=--omit=dev
    step "dashboard packages ($1)" frontend "$advice_registry" -- fill_frontend $only
    printf '%s' "$wanted" >"$house/stamps/frontend"
}

fill_frontend() {
    # A Node.js of our own trusts the bundle it was built with; the machine's says which registry mirrors are fine here.
    export NODE_EXTRA_CA_CERTS=${NODE_EXTRA_CA_CERTS:-/etc/ssl/certs/ca-certificates.crt}
    PATH="$house/node/bin:$PATH" npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier "$@"
    "$(find_python)" -I "$root/house/vendor.py" "$root"
}

node_environment() {
    local version
    version=$(npm --version 2>/dev/null || echo 0)
    [ "${version%%.*}" -lt "$npm_oldest" ] || return 0
    local environment
    environment=env/node-$(lock_hash requirements/node.txt)
    if [ ! -e "$house/$environment/.whole" ]; then
        step "Node.js" node "$advice_registry" -- fill_node "$house/$environment"
    fi
    [ "$(readlink "$house/node")" = "$environment" ] || point node "$environment"
}

fill_node() {
    new_environment "$1"
    pip_into "$1" node
    touch "$1/.whole"
}

# ----------------------------------------------------------------------------------------------------------- claude

claude_cli() {
    local pinned
    pinned=$(hash_of requirements/claude.txt)
    [ "$(cat "$house/claude/.pinned" 2>/dev/null)" != "$pinned" ] || return 0
    step "Claude Code CLI" claude "$advice_registry" -- fill_claude "$pinned"
}

fill_claude() {
    local wheels=$house/claude.new/wheels
    rm -rf "$house/claude.new"
    mkdir -p "$wheels"
    "$python" -m pip download --disable-pip-version-check --no-input --no-cache-dir --require-hashes --no-deps \
        --only-binary :all: --dest "$wheels" -r "$root/requirements/claude.txt"
    "$(find_python)" -I -c '
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open("claude_agent_sdk/_bundled/claude") as source:
    with open(sys.argv[2], "wb") as target:
        while block := source.read(1 << 20):
            target.write(block)
' "$wheels"/claude_agent_sdk-*.whl "$house/claude.new/claude"
    chmod 755 "$house/claude.new/claude"
    rm -rf "$wheels"
    printf '%s' "$1" >"$house/claude.new/.pinned"
    rm -rf "$house/claude"
    mv -T "$house/claude.new" "$house/claude"
}

# ------------------------------------------------------------------------------------------------------------ clean

clean() {
    rm -rf "${house:?}" "$root/.hive" "$root/node_modules" "$root/webd/static/vendor"
    note "Removed .hive, node_modules and webd/static/vendor. Agents and their messages stay where they are."
}
