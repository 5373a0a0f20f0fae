import torch

import mechmem as mm
from mechmem.models.reading.twins import initial_model


def test_the_run_s_first_step_or_the_retrainer_s_twin(tiny_run, tiny_config, planted):
    first, note = initial_model(tiny_run)
    twin, _ = initial_model(mm.train(tiny_config, progress=False))
    assert note == "" and all(map(torch.equal, first.state_dict().values(), twin.state_dict().values()))
    assert initial_model(planted.subject)[0] is None and "neither a run" in initial_model(planted.subject)[1]
