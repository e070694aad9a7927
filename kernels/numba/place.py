"""The cache folder: where it is, and whether what lies in it can only be the user's.

What is kept there is run as the user. So the folder belongs to the user, or to root as in the image
of a container; nobody else can write to it, or put another in its place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from pathlib import Path

from gpubp.errors import InputError

_ROOT = 0
_OTHERS = stat.S_IWGRP | stat.S_IWOTH

KEPT_DAYS = 30  # of a folder that no process uses


def base() -> Path:
    """Return $GPUBP_CACHE_DIR, $XDG_CACHE_HOME/gpubp or ~/.cache/gpubp, without links.

    Raises:
        InputError: $GPUBP_CACHE_DIR is empty.
        OSError: there is no home.
    """
    given = os.environ.get("GPUBP_CACHE_DIR")
    if given is not None and not given.strip():
        raise InputError("GPUBP_CACHE_DIR is empty; set it to a folder, or unset it")
    if given is None:
        try:
            home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        except RuntimeError as error:
            raise OSError(f"no home folder: {error}") from error
        given = os.path.join(home, "gpubp")
    return Path(os.path.realpath(given))


def make(folder: Path) -> None:
    """Make a folder that is not there, and those above it, for the user alone.

    Raises:
        OSError: it can't be made.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:  # by another process, or it is a file
            if not path.is_dir():
                raise


def use(folder: Path, others: str) -> None:
    """Note that a folder is in use, and remove those beside it that have not been for long.

    ``others`` is the pattern of their names: folders of other versions of gpubp and its libraries.
    """
    with contextlib.suppress(OSError):  # of one that can only be read, as nobody removes it either
        os.utime(folder)
    oldest = time.time() - KEPT_DAYS * 86_400
    for other in folder.parent.glob(others):
        if other != folder and other.lstat().st_mtime < oldest:
            shutil.rmtree(other, ignore_errors=True)  # or another process does, or nobody may


def check(folder: Path) -> None:
    """Check that nobody but the user and root can write to a folder, or replace it.

    Raises:
        InputError: somebody can.
        OSError: what is there can't be looked at.
    """
    for level in reversed([folder, *folder.parents]):
        try:
            found = level.lstat()
        except FileNotFoundError:
            return
        trusted = {_ROOT, os.geteuid()} | (_unmapped() if level != folder else set())
        if found.st_uid not in trusted:
            raise _refused(folder, level, f"belongs to user {found.st_uid}", "take another")
        if level == folder:
            writers = found.st_mode & _OTHERS
        elif found.st_mode & stat.S_ISVTX:  # where nobody replaces what is another's
            writers = 0
        else:
            writers = found.st_mode & (stat.S_IWOTH if _private(found.st_gid) else _OTHERS)
        if writers:
            mode = f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
            raise _refused(folder, level, mode, f"say 'chmod go-w {level}', or take another")


def is_trusted(file: os.stat_result) -> bool:
    """Return whether a file is the user's or root's, and nobody else can write to it."""
    return file.st_uid in (_ROOT, os.geteuid()) and not file.st_mode & _OTHERS


def _refused(folder: Path, level: Path, why: str, remedy: str) -> InputError:
    return InputError(
        f"the folder of compiled kernels, {folder}, is not used: {level} {why}, and what is in it "
        f"would run as you; {remedy} by GPUBP_CACHE_DIR"
    )


def _private(group: int) -> bool:
    """Return whether a group is the user's alone, which by custom then has the user's name."""
    import grp  # noqa: PLC0415 (only where a folder is writable by its group)
    import pwd  # noqa: PLC0415

    try:
        user, entry = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return (entry.gr_gid, entry.gr_name) == (user.pw_gid, user.pw_name) and not (
        set(entry.gr_mem) - {user.pw_name}
    )


def _unmapped() -> set[int]:
    """Return whom root outside of a user namespace is seen as within, as sandboxes have them."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            if file.read().split() == ["0", "0", "4294967295"]:
                return set()
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            return {int(file.read())}
    except (OSError, ValueError):
        return set()
