# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# What tests.booted runs in the booted system, as root.  Each check prints a line, "ok NAME" or "FAILED NAME" with what
# its commands said.  $1 is the checkout, $2 the program.

scripts=$1/mount-scripts
program=$2
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin

# check NAME COMMAND...
check() {
    local name=$1 said
    shift
    if said=$("$@" 2>&1); then
        echo "ok $name"
    else
        echo "FAILED $name"
        sed 's/^/    /' <<<"$said"
    fi
}

# eventually COMMAND...: within twenty seconds it succeeds.
eventually() {
    local end=$((SECONDS + 20))
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

is() { [[ $(systemctl show --property="$2" --value "$1") == "$3" ]] || { systemctl show "$1"; false; }; }
mounted() { findmnt --noheadings --types fuse.fusenotify "$1"; }
not() { ! "$@"; }

says_what_it_serves() {
    is "fusenotify@$1" ActiveState active && mounted "$2" &&
        systemctl show --property=StatusText --value "fusenotify@$1" | grep -F "$3"
}

# What programs may do on a disk, they may do in a mount of the service's, and SOURCE has it.
files() {
    local mnt=$1 source=$2
    cd "$mnt" || return
    cp -a /usr/share/zoneinfo .
    diff -r --no-dereference /usr/share/zoneinfo zoneinfo
    echo text >file
    chown 1:2 file
    chmod 6755 file
    ln -s file link
    ln file hard
    mknod fifo p
    mknod device c 1 3
    mkdir --mode=2775 directory
    mv --no-target-directory zoneinfo directory/zones
    python3 - <<'PYTHON'
import fcntl, mmap, os
os.setxattr("file", "user.name", b"value")
os.setxattr("file", "security.capability", bytes.fromhex("01000002" + "00040000" + "00" * 12))
assert os.getxattr("file", "user.name") == b"value"
with open("mapped", "w+b") as file:
    file.truncate(4096)
    mapping = mmap.mmap(file.fileno(), 4096)
    mapping[:3] = b"abc"
    mapping.flush()
    fcntl.flock(file, fcntl.LOCK_EX)
    os.utime("mapped", (1, 1))
    assert os.stat("mapped").st_mtime == 1
    os.fsync(file.fileno())
fd = os.open("mapped", os.O_WRONLY | os.O_APPEND | os.O_SYNC)
os.write(fd, b"end")
os.fsync(os.open(".", os.O_RDONLY))
assert os.statvfs(".").f_bavail
PYTHON
    [[ $(stat --format=%u:%g:%a:%h file) == 1:2:6755:2 ]]
    [[ $(setpriv --reuid=65534 --regid=65534 --clear-groups cat file) == text ]]
    not setpriv --reuid=65534 --regid=65534 --clear-groups touch new
    # What lost its descriptor and was moved behind the mount is found by its handle.
    cd directory/zones/Europe || return
    ls -lR "$mnt" >/dev/null
    mv "$source/directory/zones/Europe" "$source/directory/zones/moved"
    cat Berlin >/dev/null
    cd /
    sleep 1 # the mount's memory of names
    diff -r --no-dereference --exclude=fifo --exclude=device "$mnt" "$source"
    rm -r "${mnt:?}"/*
}

has_a_watch() { "$program" status --json "$1" | grep -q '"watches": 1'; }

watched() {
    timeout 60 "$program" wait --quiet --timeout 50 --recursive --event create "$1" >/run/events &
    eventually has_a_watch "$1"
    touch "$1/new"
    wait $! && grep "CREATE new" /run/events
}

behind() {
    grep -F "behind the mount: all is heard" <("$program" status "$1") || { "$program" status "$1"; return 1; }
    mkdir -p "$2/d/e"
    timeout 60 "$program" wait --quiet --timeout 50 --recursive --event create "$1" >/run/events &
    eventually has_a_watch "$1"
    mkdir "$2/d/e/new"
    wait $! && grep "CREATE,ISDIR new" /run/events
}

restarted() {
    local before
    before=$(systemctl show --property=MainPID --value "fusenotify@$1")
    systemctl kill --signal=KILL "fusenotify@$1"
    eventually is "fusenotify@$1" NRestarts 1 && eventually mounted "$2" && [[ -e $2/kept ]] &&
        not is "fusenotify@$1" MainPID "$before"
}

confined() {
    local status
    status=/proc/$(systemctl show --property=MainPID --value "fusenotify@$1")/status
    grep -P '^NoNewPrivs:\t1$' "$status" && grep -P '^Seccomp:\t2$' "$status" &&
        not grep -P '^CapEff:\t000001ffffffffff$' "$status"
}

stopped() {
    systemctl stop "fusenotify@$1" && not mounted "$2" && is "fusenotify@$1" Result success
}

stopped_although_busy() {
    exec 9>"$2/busy"
    stopped "$1" "$2"
    local status=$?
    exec 9>&-
    return "$status"
}

not_tried_again() {
    printf 'SOURCE=/srv/b\nMNT=/mnt/b\nOPTIONS=frob\n' >/etc/fusenotify/bad.conf
    not systemctl start fusenotify@bad && sleep 2 && is fusenotify@bad NRestarts 0 &&
        is fusenotify@bad Result exit-code && journalctl --unit fusenotify@bad | grep "unknown option 'frob'"
}

unit_of_fstab() {
    systemctl start mnt-b.mount && mounted /mnt/b && is mnt-b.mount Result success &&
        "$program" limits /mnt/b | grep -E 'max_queued_events +9 ' &&
        systemctl stop mnt-b.mount && not mounted /mnt/b
}

bad_unit_of_fstab() {
    not systemctl start mnt-c.mount && is mnt-c.mount Result exit-code &&
        journalctl --unit mnt-c.mount | grep "unknown option 'max_queud_events=9'"
}

nothing_left() {
    "$scripts/uninstall" && ! find /usr/ /etc/ -newer /run/begin -name '*mount*fusenotify*' -o -name 'fusenotify@.service' |
        grep .
}

mkdir -p /srv/my-data /srv/b /mnt/b /mnt/c /etc/fusenotify
touch /run/begin /srv/my-data/kept
check "install" "$scripts/install" --program "$program"
check "the unit is understood" systemd-analyze verify fusenotify@.service
covered=$(systemd-escape --path /srv/my-data)
check "an instance is started" systemctl start "fusenotify@$covered"
check "it says what it serves" says_what_it_serves "$covered" /srv/my-data "/srv/my-data on /srv/my-data; clients"
check "it is confined" confined "$covered"
check "it is watched" watched /srv/my-data
check "killed, it is started again" restarted "$covered" /srv/my-data
check "it is stopped" stopped "$covered" /srv/my-data
# With few descriptors: most of what is known has none.
mkdir /etc/systemd/system/fusenotify@b.service.d
printf '[Service]\nLimitNOFILE=128\n' >/etc/systemd/system/fusenotify@b.service.d/few.conf
systemctl daemon-reload
printf 'SOURCE=/srv/b\nMNT=/mnt/b\nOPTIONS=behind=all,allow_other,suid,dev,max_queued_events=7,semantics=linux-2.6.18\n' \
    >/etc/fusenotify/b.conf
check "an instance has what its file says" systemctl start fusenotify@b
check "it says so" says_what_it_serves b /mnt/b "/srv/b on /mnt/b; clients"
check "its options count" grep -qE 'max_queued_events +7 ' <("$program" limits /mnt/b)
check "programs do what they do on a disk" bash -ec "$(declare -f files not); files /mnt/b /srv/b"
check "it hears of changes behind it" behind /mnt/b /srv/b
check "it is stopped although it is busy" stopped_although_busy b /mnt/b
check "wrong options are not tried again" not_tried_again
printf '/srv/b /mnt/b fusenotify noauto,nofail,max_queued_events=9 0 0\n/srv/b /mnt/c fusenotify noauto,max_queud_events=9 0 0\n' >>/etc/fstab
systemctl daemon-reload
check "a line of fstab is a unit" unit_of_fstab
check "a line of fstab with an unknown option fails" bad_unit_of_fstab
check "uninstall leaves nothing" nothing_left
echo "systemd-analyze security: $(systemd-analyze security --no-pager --offline=true "$scripts/fusenotify@.service" | tail -n 1)"
