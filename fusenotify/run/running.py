# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a program from its start to its end, and serve its inotify.

cli.run calls run_program().  This process waits and stands for the program (run.front).  Its
child supervises (run.back), and the program is the child of that (run.child).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from fusenotify.proc import shows_our_numbers
from fusenotify.run.back import Order, supervise
from fusenotify.run.calls import Settings
from fusenotify.run.child import CANNOT_RUN, NotStarted
from fusenotify.run.front import FAILED, Front, SupervisorLost
from fusenotify.run.inherited import Inherited
from fusenotify.run.recorder import Recorder
from fusenotify.run.witness import Witness


def run_program(
    command: Sequence[str], settings: Settings, recorder: Recorder, directory: str | None = None
) -> int:
    """Run a program, in a directory if one is given, and wait for its end.

    Returns its exit status, or the negative number of the signal that killed it.

    Raises NotStarted.
    """
    if not shows_our_numbers():
        raise NotStarted(CANNOT_RUN, "/proc belongs to another pid namespace: mount our own there")
    _occupy_standard_descriptors()
    order = Order(command, directory, Inherited.taken(), settings, recorder)
    witness = Witness()
    reports, to_report = os.pipe()
    lifeline, alive = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    supervisor = os.fork()
    if not supervisor:
        try:
            os.close(alive)
            supervise(order, to_report, lifeline, recorder.descriptors())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(to_report)
    os.close(lifeline)
    front = Front(supervisor, reports, witness)
    try:
        word, rest = front.begin()
        if word == FAILED:
            os.waitpid(supervisor, 0)
            status, _, message = rest.partition(b" ")
            raise NotStarted(int(status), os.fsdecode(message))
        return front.wait()
    except SupervisorLost:
        raise NotStarted(CANNOT_RUN, "the supervisor was killed, and the program with it") from None
    finally:
        witness.end()


def _occupy_standard_descriptors() -> None:
    """Open those of 0, 1 and 2 that are closed, so that no pipe of ours gets their number.

    They are closed again when the program is executed: it finds them as it would without us.
    """
    while True:
        number = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if number > 2:
            os.close(number)
            return
