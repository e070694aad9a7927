"""Times in a folder: measured once, the same for all processes, replaced if they are damaged."""

import json
import os
import subprocess
import sys

import pytest

from gpubp.backends import kept


def test_what_was_measured_is_not_measured_again(tmp_path):
    times = kept.Kept(tmp_path / "folder").times("it", lambda: {"a": 1.5, "b": 0.1 + 0.2})
    again = kept.Kept(tmp_path / "folder").times("it", lambda: pytest.fail("measured again"))
    assert again == times == {"a": 1.5, "b": 0.1 + 0.2}


def test_who_was_first_counts(tmp_path):
    folder = kept.Kept(tmp_path)

    def measure():
        kept.Kept(tmp_path).times("it", lambda: {"a": 1.0})  # another process, meanwhile
        return {"a": 2.0}

    assert folder.times("it", measure) == {"a": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["it.json"]


def test_processes_at_the_same_time_agree(tmp_path):
    code = (
        "import os, time; from pathlib import Path; from gpubp.backends.kept import Kept\n"
        f"folder = Kept(Path({str(tmp_path)!r}))\n"
        "measure = lambda: time.sleep(0.3) or {'a': float(os.getpid())}\n"
        "print([folder.times(str(i), measure) for i in range(3)])"
    )
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1


GOOD = json.dumps({"seconds": {"a": 1.5}, "digest": kept._digest({"a": 1.5})})


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[1]", '{"a": 1.5}', '{"seconds": 3, "digest": ""}', "\xff", GOOD[:-9],
        GOOD.replace("1.5", "1.4"),
        json.dumps({"seconds": {"a": -1.0}, "digest": kept._digest({"a": -1.0})}),
    ],
)  # fmt: skip
def test_a_damaged_file_is_said_and_replaced(content, tmp_path):
    path = tmp_path / "it.json"
    path.write_text(content, encoding="latin-1")
    with pytest.warns(RuntimeWarning, match="it.json is damaged .* measured again"):
        assert kept.Kept(tmp_path).times("it", lambda: {"a": 1.0}) == {"a": 1.0}
    assert json.loads(path.read_text())["seconds"] == {"a": 1.0}


def test_what_could_not_be_measured_is_measured_the_next_time(tmp_path):
    assert kept.Kept(tmp_path).times("it", dict) == {}
    assert kept.Kept(tmp_path).times("it", lambda: {"a": 1.0}) == {"a": 1.0}


def test_of_too_many_files_those_go_that_were_not_read_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "MOST_FILES", 6)
    folder = kept.Kept(tmp_path)
    for number in range(6):
        folder.times(f"it{number}", lambda: {"a": 1.0})
        os.utime(tmp_path / f"it{number}.json", (number, number))
    (tmp_path / "half.tmp").touch()  # of a process that was killed
    os.utime(tmp_path / "half.tmp", (3, 3))
    folder.times("it0", lambda: pytest.fail("measured again"))
    folder.times("new", lambda: {"a": 1.0})
    assert {path.stem for path in tmp_path.iterdir()} == {"it4", "it5", "it0", "new"}


def test_a_folder_that_cannot_be_written_is_read_and_nothing_is_measured(tmp_path, monkeypatch):
    folder = kept.Kept(tmp_path)
    folder.times("it", lambda: {"a": 1.0})
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert folder.times("it", lambda: pytest.fail("measured")) == {"a": 1.0}
    with pytest.warns(RuntimeWarning, match="can't be kept .* so nothing new is chosen"):
        assert folder.times("other", lambda: pytest.fail("measured")) == {}
    assert folder.times("another", lambda: pytest.fail("measured")) == {}  # it was said


def test_without_a_place_nothing_is_chosen_by_times(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.warns(RuntimeWarning, match="can't be kept .* Set GPUBP_CACHE_DIR"):
        assert kept.Kept(file).times("it", lambda: {"a": 1.0}) == {}
