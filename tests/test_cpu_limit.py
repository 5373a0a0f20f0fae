"""A test that takes seconds of CPU says so by the marker `slow`, or fails."""

from pathlib import Path

import pytest

TESTS = """
import subprocess, sys, time
import pytest

BURN = "import time\\nwhile time.process_time() < 0.3: pass"

def burn():
    end = time.process_time() + 0.25
    while time.process_time() < end:
        pass

@pytest.fixture(scope="module")
def trained():
    burn()

def test_computes():
    burn()

@pytest.mark.slow
def test_computes_and_says_so():
    burn()

def test_computes_in_a_child():
    subprocess.run([sys.executable, "-c", BURN], check=True)

def test_waits():
    time.sleep(0.5)

def test_looks_at_what_a_fixture_computed(trained):
    pass

def test_imports_for_the_first_time(monkeypatch):
    monkeypatch.syspath_prepend({folder!r})
    import takes_a_while_to_import

def test_fails():
    burn()
    assert False, "for a reason of its own"
"""
FAILED = {
    "test_computes": "s of CPU: mark it slow, or make it smaller (limit 0.2 s)",
    "test_computes_in_a_child": "mark it slow",
    "test_fails": "for a reason of its own",
}


class Outcomes(dict):
    """The outcome of every test of a run."""

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self[report.nodeid.partition("::")[2]] = report


@pytest.mark.slow
def test_a_test_over_the_limit_fails_unless_it_is_marked(request, tmp_path, monkeypatch):
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    (tmp_path / "test_some.py").write_text(TESTS.replace("{folder!r}", repr(str(tmp_path))))
    (tmp_path / "takes_a_while_to_import.py").write_text(
        "import time\nend = time.process_time() + 0.25\nwhile time.process_time() < end: pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    outcomes = Outcomes()
    arguments = ["-c", str(tmp_path / "pytest.ini"), "-p", "no:cacheprovider", "-p", "no:faulthandler", str(tmp_path)]
    with monkeypatch.context() as lowered:  # for the tests in there, and not for this one
        lowered.setattr(conftest, "CPU_LIMIT", 0.2)
        pytest.main(arguments, plugins=[conftest, outcomes])
    assert len(outcomes) == 7
    assert {name for name, report in outcomes.items() if report.failed} == set(FAILED)
    assert all(reason in outcomes[name].longreprtext for name, reason in FAILED.items())
