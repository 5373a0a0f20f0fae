import importlib.metadata
import re
from pathlib import Path

import torch

GUIDE = Path(__file__).parents[3] / "docs" / "hooks.md"


def test_the_guide_to_hook_points_runs():
    text = GUIDE.read_text(encoding="utf-8")
    old = importlib.metadata.version("transformer_lens") < "4"
    # 3.9 wants its own buffers among the parameters.
    text = text.partition("## Networks saved by transformer_lens 3.9")[0] if old else text
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    names = {"__name__": "hooks"}
    exec(compile(code.replace("planted_network(31)", "planted_network(7)"), "hooks.md", "exec"), names)
    assert names["slope"].shape == names["hidden"].shape
    assert names["small"]["hook_pre"].dtype == torch.float16 and names["small"].nbytes < 2**20
    # Without neurons every class has the same logit.
    assert names["logits"].std(1).max() == 0
    assert list(names["cache"]) == ["hook_pre"] and names["some"]["hook_hidden"].shape[0] == 5
    assert old or not names["model"].training
