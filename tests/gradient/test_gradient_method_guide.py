"""The guide to gradient methods: its loss and its method run as they stand there."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from evonas.data import Augmentation, DevicePart
from evonas.gradient import GradientSearch, SearchData, halves

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "gradient-method.md"


@pytest.mark.lengthy
def test_the_method_of_the_guide_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {}
    for name, code in re.findall(
        r'^```python title="evonas/gradient/(\w+)\.py"\n(.*?)^```', GUIDE.read_text(), re.M | re.S
    ):
        if name != "__init__":
            modules[name] = ModuleType(f"evonas.gradient.{name}")
            monkeypatch.setitem(sys.modules, modules[name].__name__, modules[name])
            exec(compile(code, name, "exec"), modules[name].__dict__)
    method = modules["decided"].decided()
    stage = replace(method.stages[0], epochs=2, channels=4, layers=3)
    method = replace(method, stages=(stage,), nodes=2, config=replace(method.config, search_batch_size=8, alpha_lr=0.1))
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (16, 8, 8, 3), generator=drawn, dtype=torch.uint8)
    below, above = halves(DevicePart.of(pixels, torch.arange(16) % 2), 0.5)
    data = SearchData(below, above, None, Augmentation(padding=1), 2, None)
    search = GradientSearch(method, data, 0, torch.device("cpu"))
    first, second = search.run_epoch(), search.run_epoch()
    assert {"upper_loss", "weight_loss", "upper_entropy_loss", "weight_entropy_loss"} <= first.keys()
    assert second["upper_entropy_loss"] < first["upper_entropy_loss"] < 2.0795
