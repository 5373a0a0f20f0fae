"""A recipe from end to end: runs kept, re-opened, judged as they finish; what is refused."""

import dataclasses
import json

import pytest

import mechmem as mm
from mechmem.core import files
from mechmem.errors import ConfigError, RunDirectoryError, TrainingFailedError, UncheckedWarning, UnknownNameError
from mechmem.recipes.claims import SCALES
from mechmem.recipes.trials import OfClaim, measurements, recipe, recipes
from mechmem.sweeps.cost import expected_seconds
from mechmem.sweeps.jobs import Job, Place, work
from mechmem.sweeps.progress import runs_progress

RECIPES = sorted(recipes())
LONG = ("doshi_2024", "ketha_2025", "liu_lu_2026")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in RECIPES])
def test_recipes_are_whole(name):
    found = recipes()[name]
    keys = [claim.key for claim in found.claims]
    assert len(set(keys)) == len(keys) and found.title and found.source and found.caveats
    for claim in found.claims:
        assert claim.statement.endswith(".")
        if claim.pending:
            continue
        assert claim.conditions and claim.measure is not None and claim.experiment
        for scale in SCALES:
            trials = claim.trials(scale)
            arms = {trial.arm for trial in trials}
            seeds = {arm: sorted(t.config.seed for t in trials if t.arm == arm) for arm in arms}
            # A run of an arm differs from its others in the seed alone, of task and of network.
            assert scale == "smoke" or len({trial.config.digest for trial in trials}) == len(trials)
            for arm in arms:
                plain = {
                    dataclasses.replace(t.config, seed=0, task=dataclasses.replace(t.config.task, seed=0))
                    for t in trials
                    if t.arm == arm
                }
                assert len(plain) == 1
            if scale != "smoke":
                assert all(len(found) >= 3 for found in seeds.values())
            wanted = {
                part.arm
                for condition in (*claim.premises, *claim.conditions)
                for part in ([condition.of] if hasattr(condition.of, "arm") else [condition.of.more, condition.of.less])
            }
            assert wanted <= arms, f"{claim.key} judges arms that {scale} does not run: {wanted - arms}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One claim of a recipe, trained and measured in this process."""
    out = tmp_path_factory.mktemp("reproduction")
    for trial in recipe("doshi_2024").claim("coexistence").trials("smoke"):
        wanted = tuple(OfClaim("doshi_2024", key) for key in ("coexistence", "prune_low"))
        assert work(Job(trial.config, wanted), Place(out)).state == "done"
    return out


def test_what_stands_is_reopened_and_not_trained_again(folder):
    runs = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/checkpoints/*")}
    told = []
    ledger = mm.reproduce(
        "doshi_2024", scale="smoke", out=folder, claims=["prune_low", "coexistence"], progress=False, tell=told.append
    )
    assert [entry.key for entry in ledger.entries] == ["coexistence", "prune_low"] == [entry.key for entry in told]
    assert {entry.verdict for entry in ledger.entries} == {"not judged"}
    assert runs == {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/checkpoints/*")}
    assert mm.Ledger.load(folder / "ledger.safetensors") == ledger
    assert json.loads((folder / "ledger.json").read_text())["recipe"] == "doshi_2024"
    page = (folder / "ledger.html").read_text(encoding="utf-8")
    assert page.count('class="mechmem-plot"') == 2 and "not judged" in page
    (run,) = {run for entry in ledger.entries for run in entry.runs}
    assert mm.load(folder / "runs" / run).task.symbols == 11
    claim = recipe("doshi_2024").claim("prune_low")
    frame = measurements(claim, claim.runs("smoke"), folder)
    assert {"lowest first: test", "highest first: train noisy", "random: test"} <= set(frame["quantity"])


@pytest.mark.slow
def test_workers_train_and_a_second_call_opens_what_they_made(tmp_path):
    first = mm.reproduce("liu_lu_2026", scale="smoke", out=tmp_path / "r", claims=["hidden"], progress=False)
    assert first.entries[0].findings[-1].estimate is not None
    second = mm.reproduce("liu_lu_2026", scale="smoke", out=tmp_path / "r", claims=["hidden"], progress=False)
    assert second.entries == first.entries


def test_what_is_wrong_is_refused_before_anything_is_written(folder, tmp_path):
    out = tmp_path / "new"
    with pytest.raises(UnknownNameError, match="no recipe 'doshi'. Did you mean 'doshi_2024'"):
        mm.reproduce("doshi", out=out)
    with pytest.raises(UnknownNameError, match="no claim of 'doshi_2024' 'coexistance'. Did you mean 'coexistence'"):
        mm.reproduce("doshi_2024", claims=["coexistance"], out=out)
    with pytest.raises(UnknownNameError, match="no scale 'smal'"):
        mm.reproduce("doshi_2024", scale="smal", out=out)
    with pytest.raises(ConfigError, match="number of workers"):
        mm.reproduce("doshi_2024", workers=0, out=out)
    assert not out.exists()
    with pytest.raises(RunDirectoryError, match="holds doshi_2024 at scale smoke, not liu_lu_2026 at scale smoke"):
        mm.reproduce("liu_lu_2026", scale="smoke", out=folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(RunDirectoryError, match="thesis.tex"):
        mm.reproduce("doshi_2024", out=tmp_path / "mine")


def test_a_damaged_measurement_is_one_clear_error(folder, tmp_path):
    claim = recipe("doshi_2024").claim("coexistence")
    (path,) = (folder / "measurements" / "coexistence").glob("*.json")
    copy = tmp_path / "measurements" / "coexistence" / path.name
    copy.parent.mkdir(parents=True)
    copy.write_text(path.read_text()[:-20])
    with pytest.raises(RunDirectoryError, match="cannot read"):
        measurements(claim, claim.runs("smoke"), tmp_path)
    copy.write_text('{"quantity": 3}')
    with pytest.raises(RunDirectoryError, match="is damaged"):
        measurements(claim, claim.runs("smoke"), tmp_path)
    values = json.loads(path.read_text())
    values["rows"][0]["value"] = 0.5
    copy.write_text(json.dumps(values))
    with pytest.raises(RunDirectoryError, match="does not match its hash"):
        measurements(claim, claim.runs("smoke"), tmp_path)
    copy.write_text(json.dumps(values["rows"]))
    with pytest.warns(UncheckedWarning, match="coexistence was saved by an older version"):
        assert measurements(claim, claim.runs("smoke"), tmp_path)["value"][0] == 0.5


def test_a_claim_whose_run_failed_is_not_judged_and_says_why(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise TrainingFailedError("the loss is nan at step 3")

    monkeypatch.setattr("mechmem.sweeps.jobs.train", fail)
    settings = {"scale": "smoke", "out": tmp_path / "r", "claims": ["coexistence"], "progress": False}
    (entry,) = mm.reproduce("doshi_2024", engine="inline", **settings).entries
    digest = next(iter(recipe("doshi_2024").trials("smoke")))
    assert (entry.verdict, entry.reason) == ("not judged", f"run {digest} failed: the loss is nan at step 3")
    assert not list(tmp_path.glob("r/measurements/*/*"))
    monkeypatch.undo()
    (entry,) = mm.reproduce("doshi_2024", engine="inline", **settings).entries
    assert entry.findings and not list(tmp_path.glob("r/failures/*"))


def test_longer_runs_are_expected_to_take_longer():
    trials = recipe("doshi_2024").trials("small")
    seconds = expected_seconds(trials, lambda _: 5e10)
    by_steps = {trials[digest].steps: value for digest, value in seconds.items() if not trials[digest].batch_size}
    assert by_steps[5000] > 2 * by_steps[1000] > 0


def test_what_there_is_to_do_is_said_in_the_singular_too(capsys):
    for runs, workers, wanted in (
        ({"a": 60.0}, 1, "1 run to train or measure, about 60 s on 1 process"),
        ({"a": 120.0, "b": 120.0}, 2, "2 runs to train or measure, about 2 min on 2 processes"),
    ):
        with runs_progress("doshi_2024", runs, workers, wanted.partition(" on ")[2], show=True):
            pass
        assert capsys.readouterr().err.splitlines()[0] == f"doshi_2024: {wanted}"


def test_nothing_is_written_where_the_directory_was_moved_away(tmp_path, monkeypatch):
    folder = tmp_path / "mine"

    def moved(*given):
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        (folder / "reproduction.json").write_text("somebody's")
        yield from ()

    monkeypatch.setattr("mechmem.recipes.reproduce.finish", moved)
    with pytest.raises(TrainingFailedError, match="was moved or replaced while it was written"):
        mm.reproduce("doshi_2024", scale="smoke", claims=["coexistence"], out=folder, progress=False)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"reproduction.json": "somebody's"}
    place = files.identity(tmp_path / "moved")
    digest = next(iter(recipe("doshi_2024").trials("smoke")))
    job = Job(recipe("doshi_2024").trials("smoke")[digest], (OfClaim("doshi_2024", "coexistence"),))
    outcome = work(job, Place(folder, identity=place))
    assert outcome.state == "failed" and "was moved or replaced before a run was begun" in outcome.reason
    assert not (folder / "runs").exists()
