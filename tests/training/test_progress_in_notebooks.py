"""In a notebook progress is one line, which is written anew and does not grow."""

import contextlib
from pathlib import Path

import pytest

from mechmem.sweeps.progress import runs_progress
from mechmem.training import progress
from mechmem.training.progress import counted, reporter

ROOT = Path(__file__).parents[2]
ROW = {"train_clean": 1.0, "train_noisy": None, "train_noisy_true": 0.256, "test": 0.0}


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show, and how often it was written; each output is a list of its texts."""
    outputs = []

    class Handle:
        def __init__(self, text):
            self.texts = [text]
            outputs.append(self.texts)

        def update(self, data, raw):
            self.texts.append(data["text/plain"])

    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, raw, display_id: Handle(data["text/plain"]))
    return outputs


def test_thousands_of_steps_are_one_output_that_is_written_seldom(shown, capsys):
    with reporter("[red] run", 0, 5000, show=True) as report:
        for step in range(1, 5001):
            report.step(step, ROW if step % 100 == 0 else None)
    (texts,) = shown
    assert 2 <= len(texts) < 50, "the browser is not to be flooded"
    assert texts[-1].startswith("[red] run: step 5000/5000, ")
    assert texts[-1].endswith("clean 100% · noisy – · noisy→true 26% · test 0%")
    assert capsys.readouterr() == ("", "")


def test_the_last_accuracies_stay_in_the_line(shown, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0.0)
    with reporter("run", 0, 10, show=True) as report:
        report.step(1, None)
        report.step(2, ROW)
        report.step(3, None)
    assert [text.endswith("test 0%") for text in shown[0]] == [False, True, True]


def test_items_are_counted_in_one_line(shown):
    assert list(counted("abc", "letters", show=True)) == ["a", "b", "c"]
    assert list(counted(iter("abc"), "letters", 3, show=True)) == ["a", "b", "c"]
    assert [texts[-1].startswith("letters: step 3/3, ") for texts in shown] == [True, True]
    assert list(counted("abc", "letters", show=False)) == ["a", "b", "c"] and len(shown) == 2


def test_work_that_fails_leaves_the_line_as_it_was(shown):
    with contextlib.suppress(KeyError), reporter("run", 0, 10, show=True) as report:
        report.step(1, ROW)
        raise KeyError
    assert len(shown) == 1 and "step 1/10" in shown[0][-1]


def test_runs_of_a_recipe_are_counted_in_one_line(shown, monkeypatch, capsys):
    monkeypatch.setattr("mechmem.sweeps.progress.in_notebook", lambda: True)
    runs = {"a": 60.0, "b": 60.0}
    with runs_progress("doshi_2024 at scale smoke", runs, 2, "2 processes", show=True) as report:
        report("a")
        report("b")
    (texts,) = shown
    assert "2 runs to train or measure" in texts[0] and "1/2 runs, about" in texts[1] and "2/2 runs" in texts[2]
    assert capsys.readouterr() == ("", "")


CELLS = (
    "task = mm.ModularConfig(p=7, noise=mm.LabelNoise(0.3))\n"
    "config = mm.TrainConfig(task, mm.MLPConfig(width=12), steps=400, evaluations=200)\n"
    "network = mm.train(config, out=OUT)",
    "card = mm.audit(network, ['raw'], progress=True)",
    "found = mm.over_training(network, 'raw', progress=True)",
    "masked = mm.train(mm.TrainConfig(task, mm.MLPConfig(width=64, masks=mm.TurnOver()), steps=20), progress=False)\n"
    "effects = mm.influence(masked, progress=True)",
)


@pytest.mark.slow
def test_cells_of_a_notebook_hold_one_line_for_each_work(tmp_path):
    import nbclient
    import nbformat

    # What other libraries say while they are loaded stays in a cell of its own.
    start = f"import mechmem as mm, transformer_lens\nOUT = {str(tmp_path / 'run')!r}"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (start, *CELLS)])
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    cells = notebook.cells[1:]
    outputs = [[each.output_type for each in cell.outputs] for cell in cells]
    assert outputs == [["display_data"]] * len(CELLS), [cell.outputs for cell in cells]
    lines = [cell.outputs[0].data["text/plain"] for cell in cells]
    assert "step 400/400" in lines[0] and "noise-only twin: step 400/400" in lines[1] and "checkpoints" in lines[2]
    assert all("\n" not in line and "\r" not in line for line in lines)
