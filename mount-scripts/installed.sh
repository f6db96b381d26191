# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What mount-scripts/install puts where, for it and for mount-scripts/uninstall, which source this file.
#
# Invariants
#   Each file has $MARK in it, and no file without it is overwritten or removed.
#   $DESTDIR is before every path that is written to, and in no file.

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

# shellcheck disable=SC2034 # they are for those who source this
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
        *) fail "'$1' is no argument of mine; --help tells which there are" ;;
        esac
        shift
    done
    PREFIX=${PREFIX%/}
    [[ $PREFIX == /* || ! $PREFIX ]] || fail "--prefix $PREFIX: not an absolute path"
    [[ $DESTDIR == /* || ! $DESTDIR ]] || fail "DESTDIR=$DESTDIR: not an absolute path"

    # mount(8) looks in /sbin and nowhere else; there it may be a link, to usr/sbin or usr/bin.
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

# ours FILE: it was put there by the script.
ours() { grep -qsF -e "$MARK" -- "$DESTDIR$1"; }

# Have systemd read its files again, where it runs and these are its files.
reload_systemd() {
    [[ ! $DESTDIR && -d /run/systemd/system ]] || return 0
    command -v systemctl >/dev/null && systemctl daemon-reload && say "systemd has read its files again"
}
