# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Where mount-scripts/install puts its files.  It and mount-scripts/uninstall source this file.
#
# Invariants
#   Each installed file contains $MARK.  A file without it is never overwritten or removed.
#   $DESTDIR is put before every path that is written to; no installed file contains it.

MARK="fusenotify's mount-scripts/install"
DESTDIR=${DESTDIR:-}
DESTDIR=${DESTDIR%/}
PREFIX=/usr/local
PROGRAM=

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# shellcheck disable=SC2034 # the scripts that source this use them
# Read the arguments; set PREFIX, PROGRAM, HELPERS and UNIT.
read_arguments() {
    while (($#)); do
        case $1 in
        --prefix=*) PREFIX=${1#*=} ;;
        --program=*) PROGRAM=${1#*=} ;;
        --prefix | --program)
            (($# > 1)) || fail "$1: a path is missing"
            if [[ $1 == --prefix ]]; then PREFIX=$2; else PROGRAM=$2; fi
            shift
            ;;
        -h | --help)
            sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
            exit
            ;;
        *) fail "unknown argument '$1'; --help lists the arguments" ;;
        esac
        shift
    done
    PREFIX=${PREFIX%/}
    [[ $PREFIX == /* || ! $PREFIX ]] || fail "--prefix $PREFIX: not an absolute path"
    [[ $DESTDIR == /* || ! $DESTDIR ]] || fail "DESTDIR=$DESTDIR: not an absolute path"

    # mount(8) looks only in /sbin, which may be a link to usr/sbin or usr/bin.
    local sbin=/usr/sbin
    if [[ -L $DESTDIR/sbin ]]; then
        sbin=/$(readlink "$DESTDIR/sbin")
        sbin=${sbin//\/\//\/}
    elif [[ -d $DESTDIR/sbin ]]; then
        sbin=/sbin
    fi
    HELPERS=("$sbin/mount.fusenotify" "$sbin/mount.fuse.fusenotify")
    UNIT=$PREFIX/lib/systemd/system/fusenotify@.service
}

# ours FILE: succeed if mount-scripts/install put FILE there.
ours() { grep -qsF -e "$MARK" -- "$DESTDIR$1"; }

# Make systemd read its files again, if it runs and the installed files are among them.
reload_systemd() {
    [[ ! $DESTDIR && -d /run/systemd/system ]] || return 0
    command -v systemctl >/dev/null && systemctl daemon-reload && say "systemd has read its files again"
}
