"""One table, to the last bit, on every engine, also where processes are killed."""

import gc
import os
import signal
import uuid
from pathlib import Path

import pytest
from swept import PATIENCE, once_training, those_with, trainers, until

import mechmem as mm
from mechmem.core.processes import TERMINATED, same_handlers
from mechmem.errors import MissingNeedError

pytestmark = [
    pytest.mark.slow,
    # Of Ray, Dask and submitit, which leave files and sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore"),
]

BASE = mm.TrainConfig(mm.ModularConfig(p=7), mm.MLPConfig(8), evaluations=4, checkpoints=4)
GRID = {"steps": [20, 3000], "seed": range(2)}
DEADLY = (20, 1)


def fatal_in_a_cell():
    """A measurement that kills its process in one cell. Nested, so that it travels by value to processes elsewhere."""
    own, deadly = os.getpid(), DEADLY

    def fatal(subject):
        import os
        import signal

        config = subject.run.config
        if (config.steps, config.seed) == deadly and os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)
        return config.steps

    return fatal


def sweep(out, measure=("raw", "ipr"), **settings):
    return mm.sweep(BASE, GRID, measure=measure, out=out, progress=False, **settings)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The table that every engine must give."""
    return sweep(tmp_path_factory.mktemp("inline") / "s", engine="inline").to_frame()


@pytest.fixture(scope="module")
def mark():
    """A word in the environment of every process that these tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MECHMEM_TEST", word := uuid.uuid4().hex)
        # Processes of a cluster import mechmem from here.
        patch.setenv("PYTHONPATH", str(Path(mm.__file__).parents[1]))
        yield word
    # The clusters have been stopped before: nothing is left of them.
    until(lambda: not those_with(word), 60)


@pytest.fixture(scope="module")
def local(mark):
    yield {"engine": "local", "workers": 2}


@pytest.fixture(scope="module")
def dask(mark):
    pytest.importorskip("distributed", reason="needs distributed")
    from dask import config
    from distributed import LocalCluster

    # A job whose worker died is given to another one once.
    with (
        config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield {"engine": "dask", "settings": {"address": cluster.scheduler_address}}


@pytest.fixture(scope="module")
def ray(mark):
    pytest.importorskip("ray", reason="needs ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mechmem.sweeps.engines.ray.RETRIES", 1)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with same_handlers():
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
            for _ in range(2):
                cluster.add_node(num_cpus=1, include_dashboard=False)
        yield {"engine": "ray", "settings": {"address": cluster.address}}
        cluster.shutdown()


@pytest.fixture(scope="module")
def slurm(mark):
    core = pytest.importorskip("submitit.core.core", reason="needs submitit")
    with pytest.MonkeyPatch.context() as patch:
        # How long to wait for what a task that died has not written.
        patch.setattr(core.Job, "_results_timeout_s", 1)
        yield {"engine": "slurm", "workers": 2, "settings": {"cluster": "local"}}


@pytest.fixture
def engine(request):
    return request.getfixturevalue(request.param)


EVERY = pytest.mark.parametrize("engine", ["local", "dask", "ray", "slurm"], indirect=True, scope="module")


@pytest.fixture(autouse=True)
def bounded():
    """Ends a test that hangs, and sees to it that interrupts are handled as before."""

    def give_up(*_):
        raise TimeoutError(f"took over {PATIENCE} s")

    of_termination = signal.getsignal(signal.SIGTERM)
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    assert signal.getsignal(signal.SIGTERM) is of_termination
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("engine", ["local"], indirect=True, scope="module")
def test_the_table_is_the_same_to_the_last_bit(engine, undisturbed, tmp_path):
    # On the others the test below compares it, after their processes were killed.
    assert sweep(tmp_path / "s", **engine).to_frame().equals(undisturbed)
    assert not list(tmp_path.glob("s/claims/*")) and not list(tmp_path.glob("s/**/.*"))


@EVERY
def test_killed_processes_change_nothing_but_the_cell_that_kills_its_own_each_time(engine, undisturbed, tmp_path):
    with once_training(tmp_path / "s", lambda pid: os.kill(pid, signal.SIGKILL)) as killed:
        found = sweep(tmp_path / "s", ("raw", "ipr", fatal_in_a_cell()), **engine)
    assert len(killed) == 1
    frame = found.to_frame()
    others = frame.loc[frame["measurement"] != "fatal"].reset_index(drop=True)
    assert others.drop(columns="reason").equals(undisturbed.drop(columns="reason"))
    fatal = frame.loc[frame["measurement"] == "fatal"].set_index(["steps", "seed"])
    died = fatal.pop("reason")
    assert "died" in died.pop(DEADLY) and set(died) == {""}
    assert fatal["value"].isna()[DEADLY] and fatal["value"].drop(DEADLY).tolist() == [20, 3000, 3000]


@pytest.mark.parametrize("engine", ["ray", "slurm"], indirect=True, scope="module")
def test_termination_ends_the_tasks_of_a_cluster_with_its_own_status(engine, undisturbed, tmp_path):
    out = tmp_path / "s"
    with once_training(out, lambda _: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(SystemExit) as end:
        sweep(out, **engine)
    assert end.value.code == TERMINATED
    until(lambda: not trainers(out), 20)
    assert sweep(out, engine="inline").to_frame().equals(undisturbed)


@pytest.mark.parametrize("engine", ["ray"], indirect=True, scope="module")
def test_ray_is_left_without_references_to_its_objects(engine, tmp_path, monkeypatch):
    import ray
    from ray._private.worker import global_worker

    left, leave = [], ray.shutdown

    def watched():
        left.append((global_worker.core_worker.get_all_reference_counts(), gc.isenabled()))
        leave()

    monkeypatch.setattr(ray, "shutdown", watched)
    grid = {"steps": [20], "seed": [1]}
    found = mm.sweep(BASE, grid, measure=fatal_in_a_cell(), out=tmp_path / "s", progress=False, **engine)
    assert "died" in found.to_frame()["reason"].item()
    assert left and all(each == ({}, False) for each in left)
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("engine", "package", "settings", "why"),
    [
        ("dask", "distributed", {}, "no address was given"),
        ("dask", "distributed", {"address": "tcp://127.0.0.1:1"}, "nothing answers at tcp://127.0.0.1:1"),
        ("dask", "distributed", {"address": "nonsense"}, "nothing answers at nonsense"),
        ("ray", "ray", {"address": "127.0.0.1:1"}, "nothing answers at 127.0.0.1:1"),
        ("ray", "ray", {"address": "nonsense"}, "nothing answers at nonsense"),
        ("slurm", "submitit", {}, "engine 'slurm': "),
        ("slurm", "submitit", {"cluster": "local", "timeout_mn": 3}, "timeout_mn"),
    ],
    ids=str,
)
def test_a_cluster_that_is_not_there_is_refused(engine, package, settings, why, tmp_path, capfd, monkeypatch):
    pytest.importorskip(package, reason=f"needs {package}")
    monkeypatch.setattr("mechmem.sweeps.engines.dask.SECONDS", 1)
    with pytest.raises(MissingNeedError, match=why):
        sweep(tmp_path / "s", engine=engine, workers=2, settings=settings)
    assert capfd.readouterr() == ("", "") and not (tmp_path / "s").exists()
