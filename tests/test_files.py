"""Files written whole or not at all: failures of every call, full disks, locks, killed writers."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from gpubp import files
from gpubp.errors import SaveError

OLD, NEW = b"what was there before", b"what is to be there"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(OLD)
    return path


def run(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> str:
    result = subprocess.run(
        [*prefix, sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_new_and_replaced(tmp_path: Path) -> None:
    for data in (OLD, b"", NEW):
        files.write(tmp_path / "a", data)
        assert (tmp_path / "a").read_bytes() == data
    assert os.listdir(tmp_path) == ["a"]


def test_text_paths_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.write("a", NEW)
    assert Path("a").read_bytes() == NEW


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    files.write(tmp_path / "ours", NEW)
    (tmp_path / "usual").write_bytes(NEW)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o400])
def test_a_replaced_file_keeps_its_permissions(target: Path, mode: int) -> None:
    """Whatever those of a file are that a killed process left behind."""
    target.with_name(".model.bin.tmp").write_bytes(b"x")
    target.chmod(mode)
    seen = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        sync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "fsync", watched)
        files.write(target, NEW)
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert seen[0] == mode
    assert target.read_bytes() == NEW


def test_nobody_else_can_read_what_is_being_written(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while it is; and what a killed process leaves of a read-only file can be opened."""
    target.chmod(0o400)
    seen: list[tuple[int, int]] = []
    permit = files._permit

    def watched(file: BinaryIO, mode: int) -> None:
        permit(file, mode)
        status = os.fstat(file.fileno())
        seen.append((status.st_size, stat.S_IMODE(status.st_mode)))

    monkeypatch.setattr(files, "_permit", watched)
    files.write(target, NEW)
    assert seen == [(0, 0o600), (len(NEW), 0o400)]


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody but root gives files away")
def test_a_file_stays_its_owners(target: Path) -> None:
    os.chown(target, 12345, 54321)
    target.chmod(0o640)
    files.write(target, NEW)
    status = target.stat()
    assert (status.st_uid, status.st_gid) == (12345, 54321)
    assert stat.S_IMODE(status.st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody but root gives files away")
@pytest.mark.parametrize(("before", "after"), [(0o660, 0o600), (0o664, 0o644), (0o600, 0o600)])
def test_what_was_for_one_group_is_not_given_to_another(
    target: Path, before: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the group can't be kept, as for a user who is not in it."""

    def refuse(*_: int) -> None:
        raise PermissionError(errno.EPERM, "not yours")

    os.chown(target, -1, 54321)
    target.chmod(before)
    monkeypatch.setattr(files.os, "fchown", refuse)
    files.write(target, NEW)
    assert target.stat().st_gid == os.getegid()
    assert stat.S_IMODE(target.stat().st_mode) == after


def test_adding_to_the_end(target: Path) -> None:
    link = target.with_name("latest")
    link.symlink_to(target.name)
    target.chmod(0o600)
    assert files.append(target, b" and", at=len(OLD))
    assert files.append(link, b" more", at=len(OLD) + 4)
    assert target.read_bytes() == OLD + b" and more"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert link.is_symlink()


def test_nothing_is_added_to_what_somebody_else_has_changed(target: Path) -> None:
    assert not files.append(target, NEW, at=len(OLD) - 1)
    assert not files.append(target.with_name("gone"), NEW, at=0)
    os.mkfifo(target.with_name("pipe"))
    assert not files.append(target.with_name("pipe"), NEW, at=0)
    assert target.read_bytes() == OLD
    assert sorted(os.listdir(target.parent)) == ["model.bin", "pipe"]


_FAILING_APPEND = """
import resource, sys
from gpubp import files
from gpubp.errors import SaveError
files.write(sys.argv[1], b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    files.append(sys.argv[1], bytes(5000), at=3)
except SaveError as error:
    print(error)
assert open(sys.argv[1], "rb").read() == b"old"
"""


def test_what_could_be_added_in_part_is_taken_away_again(tmp_path: Path) -> None:
    assert "what was there before is untouched; raise the limit" in run(
        _FAILING_APPEND, str(tmp_path / "a")
    )


def test_a_link_stays_a_link(target: Path) -> None:
    link = target.with_name("latest")
    link.symlink_to(target.name)
    files.write(link, NEW)
    assert link.is_symlink()
    assert target.read_bytes() == NEW


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "folder that you may write to"),
        (errno.EIO, "another path"),
    ],
)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    call: str, code: int, remedy: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(SaveError) as caught:
            files.write(target, NEW)
    for words in (str(target), str(target.with_name(".model.bin.tmp")), os.strerror(code), remedy):
        assert words in str(caught.value)
    assert target.read_bytes() == OLD
    assert os.listdir(target.parent) == [target.name]


def test_an_interrupt_leaves_the_old_file_and_nothing_else(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write(target, NEW)
    assert target.read_bytes() == OLD
    assert os.listdir(target.parent) == [target.name]


def test_an_unsynced_folder_is_said(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def fail_for_folders(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, "broken")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with pytest.raises(SaveError, match="may not outlive a power cut"):
        files.write(target, NEW)
    assert target.read_bytes() == NEW


_FAILING_SAVE = """
import os, resource, sys
from gpubp import files
from gpubp.errors import SaveError
path = sys.argv[1]
files.write(path, b"old")
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    files.write(path, bytes(1 << 20))
except SaveError as error:
    print(error)
assert open(path, "rb").read() == b"old"
assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    assert "ulimit -f" in run(_FAILING_SAVE, str(tmp_path / "a"), "limit")


def test_a_full_disk(tmp_path: Path) -> None:
    mount = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
             'mount -t tmpfs -o size=64k none "$0" && exec "$@"', str(tmp_path))  # fmt: skip
    try:
        subprocess.run([*mount, "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("this system lets nobody mount a small disk of their own")
    assert "free some space" in run(_FAILING_SAVE, str(tmp_path / "a"), prefix=mount)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing/model", "make that folder first"),
        ("model.bin/model", "choose another place"),
        ("folder", "not a file"),
        ("n" * 300, "another path"),
    ],
)
def test_paths_that_cannot_be_written(target: Path, path: str, words: str) -> None:
    (target.parent / "folder").mkdir()
    for attempt in (files.check_writable, lambda p: files.write(p, NEW)):
        with pytest.raises(SaveError, match=words):
            attempt(target.parent / path)
    assert sorted(os.listdir(target.parent)) == ["folder", "model.bin"]


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(SaveError, match="not a file"):
        files.write("/dev/null", NEW)


def test_checking_changes_nothing(target: Path) -> None:
    files.check_writable(target)
    files.check_writable(target.with_name("new"))
    assert target.read_bytes() == OLD
    assert os.listdir(target.parent) == [target.name]


def test_the_leftover_of_a_killed_writer_is_used_up(target: Path) -> None:
    target.with_name(".model.bin.tmp").write_bytes(b"x" * 1000)
    files.write(target, NEW)
    assert target.read_bytes() == NEW
    assert os.listdir(target.parent) == [target.name]


def test_the_temporary_is_not_written_through_a_link(target: Path) -> None:
    victim = target.with_name("victim")
    victim.write_bytes(OLD)
    target.with_name(".model.bin.tmp").symlink_to(victim)
    with pytest.raises(SaveError):
        files.write(target, NEW)
    assert victim.read_bytes() == OLD


def test_writers_of_one_file_take_turns(target: Path) -> None:
    contents = [bytes([letter]) * 300_000 for letter in b"abcd"]
    failures: list[BaseException] = []

    def save(data: bytes) -> None:
        try:
            for _ in range(20):
                files.write(target, data)
                assert target.read_bytes() in contents
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert os.listdir(target.parent) == [target.name]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_will_do(
    target: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", no_locks)
    files.write(target, NEW)
    assert target.read_bytes() == NEW
