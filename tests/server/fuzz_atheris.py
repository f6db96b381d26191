# SPDX-License-Identifier: GPL-2.0-or-later
"""The frame decoder under a fuzzer that is led by coverage: atheris, in an environment of its own.

    pip install . atheris msgpack
    python -m tests.server.fuzz_atheris -runs=10000000 -max_len=512 CORPUS

Not among the tests, and atheris is no dependency.  What follows the module goes
to libFuzzer.  CORPUS is a directory; an empty one gets frames of tests.server.fuzz
to begin with.  An input is a byte that says where it is cut in two, and what a
client sends; where that byte is even the first length is made right.  Anything but
RemoteProtocolError ends the run, with the input in a file.
"""

from __future__ import annotations

import os
import random
import sys

if "--help" in sys.argv[1:]:  # also without atheris, whose own are libFuzzer's: -help=1
    print(__doc__)
    sys.exit()

import atheris

with atheris.instrument_imports(include=["fusenotify.protocol"]):
    from fusenotify.protocol.codec import LENGTH, request_decoder
    from fusenotify.protocol.errors import RemoteProtocolError
    from tests.server import fuzz  # here, as it imports them


def decode(data: bytes) -> None:
    """Feed an input, of which the first byte says where it is cut."""
    if not data:
        return
    frames = data[1:]
    if not data[0] % 2:
        frames = LENGTH.pack(max(len(frames) - LENGTH.size, 0)) + frames[LENGTH.size :]
    cut = data[0] * len(frames) // 255
    decoder = request_decoder()
    try:
        for piece in (frames[:cut], frames[cut:]):
            for _ in decoder.feed(piece):
                pass
    except RemoteProtocolError:
        pass


def begin(corpus: str, inputs: int = 500) -> None:
    """Put inputs into an empty directory."""
    chosen = random.Random(1)
    if not os.listdir(corpus):
        for number in range(inputs):
            with open(os.path.join(corpus, str(number)), "wb") as file:
                file.write(bytes([chosen.randrange(256)]) + fuzz.frame(chosen))


def main() -> None:
    begin(sys.argv[-1])
    atheris.Setup(sys.argv, decode)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
