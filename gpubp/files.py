"""Files that are written whole or not at all, whatever happens meanwhile.

The bytes go to a temporary file beside the target, reach the disk, and only then take the target's
name. The temporary's name is fixed, so one that a killed process left behind is used up by the next
save; a lock on it keeps two processes that save to one target apart.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gpubp.errors import SaveError

_REMEDIES = {
    errno.ENOSPC: "free some space on that disk, or choose another place",
    errno.EDQUOT: "free some of your quota, or choose another place",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f), or choose another file system",
    errno.ENOENT: "make that folder first",
    errno.ENOTDIR: "choose another place",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
}
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # a file system that has none


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Make ``data`` the content of the file at ``path``; a link is followed, and stays one.

    A file that is there keeps its permissions, and its owner and group where this process may give
    files away: who may read a new one is up to the umask.

    Raises:
        SaveError: it could not be written; what was there before is still there.
    """
    with _replacing(path) as (file, temporary, target):
        file.truncate(0)
        mode = _taken_over(file, target)
        # Before there is anything to be read in it; what is left of a killed process can be opened.
        _permit(file, mode | stat.S_IWUSR)
        file.write(data)
        file.flush()
        _permit(file, mode)
        os.fsync(file.fileno())
        os.replace(temporary, target)
    _sync(target)


def append(path: str | os.PathLike[str], data: bytes, *, at: int) -> bool:
    """Add ``data`` to the end of a file of ``at`` bytes, without waiting for the disk.

    A process that dies meanwhile may leave a part of it.

    Returns:
        whether it was added: not where the file is gone, was changed by somebody else, so that it
        has another length, or may not be written to.

    Raises:
        SaveError: it could not be written; the file is as it was.
    """
    try:
        with open(path, "r+b", buffering=0, opener=_open_there) as file:
            there = os.fstat(file.fileno())
            if not stat.S_ISREG(there.st_mode) or there.st_size != at:
                return False
            file.seek(at)
            rest = memoryview(data)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except BaseException:
                file.truncate(at)
                raise
    except (FileNotFoundError, PermissionError):
        return False
    except OSError as error:
        raise _unwritten(os.fspath(path), error) from error
    return True


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise now the error that :func:`write` would raise for a path that cannot be written to.

    Raises:
        SaveError: the folder is not there, may not be written to, or the path is not a file's.
    """
    with _replacing(path) as (_, temporary, _):
        temporary.unlink()


@contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, Path, Path]]:
    """Yield the temporary file, its path and the target's; remove the temporary on any failure."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EEXIST, "what is there is not a file")
        with _alone(temporary) as file:
            try:
                yield file, temporary, target
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise _unwritten(f"{target} (through {temporary})", error) from error


def _unwritten(what: str, error: OSError) -> SaveError:
    return SaveError(
        f"cannot write {what}: {error.strerror or error}; what was there before is untouched; "
        f"{_REMEDIES.get(error.errno or 0, 'choose another path')}"
    )


def _taken_over(file: BinaryIO, target: Path) -> int:
    """Give a temporary file the target's owner and group; return the permissions it is to have."""
    own = os.fstat(file.fileno())
    try:
        old = target.stat()
    except FileNotFoundError:
        return stat.S_IMODE(own.st_mode)
    mode = stat.S_IMODE(old.st_mode) & 0o777
    if (own.st_uid, own.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(file.fileno(), old.st_uid, old.st_gid)
        except OSError:  # most may not; what was for one group is not given to another
            if own.st_gid != old.st_gid:
                mode &= ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    return mode


def _permit(file: BinaryIO, mode: int) -> None:
    # Not every file system lets permissions be set.
    if stat.S_IMODE(os.fstat(file.fileno()).st_mode) != mode:
        os.fchmod(file.fileno(), mode)


@contextmanager
def _alone(temporary: Path) -> Iterator[BinaryIO]:
    """Open the temporary file, keeping its content, when no other process has it any more."""
    while True:
        with open(temporary, "ab", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EEXIST, f"{temporary.name} there is not a file")
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            if _still_there(file, temporary):
                yield file
                return


def _open(path: str, flags: int) -> int:
    # Not through a link, and not waiting for the other end of a pipe.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _open_there(path: str, _: int) -> int:
    # A link is followed, as in write; not waiting for the other end of a pipe.
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)


def _still_there(file: BinaryIO, temporary: Path) -> bool:
    """Return whether no one renamed or removed the file while this process waited for the lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.lstat(temporary))
    except FileNotFoundError:
        return False


def _sync(target: Path) -> None:
    """Make the new name of a file last: it is an entry in its folder."""
    try:
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SaveError(
            f"{target} is written, but its folder could not be synced ({error.strerror}), so it "
            "may not outlive a power cut; check the disk"
        ) from error
