"""The cache folder: whose it may be, and machine code that is right or compiled anew."""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gpubp.errors import InputError
from gpubp.kernels.numba import compiled, place

SOURCE = (
    "from numba import cfunc\n@cfunc('void(CPointer(int64))')\n"
    "def entry(words):\n    words[0] = {}\n"
)
SOMEBODY = 4242

# Damage to the file of a kernel, one kind after the other. Of each: whether the kernel was compiled
# anew, the reason that was said, the result; and the same of the next load, which finds it healed.
HEAL = """
import json, os, warnings
import numpy as np
from gpubp.kernels.numba import compiled

source = {source!r}

def load(source=source):
    compiled._addresses.clear()
    compiled.made_here.clear()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        address = compiled.compile_entry("it", source)
    words = np.zeros(1, np.int64)
    compiled.c_function(address)(words.ctypes.data)
    return len(compiled.made_here), [str(w.message) for w in said], int(words[0])

found = {{"cold": load(), "warm": load()}}
path = compiled.folder() / "it.code"
good = path.read_bytes()

def damage(name, content, source=source):
    path.unlink()
    if callable(content):
        content()
    else:
        path.write_bytes(content)
    found[name] = load(source), load(source)

damage("empty", b"")
damage("cut", good[:-1])
damage("longer", good + b"x")
damage("zeros", bytes(len(good)))
for place in (0, 40, len(good) // 2, len(good) - 1):
    damage(f"flip {{place}}", good[:place] + bytes([good[place] ^ 1]) + good[place + 1:])
damage("link", lambda: path.symlink_to(os.devnull))
damage("pipe", lambda: os.mkfifo(path, 0o600))
damage("open", lambda: (path.write_bytes(good), path.chmod(0o666)))
damage("other", good, source.replace("7", "8"))
print(json.dumps(found))
"""


def run(code: str, cache: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], text=True, timeout=300, check=False, capture_output=True,
        env={**os.environ, "GPUBP_CACHE_DIR": str(cache)}, **options,
    )  # fmt: skip


def test_a_file_that_is_damaged_is_compiled_anew(tmp_path):
    done = run(HEAL.format(source=SOURCE.format(7)), tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("cold") == [1, [], 7]
    assert found.pop("warm") == [0, [], 7]
    reasons = {
        "link": "Too many levels", "pipe": "the user's alone|not what its digest says",
        "open": "the user's alone", "other": "from another source",
    }  # fmt: skip
    assert len(found) == 12
    for name, ((made, said, result), again) in found.items():
        right = 8 if name == "other" else 7
        reason = reasons.get(name, "not what its digest says")
        assert (made, result) == (1, right), name
        assert len(said) == 1, (name, said)
        assert re.search(f"it.code is of no use .*{reason}.*; it is compiled anew", said[0]), said
        assert again == [0, [], right], name
    assert not list(tmp_path.rglob("*.tmp"))


# A function that is not here would be jumped to, wherever that is.
STRANGER = r"""
from llvmlite import binding
from gpubp.kernels.numba import compiled, objects

compiled._engine()  # LLVM is ready after that
target = binding.Target.from_triple(binding.get_process_triple())
def object_file(text):
    return target.create_target_machine().emit_object(binding.parse_assembly(text))
for text, symbol in [
    ("declare void @gone()\ndefine void @f() {\n call void @gone()\n ret void\n}", "f"),
    ("define void @f() {\n ret void\n}", "g"),
]:
    try:
        compiled._link(objects.Code(symbol, object_file(text)))
    except objects.Damaged as error:
        print(error)
"""


def test_code_that_cannot_be_linked_is_not_called(tmp_path):
    done = run(STRANGER, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["there is no gone here", "there is no g in it"]


RACE = """
import numpy as np
from gpubp.kernels.numba import compiled, eager
x, y = np.arange(3.0), np.ones(3)
eager.run("add", [x, y])
dz, db = np.arange(6.0).reshape(3, 2), np.zeros(2)
eager.run("bias_grad", [dz, db])
print(*y, *db, len(compiled.made_here))
"""


def test_processes_that_compile_the_same_at_once(tmp_path):
    command = [sys.executable, "-W", "error", "-c", RACE]
    env = {**os.environ, "GPUBP_CACHE_DIR": str(tmp_path / "cache")}
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, env=env) for _ in range(3)]
    for process in started:
        assert process.communicate()[0].startswith(b"1.0 2.0 3.0 6.0 9.0 ")
    assert subprocess.run(command, capture_output=True, env=env, check=True).stdout == (
        b"1.0 2.0 3.0 6.0 9.0 0\n"
    )
    assert not list(tmp_path.rglob("*.tmp"))


class TestNotWritable:
    """What was kept is used; what was not is compiled in memory, which is said once."""

    @pytest.fixture(autouse=True)
    def _new(self, monkeypatch, tmp_path):
        monkeypatch.setattr(compiled, "folder", lambda: tmp_path)
        monkeypatch.setattr(compiled, "_addresses", {})
        monkeypatch.setattr(compiled, "made_here", [])
        monkeypatch.setattr(compiled, "_said_not_kept", [])
        compiled.compile_entry("kept", SOURCE.format(5))
        compiled._addresses.clear()

    @pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
    def test_it(self, number, monkeypatch, tmp_path):
        def refuse(*args, **kwargs):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("tempfile.mkstemp", refuse)
        assert result("kept", SOURCE.format(5)) == 5
        with pytest.warns(RuntimeWarning, match="can't be kept .*Set GPUBP_CACHE_DIR") as caught:
            found = [result("new", SOURCE.format(6)), result("newer", SOURCE.format(7))]
        assert found == [6, 7]
        assert len(caught) == 1
        assert compiled.made_here == ["kept", "new", "newer"]

    def test_the_disk_is_full_in_the_middle(self, monkeypatch, tmp_path):
        def refuse(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.fsync", refuse)
        with pytest.warns(RuntimeWarning, match="No space left"):
            assert result("new", SOURCE.format(6)) == 6
        assert [path.name for path in tmp_path.iterdir()] == ["kept.code"]


def result(name, source):
    words = np.zeros(1, np.int64)
    compiled.c_function(compiled.compile_entry(name, source))(words.ctypes.data)
    return words[0]


class TestCtrlC:
    """While this process compiles or loads a kernel, Ctrl-C waits for it and is not lost."""

    @pytest.fixture(autouse=True)
    def _new(self, monkeypatch, tmp_path):
        monkeypatch.setattr(compiled, "folder", lambda: tmp_path)
        monkeypatch.setattr(compiled, "_addresses", {})

    @staticmethod
    def press(monkeypatch, where):
        """Press Ctrl-C where no exception can leave, as in what LLVM calls back."""
        real = getattr(*where)

        def pressed(*args):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                pytest.fail("it would have been lost")
            return real(*args)

        monkeypatch.setattr(*where, pressed)
        with pytest.raises(KeyboardInterrupt):
            compiled.compile_entry("it", SOURCE.format(5))
        monkeypatch.setattr(*where, lambda *_: pytest.fail("it is done again"))
        assert result("it", SOURCE.format(5)) == 5

    def test_while_it_is_compiled(self, monkeypatch, tmp_path):
        self.press(monkeypatch, (compiled, "_make"))
        assert [path.name for path in tmp_path.iterdir()] == ["it.code"]

    def test_while_it_is_loaded(self, monkeypatch):
        compiled.compile_entry("it", SOURCE.format(5))
        compiled._addresses.clear()
        self.press(monkeypatch, (compiled, "_link"))


class TestPlace:
    @pytest.fixture(autouse=True)
    def _cache(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GPUBP_CACHE_DIR", str(tmp_path / "above" / "cache"))

    def test_it_is_made_for_the_user_alone(self, tmp_path):
        umask = os.umask(0)
        try:
            made = compiled.folder.__wrapped__()
        finally:
            os.umask(umask)
        assert made.parent == tmp_path / "above" / "cache"
        for folder in (made, made.parent, made.parent.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert compiled.folder.__wrapped__() == made  # it may be used again

    def test_those_of_other_versions_go_when_nobody_has_used_them_for_long(self):
        folder = compiled.folder.__wrapped__()
        names = ["numba-0123456789abcdef", "numba-fedcba9876543210", "numba-notes", folder.name]
        for name, days in zip(names, (29, 31, 31, 31), strict=True):
            place.make(folder.with_name(name) / "measured")
            used = time.time() - 86_400 * days
            os.utime(folder.with_name(name), (used, used))
        assert compiled.folder.__wrapped__() == folder
        assert {path.name for path in folder.parent.iterdir()} == {*names} - {names[1]}
        assert folder.stat().st_mtime > time.time() - 86_400  # it is in use now

    @pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
    def test_one_that_others_can_write_is_refused(self, mode, tmp_path):
        cache = compiled.folder.__wrapped__().parent
        cache.chmod(mode)
        match = f"{cache} can be written by others .mode {mode:04o}.*'chmod go-w {cache}'"
        with pytest.raises(InputError, match=match):
            compiled.folder.__wrapped__()

    def test_the_folder_within_is_looked_at_too(self):
        made = compiled.folder.__wrapped__()
        made.chmod(0o777)
        with pytest.raises(InputError, match="can be written by others"):
            compiled.folder.__wrapped__()

    @pytest.mark.parametrize(("mode", "fine"), [(0o777, False), (0o1777, True), (0o755, True)])
    def test_so_is_what_is_above_it(self, mode, fine):
        """Who can write there can put another folder in the place of this, unless it is sticky."""
        above = compiled.folder.__wrapped__().parent.parent
        above.chmod(mode)
        if fine:
            compiled.folder.__wrapped__()
        else:
            with pytest.raises(InputError, match=f"is not used: {above} can be written by others"):
                compiled.folder.__wrapped__()

    @pytest.mark.parametrize("level", [0, 1, 2])
    def test_one_of_another_user_is_refused(self, level, monkeypatch, tmp_path):
        folder = compiled.folder.__wrapped__()
        which = [folder, *folder.parents][level]
        real = Path.lstat

        def lstat(path):
            found = real(path)
            if path == which:
                found = os.stat_result((*found[:4], SOMEBODY, *found[5:]))
            return found

        monkeypatch.setattr(Path, "lstat", lstat)
        with pytest.raises(InputError, match=f"{which} belongs to user {SOMEBODY}"):
            compiled.folder.__wrapped__()

    def test_one_of_root_is_fine(self, monkeypatch, tmp_path):
        """As in the image of a container, where it was made when the image was."""
        folder = compiled.folder.__wrapped__()
        real = Path.lstat
        monkeypatch.setattr(
            Path, "lstat", lambda path: os.stat_result((*real(path)[:4], 0, *real(path)[5:]))
        )
        monkeypatch.setattr("os.geteuid", lambda: SOMEBODY)
        assert compiled.folder.__wrapped__() == folder

    def test_links_are_followed_first(self, tmp_path):
        compiled.folder.__wrapped__()
        cache = tmp_path / "above" / "cache"
        cache.rename(tmp_path / "elsewhere")
        cache.symlink_to(tmp_path / "elsewhere")
        assert compiled.folder.__wrapped__().parent == tmp_path / "elsewhere"
        (tmp_path / "elsewhere").chmod(0o777)
        with pytest.raises(InputError, match=r"elsewhere can be written by others"):
            compiled.folder.__wrapped__()

    @pytest.mark.parametrize("value", ["", "  "])
    def test_an_empty_variable_is_refused(self, value, monkeypatch):
        monkeypatch.setenv("GPUBP_CACHE_DIR", value)
        with pytest.raises(InputError, match="GPUBP_CACHE_DIR is empty; set it to a folder, or"):
            compiled.folder.__wrapped__()

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({"GPUBP_CACHE_DIR": "mine", "XDG_CACHE_HOME": "theirs"}, "mine"),
            ({"XDG_CACHE_HOME": "theirs"}, "theirs/gpubp"),
            ({"HOME": "home"}, "home/.cache/gpubp"),
        ],
    )
    def test_where_it_is(self, variables, expected, monkeypatch, tmp_path):
        for name in ("GPUBP_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(tmp_path / value))
        found = compiled.folder.__wrapped__()
        assert found.parent == tmp_path / expected
        assert found.name.startswith("numba-")

    def test_where_there_can_be_none_code_is_in_memory(self, monkeypatch, tmp_path):
        (tmp_path / "above").touch()
        monkeypatch.setattr(compiled, "_said_not_kept", [])
        with pytest.warns(RuntimeWarning, match="compiled again .* Set GPUBP_CACHE_DIR"):
            found = compiled.folder.__wrapped__()
        assert not found.exists()

    def test_there_is_no_home(self, monkeypatch):
        def homeless():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("GPUBP_CACHE_DIR")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
        monkeypatch.setattr(compiled, "_said_not_kept", [])
        with pytest.warns(RuntimeWarning, match="can't be kept .no home folder"):
            found = compiled.folder.__wrapped__()
        monkeypatch.setattr(compiled, "folder", lambda: found)
        assert not compiled.lasts()
        assert result("homeless", SOURCE.format(3)) == 3


@pytest.mark.parametrize(
    ("name", "members", "private"),
    [("me", [], True), ("me", ["me"], True), ("me", ["she"], False), ("staff", [], False)],
)
def test_a_group_that_is_the_users_alone(name, members, private, monkeypatch):
    """Where the usual umask is 002, every folder of a user can be written by it."""
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(("me", "", 7, 7, "", "", "")))
    monkeypatch.setattr(grp, "getgrgid", lambda g: grp.struct_group((name, "", g, members)))
    assert place._private(7) is private
    assert place._private(8) is False
