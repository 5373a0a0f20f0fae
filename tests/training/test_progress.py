import errno
import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from mechmem.training import progress
from mechmem.training.progress import Bar, Lines, Silent, accuracies_line, reporter

ROW = {"train_clean": 1.0, "train_noisy": None, "train_noisy_true": 0.256, "test": 0.0}


def test_accuracies_in_a_line():
    assert accuracies_line(ROW) == "clean 100% · noisy – · noisy→true 26% · test 0%"


def test_lines_come_every_tenth_of_the_way_and_at_the_end():
    out = io.StringIO()
    lines = Lines(Console(file=out, width=200), "run", 0, 100)
    for step in range(101):
        lines.step(step, ROW if step % 2 == 0 else None)
    printed = out.getvalue().splitlines()
    assert [line.split()[2] for line in printed] == [f"{step}/100," for step in range(0, 101, 10)]
    assert all(line.endswith("test 0%") and "\x1b" not in line for line in printed)


def test_a_resumed_run_starts_where_it_stopped():
    out = io.StringIO()
    lines = Lines(Console(file=out, width=200), "run", 90, 100)
    for step in range(91, 101):
        lines.step(step, ROW)
    assert [line.split()[2] for line in out.getvalue().splitlines()] == ["91/100,", "100/100,"]


def test_a_bar_shows_the_step_and_the_accuracies():
    bar_progress = Progress(TextColumn("{task.fields[split]}"), console=Console(file=io.StringIO()))
    bar = Bar(bar_progress, "run", 5, 10)
    bar.step(7, ROW)
    bar.step(8, None)
    (task,) = bar_progress.tasks
    assert (task.completed, task.total, task.fields["split"]) == (8, 10, accuracies_line(ROW))
    assert task.fields["rate"].endswith("steps/s")


@pytest.mark.parametrize("terminal, kind", [(True, Bar), (False, Lines)])
def test_the_reporter_fits_the_terminal_and_ends_with_the_block(terminal, kind, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress, "ProgressConsole", lambda: Console(file=out, force_terminal=terminal))
    with pytest.raises(KeyError), reporter("run", 0, 10, show=True) as report:
        assert isinstance(report, kind)
        report.step(1, ROW)
        raise KeyError
    with reporter("run", 0, 10, show=False) as report:
        assert isinstance(report, Silent)
        report.step(1, ROW)


def test_quiet_means_quiet(capfd):
    import mechmem as mm

    config = mm.TrainConfig(task=mm.ModularConfig(p=3), model=mm.MLPConfig(width=2), steps=2)
    mm.train(config, progress=False)
    assert capfd.readouterr() == ("", "")
    mm.train(config, progress=True, title="aloud")
    out, err = capfd.readouterr()
    assert out == "" and "aloud: step 2/2" in err


def test_progress_that_cannot_be_written_does_not_end_the_work(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stderr", Full())
    with reporter("run", 0, 10, show=True) as report:
        report.step(1, ROW)
        report.step(10, ROW)


def test_a_title_is_no_markup(capsys):
    with reporter("[red] run [/]", 0, 10, show=True) as report:
        report.step(10, ROW)
    assert "[red] run [/]: step 10/10" in capsys.readouterr().err
