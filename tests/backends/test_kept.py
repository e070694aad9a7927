"""Times in a folder: measured once, the same for all processes, replaced if they are damaged."""

import json
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


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": "b"}', '{"a": -1}', "\xff"])
def test_a_damaged_file_is_said_and_replaced(content, tmp_path):
    path = tmp_path / "it.json"
    path.write_text(content, encoding="latin-1")
    with pytest.warns(RuntimeWarning, match="it.json is damaged .* measured again"):
        assert kept.Kept(tmp_path).times("it", lambda: {"a": 1.0}) == {"a": 1.0}
    assert json.loads(path.read_text()) == {"a": 1.0}


def test_without_a_place_nothing_is_chosen_by_times(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.warns(RuntimeWarning, match="can't be kept .* Set GPUBP_CACHE_DIR"):
        assert kept.Kept(file).times("it", lambda: {"a": 1.0}) == {}
