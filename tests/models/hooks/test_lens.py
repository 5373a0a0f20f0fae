"""transformer_lens's hook points come without its tokenizers, and its packages are what they are for everyone else."""

import subprocess
import sys
import textwrap

import pytest


def fresh(code):
    """Run code in a process of its own."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def test_training_loads_no_tokenizers_no_plots_and_no_statistics():
    code = """
        import sys
        import mechmem.training.train, mechmem.sweeps.jobs
        slow = ("transformers", "datasets", "plotly", "sklearn", "scipy.stats", "sympy", "captum", "kornia")
        print(*[name for name in slow if name in sys.modules])
    """
    assert fresh(code) == []


@pytest.mark.slow
def test_the_packages_are_what_they_are_afterwards():
    code = """
        import mechmem.models.hooks.lens as ours
        import transformer_lens
        from transformer_lens import HookedRootModule, ActivationCache, patching
        from transformer_lens.hook_points import HookPoint
        from transformer_lens.utilities import get_act_name
        assert HookedRootModule is ours.HookedRootModule is transformer_lens.HookedRootModule
        assert HookPoint is ours.HookPoint
        assert get_act_name("resid_post", 2) == "blocks.2.hook_resid_post"
        import transformer_lens.utilities as utilities
        assert callable(utilities.remove_batch_dim) and utilities is transformer_lens.utilities
        assert patching.__name__ == "transformer_lens.patching"
        assert not hasattr(transformer_lens, "no_such_thing")
        from transformer_lens import *
        print("right")
    """
    assert fresh(code) == ["right"]


@pytest.mark.slow
def test_whoever_imported_it_before_keeps_it():
    code = """
        import transformer_lens
        before = transformer_lens.HookedRootModule, transformer_lens.hook_points.HookPoint, type(transformer_lens)
        import mechmem as mm
        network = mm.planted_network(5)
        import mechmem.models.hooks.lens as ours
        assert before == (ours.HookedRootModule, ours.HookPoint, type(transformer_lens))
        assert isinstance(network.subject.model, transformer_lens.HookedRootModule)
        print("right")
    """
    assert fresh(code) == ["right"]
