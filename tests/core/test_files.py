"""Files are whole or not there, one process writes to a directory, and nothing that is read is waited for."""

import contextlib
import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mechmem.core import files, locks
from mechmem.errors import RunDirectoryError, TrainingFailedError
from mechmem.pages.report import check_output
from mechmem.training.header import strangers


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.whole_file(path) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_json_refuses_what_is_not_json(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "x.json", {"x": math.nan})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"a": 1'])
def test_damaged_json(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RunDirectoryError, match="cannot read .*x.json"):
        files.read_json(tmp_path / "x.json")


@contextlib.contextmanager
def elsewhere(inside, path):
    """Hold a file or directory in another process, which is killed at the end."""
    code = f"import sys, time, pathlib; from mechmem.core import files\npath = pathlib.Path(sys.argv[1])\n{inside}"
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_one_process_at_a_time_and_none_after_a_kill(tmp_path):
    folder = tmp_path / "new" / "run"

    hold = "with files.alone(path): print('held', flush=True), time.sleep(60)"
    with elsewhere(hold, folder), pytest.raises(RunDirectoryError, match="is being written by another process"):
        with files.alone(folder):
            pytest.fail("two at once")
    with files.alone(folder):
        with pytest.raises(RunDirectoryError, match="another process"), files.alone(folder):
            pytest.fail("nor two at once in one process")
    assert not list(folder.iterdir())


def test_where_a_directory_cannot_be_locked_a_file_in_it_is(tmp_path, monkeypatch):
    lock = locks.fcntl.flock

    def on_a_network(file, how):
        if os.path.isdir(f"/proc/self/fd/{file}"):
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(file, how)

    monkeypatch.setattr(locks.fcntl, "flock", on_a_network)
    with files.alone(tmp_path):
        assert os.listdir(tmp_path) == [files.LOCK]
        with pytest.raises(RunDirectoryError, match="another process"), files.alone(tmp_path):
            pytest.fail("two at once")


def test_what_is_no_directory_is_not_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("file", "something else"), ("nowhere", "something else"), ("pipe", "something else")):
        with pytest.raises(RunDirectoryError, match=message), files.alone(tmp_path / name):
            pytest.fail("entered")
    with pytest.raises(RunDirectoryError, match="cannot write"), files.alone(tmp_path / "file" / "run"):
        pytest.fail("entered")


def test_what_a_killed_process_leaves_is_swept_and_what_another_writes_is_not(tmp_path):
    path = tmp_path / "x[1].json"

    write = "with files.whole_file(path) as new: new.write_text('half'), print('held', flush=True), time.sleep(60)"
    with elsewhere(write, path):
        files.sweep(tmp_path, "*.json")
        assert len(files.left_over(tmp_path, "x*")) == 1
    (tmp_path / ".notes.txt").write_text("mine")
    (tmp_path / ".other.txt.0123abcd").write_text("somebody's")
    files.sweep(tmp_path, "y.json")
    assert len(os.listdir(tmp_path)) == 3
    files.write_text(path, "whole")
    assert sorted(os.listdir(tmp_path)) == [".notes.txt", ".other.txt.0123abcd", "x[1].json"]


def test_what_is_no_file_or_too_large_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10**12)
    for name in ("pipe", "folder", "device"):
        with pytest.raises(RunDirectoryError, match="not a regular file"):
            files.read_json(tmp_path / name)
    with pytest.raises(RunDirectoryError, match="more than the 67108864 allowed"):
        files.read_json(tmp_path / "large")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000])
def test_json_without_end_is_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RunDirectoryError, match="cannot read"):
        files.read_json(tmp_path / "x.json")


def test_a_changed_value_does_not_match_the_hash(tmp_path):
    path = tmp_path / "x.json"
    files.write_hashed(path, {"a": 1.5, "b": [None, "text"]})
    values = files.read_object(path)
    assert files.without_hash(path, values) == ({"a": 1.5, "b": [None, "text"]}, True)
    assert files.without_hash(path, {"a": 1}) == ({"a": 1}, False)
    for other in ({**values, "a": 1.25}, {**values, "c": 0}, {**values, "hash": None}):
        with pytest.raises(RunDirectoryError, match="does not match its hash"):
            files.without_hash(path, other)
    path.write_text(json.dumps([values]))
    with pytest.raises(RunDirectoryError, match="not a JSON object"):
        files.read_object(path)


def test_a_full_disk_fails_a_run_and_a_read_only_one_refuses_it(tmp_path):
    full, forbidden = OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only file system")
    assert isinstance(files.cannot_write(tmp_path, full), TrainingFailedError)
    assert isinstance(files.cannot_write(tmp_path, forbidden), RunDirectoryError)


def test_a_temporary_file_that_is_renamed_while_a_directory_is_listed_is_no_stranger(tmp_path, monkeypatch):
    # A second process that starts on the same directory sees what the first is writing.
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / ".config.json.0123abcd", folder / "thesis.tex"]))
    assert strangers(tmp_path) == ["thesis.tex"]
    check_output(tmp_path, {"config.json", "thesis.tex"})
    with pytest.raises(RunDirectoryError, match="thesis.tex"):
        check_output(tmp_path, {"config.json"})
