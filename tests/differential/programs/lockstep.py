# SPDX-License-Identifier: GPL-2.0-or-later
"""Running a program in both worlds at once, and making one that differs smaller.

Each step is made natively, then through the mount, and its answers compared;
at the end all files are closed, and what the devices still have is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.differential.conftest import World
from tests.differential.linux import machine_limits
from tests.differential.programs.hidden import Hidden
from tests.differential.programs.steps import LONG_QUEUE, ROOT, Call, Program, Step
from tests.differential.programs.worlds import Place


class Difference(AssertionError):
    """A program's answers differ.  program has the steps that were made, up to that."""

    def __init__(self, program: Program, on_linux: object, through_the_mount: object) -> None:
        super().__init__(program, on_linux, through_the_mount)
        self.program = program
        self.on_linux = on_linux
        self.through_the_mount = through_the_mount

    def __str__(self) -> str:
        return (
            f"\n{self.program!r}\n"
            f"on Linux:          {self.on_linux}\n"
            f"through the mount: {self.through_the_mount}"
        )


class Lockstep:
    """Both worlds, side by side.  steps and programs count what was run."""

    def __init__(self, linux: World, ours: World) -> None:
        self.steps = self.programs = 0
        self._native, self._mounted = self._places = (Place(linux), Place(ours))

    def run(self, program: Program) -> None:
        """Run a program.  Raises Difference."""
        with machine_limits():
            self._run(program)

    def _run(self, program: Program) -> None:
        made: list[Step] = []
        hidden = Hidden(self._native)
        try:
            for place in self._places:
                place.begin(program.queues)
            for step in program.steps:
                if hidden.leaves_out(step):
                    continue
                made.append(step)
                on_linux, through_the_mount = self._native.do(step), self._mounted.do(step)
                if on_linux != through_the_mount:
                    break
                if not isinstance(on_linux, str):  # an errno's name
                    hidden.note(step, on_linux)
            else:
                on_linux, through_the_mount = self._native.end(), self._mounted.end()
        finally:
            for place in self._places:
                place.clean()
            self.programs += 1
            self.steps += len(made)
        if on_linux != through_the_mount:
            raise Difference(replace(program, steps=tuple(made)), on_linux, through_the_mount)

    def close(self) -> None:
        for place in self._places:
            place.close()

    def smallest(self, difference: Difference) -> Difference:
        """Return a difference of a smaller program: no step of it can be left out."""
        size = len(difference.program.steps)
        while size:
            found = self._smaller(difference, size)
            if found is None:
                size //= 2
            else:
                difference, size = found, min(size, len(found.program.steps))
        return difference

    def _smaller(self, difference: Difference, size: int) -> Difference | None:
        for candidate in _candidates(difference.program, size):
            try:
                self.run(candidate)
            except Difference as found:
                return found
        return None


def _candidates(program: Program, size: int) -> Iterator[Program]:
    """Yield a program without each run of size steps, then with a simpler step in each place."""
    steps = program.steps
    for start in range(0, len(steps), size):
        yield replace(program, steps=steps[:start] + steps[start + size :])
    if size > 1:
        return
    if any(queue is not None and queue < LONG_QUEUE for queue in program.queues):
        yield replace(program, queues=(LONG_QUEUE, LONG_QUEUE))
    for place, step in enumerate(steps):
        if isinstance(step, Call) and step.by != ROOT:
            simpler = replace(step, by=ROOT)
            yield replace(program, steps=(*steps[:place], simpler, *steps[place + 1 :]))
