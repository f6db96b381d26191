# SPDX-License-Identifier: GPL-2.0-or-later
"""The command lines of test_inotify_tools: those that do the same, and those that do better."""

from __future__ import annotations

import signal

from tests.cli.compared import Line, Result

# What tells a shell's activity apart: a file that is written, read, renamed and removed.
_LIFE = ": > t/x; echo text >> t/x; cat t/x > /dev/null; mv t/x t/y; chmod 600 t/y; rm t/y"
_SUBTREE = "mkdir t/a/b; echo text > t/a/x; mv t/a/x t/y; rmdir t/a/b"
# What listing a directory does not cause, so that inotifywait's own does not show.
_QUIET = "modify,attrib,close_write,move,create,delete"

_REFUSED = [
    # Options.
    "-x",
    "-mx t",
    "--bogus",
    "--bogus=3 t",
    "--f",
    "--e create",
    "--in t",
    "--t 1",
    "--monitor=3 t",
    "--csv= t",
    "-t",
    "-e",
    "-o",
    "--format",
    "--exclude",
    "--timefmt",
    "-f t",
    "--filename t",
    # Events.
    "-e frob t",
    "-e create,frob t",
    "-e IN_CREATE t",
    "-e ' create' t",
    "-e 'create delete' t",
    "-e frob, t",
    "-e onlydir t",
    # Timeouts.
    "-t soon t",
    "-t 1.5 t",
    "-t '' t",
    "-t 0x10 t",
    "-t '1 ' t",
    "-t 5s t",
    "-t - t",
    "-t 99999999999999999999 t",
    "-t -99999999999999999999x t",
    "-t -1x t",
    # What does not go together.
    "--exclude a --excludei b t",
    "--include a --includei b t",
    "--exclude a --include b t",
    "--excludei a --includei b t",
    "-c --format %w t",
    "--no-newline t",
    "--no-newline -c t",
    "--timefmt %s t",
    "--timefmt %s -c t",
    "--format %T t",
    "--format %%T t",
    "-d t",
    "--daemon t",
    "-o a -o b t",
    "--fromfile a --fromfile b t",
    "-d -o gone/out t",
    "-d -o out t",
    "-o gone/out t",
    "-o t t",
    # The first that is wrong counts, and what is before it.
    "-e frob --bogus t",
    "--bogus -e frob t",
    "--format %T --bogus t",
    "--exclude a --excludei b --bogus t",
    "--exclude a --exclude b --bogus t",
    # Patterns and formats.
    "--exclude '(' t",
    "--excludei '[' t",
    "--include 'a{2' t",
    "--includei '*' gone",
    "--exclude '[[:frob:]]' t",
    "--exclude '\\' t",
    "--format '' --no-newline t",
    "--format %f --no-newline t",
    "--format %w%f --no-newline t",
    # What is to be watched.
    "",
    "-m -r",
    "''",
    "@",
    "@t",
    "'' @ @t",
    "--fromfile gone",
    "--fromfile /dev/null",
    "--fromfile - -m",
    "--fromfile gone gone-too",
    "gone",
    "-q gone",
    "-qq gone",
    "-r gone",
    "-m t gone",
    "f/",
    "f/x",
    "loop",
    "dangling",
    "-r dangling",
    "-r -P dangling",
    "gone/",
    "gone\\\n",
]

_REFUSED_BY_WATCH = [
    "-x",
    "--bogus t",
    "--e create t",
    "--z=1 t",
    "-m t",
    "-t",
    "-t soon t",
    "-t '' t",
    "-e frob t",
    "-a frob t",
    "-d frob t",
    "-a move t",
    "-a MOVE t",
    "-a close t",
    "-a create -a delete t",
    "-a create -d delete t",
    "-a unmount t",
    "-a isdir t",
    "-d ignored t",
    "-a create -e modify t",
    "-d close -e modify t",
    "-d move -e frob t",
    "-d create -e modify t",
    "-d create -e modify --exclude a --include b t",
    "--exclude a --excludei b t",
    "--include a --includei b t",
    "--includei a --excludei b t",
    "--exclude '(' t",
    "--includei '[' gone",
    "--fromfile a --fromfile b t",
    "-e frob --bogus t",
    "--bogus -a frob t",
    "",
    "@t",
    "--fromfile gone",
    "gone",
    "-v gone",
    "-r gone",
    "-v -r t gone",
    "f/",
    "loop",
    "-P -r dangling",
    "dir\udcff",
]

_BEFORE = "mkdir -p t/a; : > f; ln -s loop loop; ln -s gone dangling; ln -s t link; ln -s f flink"


def _watch(
    arguments: str,
    do: str,
    *,
    before: str = "mkdir -p a t/a t/b/c b c; : > f; : > b/x; : > a/y; ln -s t link",
    watches: int = 1,
    ours: int = 1,
    both: int = 0,
    given: bytes = b"",
    awaited: bool = False,
    signal: signal.Signals = signal.SIGINT,
) -> Line:
    watches, ours = both or watches, both or ours
    return Line(f"watch {arguments}", do, before, given, watches, ours, awaited, signal)


LINES = [
    *[Line(f"wait {arguments}", before=_BEFORE) for arguments in _REFUSED],
    Line("wait dir\udcff", before="mkdir t"),
    # The first event ends it.
    Line("wait t", ": > t/x"),
    Line("wait -q t", ": > t/x"),
    Line("wait -qq t", ": > t/x"),
    Line("wait -q -q t", ": > t/x"),
    Line("wait -t 20 t", ": > t/x"),
    Line("wait -t 0 t", ": > t/x"),
    Line("wait -t -1 t", ": > t/x"),
    Line("wait -t ' +7' t", ": > t/x"),
    Line("wait t f", ": > f", ours=2, watches=2),
    Line("wait f t", "mkdir t/x", ours=2, watches=2),
    Line("wait f", "cat f"),
    Line("wait ./f", "cat f"),
    Line("wait t/", "mkdir t/x"),
    Line("wait t//", "mkdir t/x"),
    Line("wait t/a/..", "mkdir t/x"),
    Line("wait .", "mkdir x"),
    Line("wait -- t", "mkdir t/x"),
    Line("wait t -e delete", "mkdir t/x; rmdir t/x"),
    Line("wait -I t", "mkdir t/x"),
    Line("wait -F -S t", "mkdir t/x"),
    # Events.
    Line("wait -e create t", "cat f; touch t/x"),
    Line("wait -e CREATE,Delete t", "mkdir t/x"),
    Line("wait -e delete -e attrib t", "mkdir t/x; chmod 700 t/x"),
    Line("wait -e create,, t", "chmod 700 t"),
    Line("wait -e ,create t", "chmod 700 t"),
    Line("wait -e create, t", "chmod 700 t"),
    Line("wait -e '' t", "chmod 700 t"),
    Line("wait -e '' -e create t", "chmod 700 t; mkdir t/x"),
    Line("wait -e move t", ": > t/x; mv t/x y"),
    Line("wait -e close t", "ls t"),
    Line("wait -e isdir f", ": > f; rm f"),
    Line("wait -m -e isdir,create t", "mkdir t/x; : > t/y"),
    Line("wait -e unmount t", "rmdir t/a t"),
    Line("wait -e ignored f", "rm f"),
    Line("wait -m -e q_overflow,create t", "mkdir t/x"),
    Line("wait -m -e oneshot,create f t", "mkdir t/x; mkdir t/y", ours=2, watches=2),
    Line("wait -m -e all_events t", _LIFE),
    # What was not asked for ends it, too.
    Line("wait -e modify f", "rm f"),
    Line("wait -e modify f t", "rm f", ours=2, watches=2),
    Line("wait -q -e modify f", "rm f"),
    Line("wait f", "rm f"),
    Line("wait -e delete_self f", "rm f"),
    Line("wait -e open t", "rmdir t/a t"),
    # Nothing comes.
    Line("wait -t 1 t", awaited=True),
    Line("wait -q -t 2 -e delete t", "mkdir t/x", awaited=True),
    Line("wait -m -t 2 t", "mkdir t/x", awaited=True),
    Line("wait --timeout=2 --monitor -e modify f", "rm f", awaited=True),
    Line("wait -t 2 --exclude x t", "mkdir t/x", awaited=True),
    Line("wait -t 4294967297 t", awaited=True),
    # Monitoring.
    Line("wait -m t", _LIFE),
    Line("wait --monitor t", _LIFE),
    Line("wait --mon --qui t", _LIFE),
    Line("wait -mq t", _LIFE),
    Line("wait -mqq t", _LIFE),
    Line("wait -qme move,delete t", _LIFE),
    Line("wait -m f", "echo text >> f; chmod 600 f; cat f > /dev/null; mv f g; echo more >> g"),
    Line("wait -m t t/a", "mkdir t/a/x; rmdir t/a/x; rmdir t/a", ours=2, watches=2),
    Line("wait -m t/ ./t t", "mkdir t/x"),
    Line("wait -m ./t t/", "mkdir t/x"),
    Line("wait -m f ./f hard", "echo text >> f; chmod 600 hard", before=": > f; ln f hard"),
    # Formats.
    Line("wait --format %w t", "mkdir t/x"),
    Line("wait --format '' t", "mkdir t/x"),
    Line("wait --format %w%f --format '%e %f' t", "mkdir t/x"),
    Line("wait -m --format '%w|%f|%e|%%|%n' t", _LIFE),
    Line("wait -m --format '%w%f%0' --no-newline t", _LIFE),
    Line("wait -m --form '%:e %|e %%e %_e%,e%ee' t", _LIFE),
    Line("wait -m --format '% e%\\e%ne%0e' t", _LIFE),
    Line("wait -m --format '%z %y%f %Q%' t", "mkdir t/x"),
    Line("wait -m --format '%Pe %Ue %Ce %Oe' t", "mkdir t/x"),
    Line("wait -m --format %é%ee t", "mkdir t/x"),
    Line("wait --format '\udcff%\udcffe' t", "mkdir t/x"),
    Line("wait -m --format '%' t", "mkdir t/x"),
    Line("wait -m --format '<%c> %e %f' t", "mkdir t/b; mv t/b t/c; mv t/c t/d; mv t/d t/c"),
    Line(
        "wait -m --format '<%c> %e %w%f' -e move t t/a",
        ": > t/x; mv t/x t/a; mv t/a/x t/y",
        ours=2,
        watches=2,
    ),
    Line("wait --format '%T %f' --timefmt then t", "mkdir t/x"),
    Line("wait --format '%T' --timefmt '%Y %B %Q % é\udcff' t", "mkdir t/x"),
    Line("wait --no-newline --timefmt %Y --format '%T%T' t", "mkdir t/x"),
    Line("wait -c t", "mkdir t/x"),
    Line("wait -m -c t", _LIFE),
    Line("wait -m --csv f", "cat f > /dev/null"),
    Line(
        "wait -mc -e create,delete 'a, b' t",
        "mkdir t/plain 't/with space' 't/ first' 't/last ' 't/a,b' 't/q\"q' 't/n\nn' 'a, b/x'",
        before="mkdir t 'a, b'",
        ours=2,
        watches=2,
    ),
    # Symbolic links.
    Line("wait link", "mkdir t/x", before=_BEFORE),
    Line("wait link/", "mkdir t/x", before=_BEFORE),
    Line("wait --format %w%f link", "mkdir t/x", before=_BEFORE),
    Line("wait flink", "cat f", before=_BEFORE),
    Line("wait -P link", "touch -h link", before=_BEFORE),
    Line("wait -P link/", "touch -h link; mkdir t/x", before=_BEFORE),
    Line("wait --no-dereference dangling", "touch -h dangling", before=_BEFORE),
    Line("wait -m -P flink f", "touch -h flink; cat f", before=_BEFORE, ours=2, watches=2),
    Line("wait -m link t", "mkdir t/x", before=_BEFORE),
    Line("wait -m -r -e create link", "mkdir t/x", before=_BEFORE, watches=2),
    Line("wait -m -r -e create -P link", "mkdir t/x", before=_BEFORE, watches=2),
    Line("wait -m -r -P flink", "touch -h flink", before=_BEFORE),
    Line("wait -m -c link", "mkdir t/x", before=_BEFORE),
    # Trees.
    Line("wait -r t", "mkdir t/a/b", watches=2),
    Line("wait -r f", "cat f"),
    Line("wait -q -r t/", "mkdir t/a/b", watches=2),
    Line("wait -r t//", "mkdir t/a/b", watches=2),
    Line("wait -r .", "mkdir t/a/b", watches=3),
    Line("wait -r ./t/../t", "mkdir t/a/b", watches=2),
    Line("wait -m -r t", _LIFE + "; chmod 700 t t/a", watches=2),
    Line(f"wait -m -r -e {_QUIET} t", _SUBTREE, watches=2),
    Line("wait -mr -e modify t", _SUBTREE, watches=2),
    Line(f"wait -mrc -e {_QUIET} t", _SUBTREE, watches=2),
    Line(f"wait -mr --format '%w %f %e' -e {_QUIET} t f", _SUBTREE, watches=3, ours=2),
    Line(f"wait -m -r -e {_QUIET} t ./t", _SUBTREE, watches=2),
    Line(f"wait -m -r -e {_QUIET} ./t/a t", _SUBTREE, watches=2),
    Line(f"wait -m -r -e {_QUIET} t t/a", _SUBTREE, watches=2),
    Line(
        f"wait -m -r -e {_QUIET} t/a/b ./t/a .//t",
        "mkdir t/a/b/c; : > t/a/x; rm t/a/x; mkdir t/y",
        before="mkdir -p t/a/b",
        watches=3,
    ),
    Line("wait -m -r -t 2 t", "chmod 700 t/a", watches=2, awaited=True),
    # What is left out.
    Line("wait -m -r -e create,delete @t/a t", "mkdir t/a/x t/y; rmdir t/a/x; rm -r t/a"),
    Line("wait -m -r -e create,delete @t/a/ t", "mkdir t/a/x t/y"),
    Line("wait -m -r -e create,delete t @./t/a", "mkdir t/a/x t/y", watches=2),
    Line("wait -m -r -e create,delete ./t @./t/a", "mkdir t/a/x t/y"),
    Line("wait -m -r -e create,delete t @t", "mkdir t/a/x t/y", watches=2),
    Line("wait -m -r -e create,delete @t/a t t/a", "mkdir t/a/x t/y", watches=2, ours=2),
    Line("wait -m -r -e create,delete @t/f t", ": > t/f; rm t/f", watches=2),
    Line("wait -m @t t", "mkdir t/x", before="mkdir t @t", watches=1),
    Line("wait -m ./@t", "mkdir @t/x", before="mkdir t @t", watches=1),
    Line("wait -m --exclude x t", "mkdir t/x t/y"),
    Line("wait -m --exclude '^t/x$' t", "mkdir t/x t/xx"),
    Line("wait -m --exclude 't/$' t", "mkdir t/x; chmod 700 t"),
    Line("wait -m --excludei 'X$' t", "mkdir t/x t/X t/y"),
    Line("wait -m --include '(x|y)$' t", "mkdir t/x t/y t/z"),
    Line("wait -m --includei 'X[[:digit:]]{2}' t", "mkdir t/x12 t/X34 t/x5"),
    Line("wait -m --exclude x --exclude y t", "mkdir t/x t/y"),
    Line("wait -m --excludei x --excludei y t", "mkdir t/X t/Y"),
    Line("wait -m --include x --include y t", "mkdir t/x t/y"),
    Line("wait -m --exclude '' t", "mkdir t/x t/y"),
    Line("wait -m --exclude 'a|*' t", "mkdir t/x t/b; rmdir t/a"),
    Line("wait -m --exclude '(a)\\1|\\bz\\b' t", "mkdir t/aa t/z t/zz"),
    Line("wait -m --exclude '/.$' t", "mkdir t/ä t/x t/\udcff t/xx"),
    Line("wait -m --excludei Ä t", "mkdir t/ä t/Ä"),
    Line("wait -m --exclude 'x.y' t", "mkdir 't/x\ny' t/xzy t/xy"),
    Line("wait -m --exclude ^f$ f", "cat f"),
    Line("wait -r -m -e create,delete --exclude /a/ t", "mkdir t/a/x t/y", watches=2),
    Line("wait --exclude x t", "mkdir t/x t/y"),
    # Lists of paths.
    Line(
        "wait -m --fromfile list",
        "mkdir t/x; cat f",
        before="mkdir t; : > f; printf 't\\nf\\n' > list",
        watches=2,
        ours=2,
    ),
    Line("wait -m --fromfile -", "mkdir t/x; cat f", given=b"\nt\n@\nf", watches=2, ours=2),
    Line("wait -m -r -e create,delete --fromfile - t", "mkdir t/a/x t/y", given=b"@t/a\n"),
    Line("wait -m --fromfile - ./t", "mkdir t/x", given=b"t\n"),
    Line("wait -m --fromfile gone t", "mkdir t/x"),
    Line("wait -m --fromfile -", "mkdir t/x; cat f", given=b"t\0 \n\0t\nf\0", watches=2, ours=2),
    Line("wait -m -r -e create --fromfile -", "mkdir t/x t/a/x", given=b"@t/a\0\nt\0\n"),
    Line("wait --fromfile -", given=b"\0t\n"),
    # Where it is printed.
    Line("wait -m -o out t", _LIFE),
    Line("wait -q --outfile out -e create t", "mkdir t/x", before="mkdir t; echo old > out"),
    # Names that are no text.
    Line("wait -m t\udcff", "mkdir t\udcff/\udcfe 't\udcff/\n'", before="mkdir t\udcff"),
    Line("wait -m -c t\udcff", "mkdir t\udcff/\udcfe", before="mkdir t\udcff"),
    Line(
        "wait -m -r -e create,delete t\udcff @t\udcff/\udcfe",
        "mkdir t\udcff/\udcfe/x t\udcff/y",
        before="mkdir -p t\udcff/\udcfe",
    ),
    *[Line(f"watch {arguments}", before=_BEFORE) for arguments in _REFUSED_BY_WATCH],
    # Counting.
    *[
        _watch(arguments, _LIFE + "; chmod 700 t/a")
        for arguments in (
            *("t", "t/", "./t", "-e create t", "-e create,delete -e attrib t", "-z t", "-v t"),
            *("-v -v -z t", "-e attrib t", "-I -F -S t", "--zero t"),
            *("-e delete_self t", "-z -e delete_self t", "-e unmount t", "-e , t"),
        )
    ],
    _watch("t f", "echo text >> f; mkdir t/x", both=2),
    _watch("t ./t", "mkdir t/x"),
    _watch("-v t ./t t/", "mkdir t/x"),
    _watch("-v f t", "cat f; mkdir t/x", both=2),
    _watch("f", "cat f"),
    _watch("-z -e modify t f", "mkdir t/x", both=2),
    _watch("link", "mkdir t/x"),
    _watch("-P link", "touch -h link"),
    _watch("t t/a", "rmdir t/a; mkdir t/x", both=2),
    _watch("-t 1 t", "mkdir t/x", awaited=True),
    _watch("-v -t 1 -e modify t", "mkdir t/x", awaited=True),
    _watch("-v -t -1 t", "mkdir t/x"),
    _watch("-t 4294967297 t", "mkdir t/x", awaited=True),
    _watch("t", "mkdir t/x", signal=signal.SIGHUP),
    _watch("t", "mkdir t/x", signal=signal.SIGTERM),
    # Sorting.
    *[
        _watch(arguments, "echo a >> b/x; mkdir c/x c/y; : > a/x; cat a/y", both=3)
        for arguments in (
            *("a b c", "-a total a b c", "-d total a b c", "-a create a b c", "-d create a b c"),
            *("-a close_nowrite c b a", "-d open -z b a c", "-d CREATE -e create,open c a b"),
            *("-a '' a b c", "-d create -a open a b c", "-z -d delete -d modify a b c"),
            *("-z -a unmount -e unmount,open a b c", "-a Total a b c"),
        )
    ],
    # Trees.
    *[
        _watch(
            arguments, "mkdir t/a/b; echo text >> t/b/x; mv t/b/x t/b/c/x; rmdir t/a/b", watches=4
        )
        for arguments in (
            *(f"-r -e {_QUIET} t", f"-r -z -e {_QUIET} t", f"-v -r -e {_QUIET} t/"),
            *(f"-r -a total -e {_QUIET} t", f"-r -d create -e {_QUIET} t", "-r -e modify t"),
            *("-r -z -e modify t", f"-v -z -r -e {_QUIET} ./t/b t", f"-z -r -e {_QUIET} t/b ./t"),
        )
    ],
    _watch("-r t", "echo text >> t/b/x; chmod 700 t/b; cat t/b/x", watches=4),
    _watch("-r @t/b t", "echo text >> t/b/x; chmod 700 t/b; touch t/b/c/x", watches=2),
    _watch("-r -z @t/b/c/ t", "echo text >> t/b/x; chmod 700 t/b; touch t/b/c/x", watches=3),
    _watch(f"-r -z -e {_QUIET},delete_self t", "rm -r t/b/c; touch t/b/x", watches=4),
    _watch(f"-r -e {_QUIET} t", "mv t/b t/a; touch t/a/b/x t/a/b/c/x", watches=4),
    _watch("-r f t", "echo text >> f; chmod 700 t/b", watches=5, ours=2),
    _watch("-v -r f t", "echo text >> f; chmod 700 t/b", watches=5, ours=2),
    # What is left out.
    _watch("--exclude x t", "mkdir t/x t/y"),
    _watch("--excludei X t", "mkdir t/x t/y"),
    _watch("--include x t", "mkdir t/x t/y"),
    _watch("--includei X -z t", "mkdir t/x t/y"),
    _watch("--exclude '' t", "mkdir t/x t/y"),
    _watch("--exclude x --exclude y t", "mkdir t/x t/y"),
    _watch("-r --exclude /c/ t", "touch t/b/c/x; chmod 700 t/a", watches=4),
    # Lists of paths, and names that are no text.
    _watch("--fromfile -", "mkdir t/x; cat f", given=b"t\nf\n", both=2),
    _watch("--fromfile -", "mkdir t/x", given=b"t\0f\n"),
    _watch("-v --fromfile gone t", "mkdir t/x"),
    _watch("t\udcff", "mkdir t\udcff/\udcfe", before="mkdir t\udcff"),
]

_SET_UP = b"Setting up watches.\nWatches established.\n"
_SET_UP_TREES = _SET_UP.replace(
    b".\n", b".  Beware: since -r was given, this may take a while!\n", 1
)
_COUNTED = b"Establishing watches...\nFinished establishing watches, now collecting statistics.\n"
_GONE = b"Nothing is left to watch.\n"

# What differs on purpose, and what we do: docs/reference/wait.md lists it.
BETTER = [
    # They wait for ever on nothing.
    (Line("wait -m f", "rm f"), Result(b"f ATTRIB \nf DELETE_SELF \n", _SET_UP + _GONE, 0)),
    (
        Line("wait -e modify --exclude . f", "rm f"),
        Result(
            b"",
            _SET_UP + b"fusenotify: what was watched is gone, and no such event came\n",
            1,
        ),
    ),
    (
        _watch("f", "rm f"),
        Result(
            b"total  attrib  delete_self  filename\n3      1       1            f\n",
            _COUNTED + _GONE,
            0,
        ),
    ),
    # They end without what they were to wait for.
    (
        Line("wait -r -e delete t", "rm -r t/a", watches=2),
        Result(b"t/ DELETE,ISDIR a\n", _SET_UP_TREES, 0),
    ),
    (
        Line("wait -q -r t t/a", "mkdir t/a/x", watches=2),
        Result(b"t/a/ CREATE,ISDIR x\n", b"", 0),
    ),
    # They miss what happens in directories that they do not watch.
    (
        Line("wait -q -r -e delete t", "mkdir t/b t/b/c; rmdir t/b/c t/b", watches=2),
        Result(b"t/b/ DELETE,ISDIR c\n", b"", 0),
    ),
    (
        Line("wait -qm -r -e create --exclude b$ t", "mkdir t/b; : > t/b/x", watches=2),
        Result(b"t/b/ CREATE x\n", b"", -15),
    ),
    (
        _watch("-r -e modify t/a", "mkdir t/a/b; echo text > t/a/b/x"),
        Result(b"total  modify  filename\n1      1       t/a/b/\n", _COUNTED, 0),
    ),
    # They tell what they did themselves.
    (
        Line("wait -qm -r t", "mkdir t/b", watches=2),
        Result(b"t/ CREATE,ISDIR b\n", b"", -15),
    ),
    (
        _watch("-r t/a", "mkdir t/a/b"),
        Result(b"total  create  filename\n1      1       t/a/\n", _COUNTED, 0),
    ),
    # They tell one event more of what moves out, and forget what was counted there.
    (
        Line("wait -qm -r -e move,move_self t", "mv t/a b; : > t/x", watches=2),
        Result(b"t/ MOVED_FROM,ISDIR a\n", b"", -15),
    ),
    (
        _watch("-r -e create,move t/b", ": > t/b/c/x; mv t/b/c x; : > t/b/y", watches=2),
        Result(
            b"total  moved_from  create  filename\n"
            b"2      1           1       t/b/\n"
            b"1      0           1       t/b/c/\n",
            _COUNTED,
            0,
        ),
    ),
    # They print nothing at all.
    (Line("wait -q --format '%f|%T' --timefmt '' t", "mkdir t/x"), Result(b"x|\n", b"", 0)),
    (Line("wait -q --format '%f %' --no-newline t", "mkdir t/x"), Result(b"x %", b"", 0)),
    # They sort by something else, or end by SIGSEGV.
    (
        _watch(
            "-d access a b", "echo text >> b/x; cat b/x; mkdir a/1 a/2 a/3 a/4 a/5 a/6 a/7", both=2
        ),
        Result(
            b"total  access  modify  close_write  close_nowrite  open  create  filename\n"
            b"6      1       1       1            1              2     0       b/\n"
            b"7      0       0       0            0              0     7       a/\n",
            _COUNTED,
            0,
        ),
    ),
    (
        _watch("-d move a b", "", both=2),
        Result(b"", b"Cannot sort by `move' event; please use `moved_from' or `moved_to'.\n", 1),
    ),
    (
        _watch("-a create,delete a b", "", both=2),
        Result(b"", b"'create,delete' is not a valid key for sorting!\n", 1),
    ),
    # They say nothing of what they could not do.
    (
        Line("wait --fromfile . t", "mkdir t/x"),
        Result(b"t/ CREATE,ISDIR x\n", b"Couldn't open .: Is a directory\n" + _SET_UP, 0),
    ),
    (
        Line("wait -d -o out gone", before=": > out"),
        Result(b"", b"Couldn't watch gone: No such file or directory\n", 1),
    ),
]
