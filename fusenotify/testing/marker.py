# SPDX-License-Identifier: GPL-2.0-or-later
"""The keywords of ``@pytest.mark.fusenotify``: limits and semantics of one test.

The pytest plugin collects the markers; this module has the known keywords and
refuses others.  It does not depend on pytest.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, cast


class Defaults(TypedDict, total=False):
    """Settings that a mount has for its devices, and that a device may have for itself."""

    max_queued_events: int
    semantics: str


class DeviceSettings(Defaults, total=False):
    """Settings of a device: keywords of TemporaryMount.device()."""

    detailed: bool


class MountSettings(Defaults, total=False):
    """Settings of a mount: keywords of fusenotify.mounted()."""

    max_user_watches: int
    max_user_trees: int
    max_user_instances: int
    access: str
    behind: str
    faults: bool
    options: Sequence[str]


class Settings(MountSettings, total=False):
    """Settings that a marker may have, for a mount and its device."""

    detailed: bool


def settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings of a marker's keywords.

    Raises ValueError, which names the wrong keyword and says what is allowed.
    """
    for keyword, value in given.items():
        if keyword not in _CHECKS:
            near = difflib.get_close_matches(keyword, _CHECKS, 1)
            meant = f"did you mean {near[0]}? There" if near else "there"
            raise ValueError(f"unknown keyword '{keyword}': {meant} are {', '.join(_CHECKS)}")
        complaint = _CHECKS[keyword](value)
        if complaint:
            raise ValueError(f"{keyword}={value!r}: {complaint}")
    return cast(Settings, dict(given))


def mount_settings(given: Settings) -> MountSettings:
    """Return the settings of the mount: all except the device's own."""
    kept = dict(given)
    kept.pop("detailed", None)
    return cast(MountSettings, kept)


def device_settings(given: Settings) -> DeviceSettings:
    """Return the settings of a device on a mount that tests share.

    Raises ValueError for a setting that only a whole mount can have.
    """
    too_many = given.keys() - DeviceSettings.__optional_keys__
    if too_many:
        raise ValueError(
            f"{', '.join(sorted(too_many))} cannot be set on a mount that tests share: "
            "use fusenotify_mount, which belongs to the test alone"
        )
    return cast(DeviceSettings, given)


def no_faults(name: str, is_shared: bool) -> PermissionError:
    """Return the error for a fault on a mount that was made without faults."""
    if is_shared:
        how = "tests share it; use fusenotify_mount with @pytest.mark.fusenotify(faults=True)"
    else:
        how = "say @pytest.mark.fusenotify(faults=True), or temporary_mount(..., faults=True)"
    return PermissionError(errno.EPERM, f"{name} allows no faults: {how}")


def with_the_marker(refusal: OSError) -> OSError:
    """Return a refusal; if the reason was a limit, it says how a test sets that limit."""
    message = refusal.strerror or ""
    limit = re.search(r"max_user_\w+", message)
    if refusal.errno not in (errno.EMFILE, errno.ENOSPC) or limit is None:
        return refusal
    marker = f"@pytest.mark.fusenotify({limit[0]}=...)"
    return OSError(refusal.errno, f"{message}; {marker} sets it for fusenotify_mount")


def check_has_a_mount(given: Settings) -> None:
    """Check settings for a test that has an engine and no mount.

    Raises ValueError if one of them is for mounts.
    """
    for keyword in ("access", "behind", "faults", "options"):
        if keyword in given:
            raise ValueError(f"{keyword} is for mounts; an engine has none")


def _count(value: object) -> str:
    # True is an int.
    if type(value) is int and value >= 0:
        return ""
    return "not a whole number of 0 or more"


def _semantics(value: object) -> str:
    from fusenotify.engine.policy import SEMANTICS

    known = isinstance(value, str) and value in SEMANTICS
    return "" if known else f"there are {' and '.join(SEMANTICS)}"


def _access(value: object) -> str:
    from fusenotify.mounting.settings import ACCESSES

    known = isinstance(value, str) and value in ACCESSES
    return "" if known else f"there are {' and '.join(ACCESSES)}"


def _behind(value: object) -> str:
    from fusenotify.heard import KINDS

    known = isinstance(value, str) and value in KINDS
    return "" if known else f"there are {', '.join(KINDS[:-1])} and {KINDS[-1]}"


def _flag(value: object) -> str:
    return "" if isinstance(value, bool) else "not True or False"


def _options(value: object) -> str:
    from fusenotify.mounting.options import KNOWN_OPTIONS, unknown_options

    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        return "not a list of FUSE options, each a str"
    unknown = unknown_options(value)
    if unknown:
        return f"unknown FUSE option '{unknown[0]}': there are {', '.join(sorted(KNOWN_OPTIONS))}"
    return ""


# Each function returns what is wrong with a value, or "".
_CHECKS: dict[str, Callable[[object], str]] = {
    "max_queued_events": _count,
    "max_user_watches": _count,
    "max_user_trees": _count,
    "max_user_instances": _count,
    "semantics": _semantics,
    "access": _access,
    "behind": _behind,
    "faults": _flag,
    "detailed": _flag,
    "options": _options,
}
