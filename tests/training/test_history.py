"""A history that lost, changed, repeated or moved evaluations is noticed, and trained again; never left with a gap."""

import json
import os
import shutil

import pytest
from interrupted import contents, stop_at

import mechmem as mm
from mechmem.errors import RestartWarning, RunDirectoryError
from mechmem.training.history import BITS, LINES
from mechmem.training.recorder import Recorder

CONFIG = mm.TrainConfig(
    task=mm.ModularConfig(p=5, train_fraction=0.7, noise=mm.LabelNoise(0.3)),
    model=mm.MLPConfig(width=8),
    steps=40,
    evaluations=8,
    checkpoints=4,
)
# Scheduled: evaluations at 0, 1, 2, 3, 5, 8, 14, 24, 40; checkpoints at 0, 1, 3, 12, 40.


class Killed(BaseException):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of the uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    mm.train(CONFIG, out=out, progress=False)
    return contents(out)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The run, killed after its evaluation at step 24."""
    out = tmp_path_factory.mktemp("killed") / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, Recorder, "evaluate", 8, Killed(), before=False)
        mm.train(CONFIG, out=out, progress=False)
    return out


@pytest.fixture
def run(killed, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(killed, tmp_path / "run")


def lines(change):
    """Change the lines of the history, and its packed predictions likewise."""

    def harm(run):
        text, packed = (run / LINES).read_bytes().splitlines(True), (run / BITS).read_bytes()
        width = len(packed) // len(text)
        both = [(line, packed[width * row : width * (row + 1)]) for row, line in enumerate(text)]
        (run / LINES).write_bytes(b"".join(line for line, _ in change(both)))
        (run / BITS).write_bytes(b"".join(bits for _, bits in change(both)))

    return harm


def edited(run):
    rows = [json.loads(line) for line in (run / LINES).read_text().splitlines()]
    rows[3]["test"] = 0.5
    (run / LINES).write_text("".join(json.dumps(row) + "\n" for row in rows))


def flipped(run):
    packed = bytearray((run / BITS).read_bytes())
    packed[9] ^= 4
    (run / BITS).write_bytes(bytes(packed))


LOST = {
    "all lines": lines(lambda each: []),
    "a line in the middle": lines(lambda each: each[:2] + each[3:]),
    "the last four lines": lines(lambda each: each[:-4]),
    "a repeated line": lines(lambda each: [*each[:2], each[1], *each[2:]]),
    "two lines in the wrong order": lines(lambda each: [each[0], each[2], each[1], *each[3:]]),
    "an edited line": edited,
    "a flipped prediction": flipped,
    "lost predictions": lambda run: (run / BITS).write_bytes((run / BITS).read_bytes()[:11]),
    "text in the middle": lambda run: (run / LINES).write_text("x\n" + (run / LINES).read_text()),
    "no lines' file": lambda run: (run / LINES).unlink(),
    "no predictions' file": lambda run: (run / BITS).unlink(),
    "a line without end": lambda run: (run / LINES).write_bytes(b"[" * 100_000),
}


@pytest.mark.parametrize("how", LOST)
def test_lost_evaluations_are_made_again(how, run, whole):
    LOST[how](run)
    with pytest.raises(RunDirectoryError, match="mm.train with the same config and directory"):
        mm.load(run)
    with pytest.warns(RestartWarning, match="trained again from step"):
        mm.train(CONFIG, out=run, progress=False)
    assert contents(run) == whole


@pytest.mark.parametrize("how", LOST)
def test_so_they_are_in_a_finished_run(how, whole, tmp_path):
    run = tmp_path / "run"
    for name, data in whole.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(data)
    LOST[how](run)
    with pytest.raises(RunDirectoryError, match="history|lost evaluations"):
        mm.load(run)
    with pytest.warns(RestartWarning):
        mm.train(CONFIG, out=run, progress=False)
    assert contents(run) == whole


def test_a_history_that_stands_there_twice_is_cut_off(run, whole):
    """As two processes used to leave it; nothing is lost, and nothing trained twice."""
    lines(lambda each: each + each)(run)
    with pytest.raises(RunDirectoryError, match="line 9 is of step 0, after step 24"):
        mm.load(run)
    mm.train(CONFIG, out=run, progress=False)
    assert contents(run) == whole


def test_training_again_is_resumed_where_it_was_killed(run, whole, monkeypatch):
    LOST["a line in the middle"](run)
    with monkeypatch.context() as patch, pytest.raises(Killed), pytest.warns(RestartWarning, match="from step 0"):
        stop_at(patch, Recorder, "evaluate", 5, Killed())
        mm.train(CONFIG, out=run, progress=False)
    with pytest.warns(RestartWarning, match="from step 3"):
        mm.train(CONFIG, out=run, progress=False)
    assert contents(run) == whole


TORN = {
    "half a line": lambda run: (run / LINES).write_bytes((run / LINES).read_bytes()[:-30]),
    "no end of the line": lambda run: (run / LINES).write_bytes((run / LINES).read_bytes()[:-1]),
    "predictions without a line": lambda run: (run / BITS).write_bytes((run / BITS).read_bytes() + b"\x00\xff"),
    "the last line and its predictions": lines(lambda each: each[:-1]),
}


@pytest.mark.parametrize("how", TORN)
def test_what_a_kill_cuts_off_is_trimmed_without_a_word(how, run, whole):
    before = mm.load(run).run.rows()
    TORN[how](run)
    rows = mm.load(run).run.rows()
    assert rows in (before, before[:-1])
    assert len(mm.load(run).run.correctness()[0]) == len(rows)
    mm.train(CONFIG, out=run, progress=False)
    assert contents(run) == whole


def test_rows_are_plain_figures(run):
    assert {type(value) for row in mm.load(run).run.rows() for value in row.values()} <= {int, float}


def test_a_history_of_another_run_is_noticed(run, tmp_path):
    import dataclasses

    other = tmp_path / "other"
    mm.train(dataclasses.replace(CONFIG, seed=1), out=other, progress=False)
    for name in (LINES, BITS):
        shutil.copy(other / name, run / name)
    with pytest.raises(RunDirectoryError, match="line 1 was changed"):
        mm.load(run)


@pytest.mark.parametrize("name", [LINES, BITS])
def test_a_pipe_is_not_waited_for(name, run):
    (run / name).unlink()
    os.mkfifo(run / name)
    for use in (mm.load, lambda path: mm.train(CONFIG, out=path, progress=False)):
        with pytest.raises(RunDirectoryError, match="not a regular file"):
            use(run)


def test_a_loop_that_goes_on_after_an_error_keeps_a_whole_history(tmp_path, monkeypatch):
    task = mm.ModularTask(CONFIG.task)
    model = mm.train(CONFIG, progress=False).model
    recorder = mm.Recorder(model, task, steps=3, out=tmp_path / "run", evaluations=[0, 1, 2, 3], checkpoints=[3])
    recorder(0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, mm.training.recorder, "append", 1, KeyboardInterrupt(), before=False)
        recorder(1)
    recorder(2)
    recorder(3)
    assert mm.load(tmp_path / "run", model=model, task=task).run.history()["step"].tolist() == [0, 2, 3]
    text = (tmp_path / "run" / LINES).read_bytes().splitlines(True)
    (tmp_path / "run" / LINES).write_bytes(b"".join(text[:-1]))
    with pytest.raises(RunDirectoryError, match="has lost evaluations$"):
        mm.load(tmp_path / "run", model=model, task=task)
