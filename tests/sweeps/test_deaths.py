"""Whose death is counted: of processes of this sweep, neither of an earlier one nor of one that works beside it."""

import pytest

import mechmem as mm
from mechmem.core.locks import abandoned, taken
from mechmem.errors import MissingNeedError
from mechmem.sweeps.deaths import MOST_STARTS, Deaths
from mechmem.sweeps.engine import EngineError
from mechmem.sweeps.engines.inline import Inline
from mechmem.sweeps.jobs import Job, Outcome, Place
from mechmem.sweeps.running import finish

JOBS = [
    Job(mm.TrainConfig(mm.ModularConfig(p=5), mm.MLPConfig(4), steps=1, evaluations=1, checkpoints=1, seed=seed), ())
    for seed in range(3)
]
FIRST, SECOND, THIRD = (job.digest for job in JOBS)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def die(place, digest):
    """Leave the file that a process has held that died while it worked on a job."""
    place.claim(digest).parent.mkdir(exist_ok=True)
    place.claim(digest).touch()


def test_a_file_that_nobody_holds_any_more_is_abandoned_once(tmp_path):
    assert not abandoned(tmp_path / "claim")
    with taken(tmp_path / "claim"):
        assert not abandoned(tmp_path / "claim")
    (tmp_path / "claim").touch()
    assert abandoned(tmp_path / "claim") and not abandoned(tmp_path / "claim")


def test_a_job_whose_process_died_twice_has_failed_and_the_others_are_left(place):
    deaths = Deaths(place, JOBS)
    die(place, FIRST)
    die(place, SECOND)
    assert list(deaths.count("killed")) == [] and deaths.suspects == JOBS[:2] and deaths.together == JOBS[2:]
    die(place, SECOND)
    assert list(deaths.count("killed", "; see there")) == [
        Outcome(SECOND, "failed", "its process died twice (out of memory?); see there")
    ]
    assert list(deaths.left) == [FIRST, THIRD] and place.why(SECOND)
    assert list(deaths.ended(iter_of(Outcome(FIRST, "done")))) == [Outcome(FIRST, "done")]
    assert list(deaths.left) == [THIRD]


def iter_of(*outcomes):
    yield from outcomes


def test_neither_an_earlier_sweep_nor_another_one_counts(place):
    die(place, FIRST)  # by a sweep that was killed as a whole
    with taken(place.claim(SECOND)):  # by a sweep that works beside this one
        deaths = Deaths(place, JOBS)
        for _ in range(2):
            die(place, THIRD)
            found = list(deaths.count("killed"))
    assert [outcome.digest for outcome in found] == [THIRD] and list(deaths.left) == [FIRST, SECOND]


def test_processes_that_die_before_they_begin_anything_end_the_sweep(place):
    deaths = Deaths(place, JOBS)
    for _ in range(MOST_STARTS - 1):
        assert list(deaths.count("no such library")) == []
    with pytest.raises(EngineError, match="before they had begun anything: no such library"):
        list(deaths.count("no such library"))


class Counted(Inline):
    """Counts the jobs that it is given; the first one is held by another process, which does it in the meantime."""

    given = []

    def run(self, call, jobs):
        self.given.append([job.digest for job in jobs])
        with taken(self.claim):
            yield from super().run(call, jobs)
        place = Place(self.folder)
        place.run(FIRST).mkdir(parents=True, exist_ok=True)
        (place.run(FIRST) / "finished.json").touch()

    @property
    def claim(self):
        return Place(self.folder).claim(FIRST)


def test_what_another_process_has_done_meanwhile_is_not_given_to_the_engine_again(place):
    engine = Counted(None, place.folder)
    ended = {outcome.digest: outcome.state for outcome in finish(JOBS, place, engine)}
    assert ended == dict.fromkeys((FIRST, SECOND, THIRD), "done")
    assert engine.given == [[FIRST, SECOND, THIRD]]


def test_a_cluster_without_workers_is_refused_unless_their_number_is_said(tmp_path):
    class Empty(Inline):
        def count_slots(self):
            return 0

    with pytest.raises(MissingNeedError, match="the cluster has no workers; start some, or say how many will come"):
        Empty(None, tmp_path).workers  # noqa: B018
    assert Empty(4, tmp_path).workers == 4
