# shellcheck shell=bash
# Which programs of the distribution ./hive needs, and how they get here. Nothing else here installs system-wide.

# <what proves it is there>:<Debian package>. A proof that is a path is a file, otherwise a command.
packages_everybody=(/etc/ssl/certs/ca-certificates.crt:ca-certificates bwrap:bubblewrap git:git)
packages_root=(systemd-nspawn:systemd-container)
packages_test=(chromium:chromium ip:iproute2 nft:nftables nix-instantiate:nix-bin openssl:openssl ssh-keygen:openssh-client)
# A hive runs without these; a test that needs one says so and is skipped.
packages_can_wait="git systemd-container chromium iproute2 nftables nix-bin openssl openssh-client"

python_oldest=11 # Python 3.x

# The distribution's own interpreter: cages see /usr and nothing else of the host, so a private build would not run there.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 /usr/bin/python3.1{1,2,3,4}; do
        if [ -x "$candidate" ] && "$candidate" -I -c "import sys; sys.exit(sys.version_info < (3, $python_oldest))"; then
            printf '%s' "$candidate"
            return
        fi
    done
    return 1
}

is_there() {
    case "$1" in
        */*) [ -e "$1" ] ;;
        *) PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null ;;
    esac
}

missing_packages() { # missing_packages <run|check|test>
    local wanted=("${packages_everybody[@]}") entry python
    [ "$(id -u)" -ne 0 ] || wanted+=("${packages_root[@]}")
    [ "$1" != test ] || wanted+=("${packages_test[@]}")
    if ! python=$(find_python); then
        printf 'python3 python3-venv '
    elif ! "$python" -I -c 'import ensurepip' 2>/dev/null; then
        printf 'python3-venv '
    fi
    for entry in "${wanted[@]}"; do
        is_there "${entry%%:*}" || printf '%s ' "${entry##*:}"
    done
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get install --yes --no-install-recommends "$@" && return
    apt-get update && apt-get install --yes --no-install-recommends "$@"
}

need_packages() {
    local missing
    missing=$(missing_packages "$1")
    missing=${missing% }
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        # shellcheck disable=SC2086 # a list of words
        step "system packages" packages "Install them by hand: apt-get install --no-install-recommends $missing" -- \
            apt_install $missing
        return
    fi
    note "Missing on this machine: $missing"
    note "To install them, as root: apt-get install --no-install-recommends $missing"
    local package
    for package in $missing; do
        case " $packages_can_wait " in
            *" $package "*) ;;
            *) can_go_without "$package" "$1" || refuse "cannot go on without $package" ;;
        esac
    done
    note "Going on without; ./hive doctor says what that weakens."
}

# python3-venv only brings pip: another pip on the machine can fill an environment just as well.
can_go_without() { # can_go_without <package> <run|check|test>
    case "$1" in
        bubblewrap) [ "$2" != run ] ;;
        python3-venv) find_python >/dev/null && foreign_pip >/dev/null ;;
        ca-certificates) [ -n "${SSL_CERT_FILE:-}" ] ;;
        *) return 1 ;;
    esac
}

foreign_pip() {
    local candidate
    for candidate in "$(find_python) -m pip" pip3; do
        # shellcheck disable=SC2086 # a command and its arguments
        if $candidate --python "$(find_python)" --version >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return
        fi
    done
    return 1
}
