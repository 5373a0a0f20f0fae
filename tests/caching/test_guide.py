import json
import re
from pathlib import Path

import torch

GUIDE = Path(__file__).parents[2] / "docs" / "hooks.md"
CHECKPOINT = Path(__file__).parents[1] / "compat" / "data" / "hooked_transformer_3_9"


def test_the_guide_to_hook_points_runs():
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
    cfg = json.loads(CHECKPOINT.with_suffix(".json").read_text(encoding="utf-8"))
    names = {"__name__": "hooks", "cfg": cfg}
    code = code.replace("planted_network(31)", "planted_network(7)")
    exec(compile(code.replace("model.safetensors", f"{CHECKPOINT}.safetensors"), "hooks.md", "exec"), names)
    assert names["slope"].shape == names["hidden"].shape
    assert names["small"]["hook_pre"].dtype == torch.float16 and names["small"].nbytes < 2**20
    # Without neurons every class has the same logit.
    assert names["logits"].std(1).max() == 0
    assert not names["model"].training
