# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Set-up and clean-up for mount-scripts/quickstart and tests/run, which source this file.
#
# Invariants
#   A script creates files only in $RUN_DIR and mounts only below it.  The programs that it
#   starts have TMPDIR=$RUN_DIR in their environment.  Clean-up touches nothing else, and
#   always runs when a script ends.
#   Packages are installed only if something is missing, and are named first.
#   No program that a script starts reads the script's stdin.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PYTHON=${PYTHON:-python3}
VENV=$(realpath -m "${FUSENOTIFY_VENV:-$ROOT/.venv}")
RUN_DIR=
CHILD=

say() { printf '==> %s\n' "$*"; }

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# --- the run's directory, and clean-up ----------------------------------------------------------

# Create the run's directory, and have it cleaned up at the end.  Call it first.
begin_run() {
    RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/fn.XXXXXX") # short: AF_UNIX paths have at most 107 bytes
    RUN_DIR=$(realpath "$RUN_DIR")
    chmod 711 "$RUN_DIR" # tests act as other users in it
    trap clean_up EXIT
    trap 'interrupted INT 130' INT
    trap 'interrupted TERM 143' TERM
    trap 'interrupted HUP 129' HUP
    export TMPDIR=$RUN_DIR
}

# alive PID: succeed if the process runs and is not a zombie.
alive() { grep -qs '^State:.[^ZX]' "/proc/$1/status"; }

# Run a program and return its status.  bash handles a signal only after a foreground program
# has ended; so the program is a background job here, and interrupted() passes the signal on.
run() {
    local status=0
    set -m
    "$@" </dev/null &
    CHILD=$!
    set +m
    wait "$CHILD" || status=$?
    CHILD=
    return "$status"
}

# interrupted SIGNAL STATUS: pass the signal on, wait five seconds for the program, exit.
interrupted() {
    trap '' INT TERM HUP
    if [[ $CHILD ]]; then
        kill -s "$1" -- "-$CHILD" 2>/dev/null
        for _ in {1..50}; do
            alive "$CHILD" || break
            sleep 0.1
        done
    fi
    exit "$2"
}

# Print the mount points of fusenotify below RUN_DIR, newest first, each followed by a NUL.
own_mounts() {
    local fields rest point
    while read -r -a fields; do
        rest=" ${fields[*]:6} "
        [[ $rest == *" - fuse.fusenotify "* ]] || continue
        printf -v point '%b' "${fields[4]}" # spaces and similar characters are octal escapes
        [[ $point == "$RUN_DIR"/* ]] && printf '%s\0' "$point"
    done < <(tac /proc/self/mountinfo)
}

# Print the ids of the processes of this run that still live.
own_processes() {
    grep -lzsF -e "TMPDIR=$RUN_DIR" /proc/[0-9]*/environ | tr -dc '0-9\n'
}

# Wait up to $1 seconds for the run's processes to end by themselves.
processes_end() {
    for ((tenths = 0; tenths < $1 * 10; tenths++)); do
        [[ $(own_processes) ]] || return 0
        sleep 0.1
    done
    return 1
}

# Unmount mounts and end processes that the run left, and remove its directory.  If there were
# any, a run that passed fails.
clean_up() {
    local status=$? point pid command
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    cd /
    unset TMPDIR # so that the programs that clean up do not count as the run's processes

    while IFS= read -r -d '' point; do
        printf 'left mounted, unmounting: %s\n' "$point" >&2
        ((status)) || status=1
        fusermount3 -u -q -- "$point" || fusermount3 -uz -- "$point"
    done < <(own_mounts)
    if ! processes_end $((status ? 1 : 5)); then
        for pid in $(own_processes); do
            command=$(tr '\0' ' ' <"/proc/$pid/cmdline") 2>/dev/null || continue
            printf 'left running, ending: %s %s\n' "$pid" "$command" >&2
            ((status)) || status=1
            kill -TERM "$pid" 2>/dev/null
        done
        processes_end 5 || own_processes | xargs -r kill -KILL
    fi
    rm -rf --one-file-system -- "$RUN_DIR"
    exit "$status"
}

# --- Debian packages ----------------------------------------------------------------------------

python_says() { "$PYTHON" -c "$1" 2>/dev/null; }
python_can_make_virtualenvs() { python_says 'import ensurepip, venv'; }
python_has_headers() {
    python_says 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")'
}

# missing_packages [PROGRAM[=PACKAGE]...]: print the Debian packages that are missing, one per
# line.  The default for PACKAGE is PROGRAM.
missing_packages() {
    local program
    for program in "$@"; do
        command -v "${program%%=*}" >/dev/null || echo "${program#*=}"
    done
    command -v fusermount3 >/dev/null || echo fuse3
    command -v gcc >/dev/null || echo gcc
    [[ -e /usr/include/stdio.h ]] || echo libc6-dev
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists fuse3 2>/dev/null || echo libfuse3-dev
    if ! command -v "$PYTHON" >/dev/null; then
        printf '%s\n' python3 python3-dev python3-venv
        return
    fi
    local package=python3
    [[ $PYTHON == *python3.* ]] && package=$(basename "$PYTHON")
    python_has_headers || echo "$package-dev"
    python_can_make_virtualenvs || echo "$package-venv"
}

# install_packages [PROGRAM[=PACKAGE]...]: install the PROGRAMs, and what pyfuse3 needs to be built
# and to mount.  Only missing packages are installed.
install_packages() {
    local missing as_root=()
    mapfile -t missing < <(missing_packages "$@")
    if ((${#missing[@]})); then
        say "installing Debian packages: ${missing[*]}"
        command -v apt-get >/dev/null ||
            fail "there is no apt-get: install the equivalents of Debian's ${missing[*]}, then run this again"
        if ((EUID)); then
            command -v sudo >/dev/null ||
                fail "not root, and there is no sudo: as root, run apt-get install ${missing[*]}"
            as_root=(sudo)
            [[ -t 0 && ! ${CI:-} ]] || as_root+=(-n)
        fi
        # In the foreground, not by run(): a package manager must not be stopped half-way.
        if ! "${as_root[@]}" apt-get -qq update </dev/null ||
            ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get -qq install -y --no-install-recommends "${missing[@]}" \
                </dev/null >"$RUN_DIR/apt.log" 2>&1; then
            [[ ! -e $RUN_DIR/apt.log ]] || tail -n 20 "$RUN_DIR/apt.log" >&2
            fail "apt-get failed: as root, run apt-get install ${missing[*]}, then run this again"
        fi
        hash -r
        mapfile -t missing < <(missing_packages "$@")
        ((${#missing[@]} == 0)) || fail "$PYTHON still lacks Debian's ${missing[*]}"
    fi
    python_says 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$("$PYTHON" --version) is too old: 3.11 is needed (PYTHON=... names another)"
}

# --- the private virtualenv ---------------------------------------------------------------------

# make_virtualenv EXTRA: install this checkout, editable, with the extra in $VENV, which is kept.
make_virtualenv() {
    local stamp="$VENV/.installed-$1" wanted
    if [[ -e $VENV && ! -e $VENV/pyvenv.cfg && $(ls -A "$VENV") ]]; then
        fail "$VENV is not a virtual environment: move it, or set FUSENOTIFY_VENV"
    fi
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        say "creating a virtual environment in $VENV"
        run "$PYTHON" -m venv --clear "$VENV" || fail "could not create $VENV"
    fi
    wanted="$ROOT $(sha256sum <"$ROOT/pyproject.toml")"
    if [[ ! -e $stamp || $(<"$stamp") != "$wanted" ]]; then
        say "installing .[$1] into $VENV (pyfuse3 is compiled: about half a minute)"
        PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
            run "$VENV/bin/python" -m pip install --quiet --editable "${ROOT}[$1]" ||
            fail "pip could not install .[$1]; see above"
        printf '%s\n' "$wanted" >"$stamp"
    fi
    PATH=$VENV/bin:$PATH
}
