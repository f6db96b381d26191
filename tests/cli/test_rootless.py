# SPDX-License-Identifier: GPL-2.0-or-later
"""Without root, in user namespaces and between containers: what works, and what is said else."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import FUSENOTIFY, environment
from tests.conftest import REPOSITORY, Mounting, User, modules

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes these namespaces"),
]

# What scripts of these tests begin with: programs, and the three directories of the place.
_HEAD = """
F="{python} -m fusenotify"; S={path}/source; M={path}/mnt; R={path}/run
socket() {{
    {python} -c "import os; print(os.getxattr('$M', 'user.fusenotify.socket').decode())"
}}
"""
# An empty /tmp, but for the place that may lie in it.
own_tmp = pytest.mark.skipif(
    REPOSITORY.is_relative_to("/tmp"), reason="hides /tmp, where this checkout is"
)
_OWN_TMP = (
    "mount --bind {path} /mnt; mount -t tmpfs none /tmp; mkdir -p {path}; mount --bind /mnt {path}"
)
_IN_ANOTHER_USER_NAMESPACE = "unshare -Urm"


class Place:
    """A source, a mount point and a run directory of a user's, and scripts run as that user."""

    def __init__(self, path: Path, user: User) -> None:
        self.path = path
        self.user = user
        for name in ("source", "mnt", "run"):
            (path / name).mkdir()
            os.chown(path / name, user.uid, user.uid)

    def run(
        self, script: str, *, prepare: str = ":", by: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a script, by these programs, once root has run another one.

        Both are in a mount namespace of their own.
        """
        script = _HEAD.format(python=self.user.python, path=self.path) + script
        command = [*shlex.split(by), "sh", "-c", script]
        with self.user.with_fuse(*command, prepare=prepare) as start:
            return subprocess.run(
                start,
                env=modules() | {"XDG_RUNTIME_DIR": f"{self.path}/run"},
                cwd="/",
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )


@pytest.fixture
def place(public_path: Path, nobody: User) -> Place:
    return Place(public_path, nobody)


@own_tmp
def test_sockets_are_in_the_runtime_directory_or_in_tmp(place: Place) -> None:
    done = place.run(
        "for XDG_RUNTIME_DIR in $R /proc ''; do $F mount $S $M; socket; $F unmount $M; done",
        prepare=f"{_OWN_TMP}; chmod 1777 /tmp".format(path=place.path),
    )
    assert done.stderr == ""
    own, *others = map(os.path.dirname, done.stdout.split())
    assert own == f"{place.path}/run/fusenotify"
    assert others == [f"/tmp/fusenotify-{place.user.uid}"] * 2


def test_the_root_of_a_user_namespace_mounts_by_mount8_too(place: Place) -> None:
    done = place.run(
        "mount -t tmpfs none /usr/local/sbin; cd /usr/local/sbin; "
        'printf "#!/bin/sh\\nexec $F \\"\\$@\\"\\n" >fusenotify; chmod 755 fusenotify; cd /; '
        "mount -t fuse.fusenotify $S $M -o max_user_trees=7; $F limits $M | grep trees; "
        "touch $M/file; stat -c %u $M/file; socket; umount $M; ls $M $S",
        by=_IN_ANOTHER_USER_NAMESPACE,
    )
    assert done.stderr == ""
    _, trees, *_, owner, socket, in_mount, in_source, file = done.stdout.split()
    assert (trees, owner, file) == ("7", "0", "file")
    assert socket.startswith(f"{place.path}/run/fusenotify/mnt-")
    assert (in_source, in_mount) == (f"{place.path}/source:", f"{place.path}/mnt:")


def test_sockets_of_one_mount_point_in_two_namespaces_have_two_names(place: Place) -> None:
    done = place.run(
        "$F mount $S $M; socket; export F M S; "
        "unshare -m sh -c 'umount -l $M; $F mount $S $M; $F status $M | grep socket; umount $M'; "
        "socket; $F unmount $M",
        by=_IN_ANOTHER_USER_NAMESPACE,
    )
    assert done.stderr == ""
    first, _, second, still = done.stdout.split()
    assert still == first
    assert second == first.removesuffix(".sock") + "-2.sock"


REFUSALS = [
    pytest.param(
        ":",
        "setpriv --no-new-privs",
        "set-user-ID programs such as fusermount3 get no rights here (no_new_privs); start it "
        "outside of the sandbox, or mount in a user namespace, as 'unshare -Urm' makes one",
        id="no new privileges",
    ),
    pytest.param(
        "cp $(which fusermount3) fm; chmod 755 fm; mount --bind fm $(which fusermount3)",
        "",
        "/usr/bin/fusermount3 is not a set-user-ID program of root here; unless a sandbox hides "
        "the bit, root can set it with 'chmod u+s /usr/bin/fusermount3', or mount in a user "
        "namespace, as 'unshare -Urm' makes one",
        id="fusermount3 without its bit",
    ),
    pytest.param(
        "chmod 555 {path}/mnt",
        "",
        "an ordinary user may mount only on a directory that the user may write to",
        id="a mount point that is only read",
    ),
    pytest.param(
        ":",
        "unshare -Ur",
        "the mount namespace belongs to another user namespace; make a mount namespace, too, "
        "as 'unshare -Urm' does",
        id="a user namespace and no mount namespace",
    ),
    pytest.param(
        ":",
        "unshare -Urm setpriv --bounding-set=-sys_admin",
        "root has no right to mount here (CAP_SYS_ADMIN); give it to the container "
        "(--cap-add SYS_ADMIN --device /dev/fuse)",
        id="a root without rights",
    ),
]


@pytest.mark.parametrize(("prepare", "by", "says"), REFUSALS)
def test_a_refusal_of_fuse_is_reported_with_advice(
    prepare: str, by: str, says: str, place: Place
) -> None:
    done = place.run("$F mount $S $M", prepare=prepare.format(path=place.path), by=by)
    assert done.returncode == 1
    _of_fuse, *ours = done.stderr.splitlines()
    assert ours == [
        f"fusenotify: FUSE refuses to mount {place.path}/mnt (fuse_session_mount failed; options: "
        f"none given): {says}"
    ]


def test_a_user_without_a_name_is_told_that_fusermount3_wants_one(
    public_path: Path, nobody: User
) -> None:
    user = User(64_999, nobody.python)
    done = Place(public_path, user).run("$F mount $S $M")
    assert done.stderr.endswith(
        ": user 64999 has no name, and fusermount3 needs one; add a line to /etc/passwd, or mount "
        "in a user namespace, as 'unshare -Urm' makes one\n"
    )


def test_a_fusermount3_for_others_is_not_called_missing(place: Place) -> None:
    closed = "cp $(which fusermount3) fm; chmod 4750 fm; mount --bind fm $(which fusermount3)"
    done = place.run("$F mount $S $M", prepare=closed)
    assert done.stderr == (
        "fusenotify: /usr/bin/fusermount3: you may not run it; root can change that, or add "
        "you to its group\n"
    )


@own_tmp
def test_if_no_socket_can_be_made_the_message_tells_how_to_name_another_place(place: Place) -> None:
    done = place.run(
        "export XDG_RUNTIME_DIR=; $F mount $S $M; $F mount --socket $R/s $S $M && socket; "
        "$F unmount $M",
        prepare=f"{_OWN_TMP}; mount -o remount,ro /tmp".format(path=place.path),
    )
    assert done.stderr.startswith("fusenotify: the socket cannot be made: ")
    assert done.stderr.endswith(
        "; name another place with --socket PATH, or a directory of yours in XDG_RUNTIME_DIR\n"
    )
    assert done.stdout == f"{place.path}/run/s\n"


# Of the mount and of SOURCE nothing is there, of the network, the processes and the names nothing
# either; only the directory with the socket.
_CONTAINER = """
mkdir -p {box}; mount --bind {run} {box}; mount -t tmpfs none {hidden}
test ! -e {mnt} || exit 9
export FUSENOTIFY_SOCKET={box}/socket
exec "$@"
"""


@pytest.mark.parametrize("recursive", [True, False], ids=["a tree", "a directory"])
def test_a_container_that_shares_only_the_socket_can_watch(
    recursive: bool, mounting: Mounting, tmp_path: Path
) -> None:
    run, box = tmp_path / "run", Path("/run") / f"fusenotify-test-{os.getpid()}"
    run.mkdir()
    with mounting(socket=run / "socket") as mount:
        mnt = Path(mount.mountpoint)
        (mnt / "below").mkdir()
        apart = _CONTAINER.format(box=box, run=run, hidden=tmp_path, mnt=mnt)
        what = ["-r", str(mnt)] if recursive else [f"{mnt}/below/"]
        with subprocess.Popen(
            [
                *("unshare", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts"),
                *("sh", "-ec", apart, "sh", *FUSENOTIFY, "wait", "-e", "create", *what),
            ],
            env=environment(),
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as waiting:
            assert waiting.stderr is not None
            for line in waiting.stderr:
                if line == "Watches established.\n":
                    break
            (mnt / "below" / "file").touch()
            said, _ = waiting.communicate(timeout=20)
    box.rmdir()
    assert said == f"{mnt}/below/ CREATE file\n"
    assert waiting.returncode == 0
