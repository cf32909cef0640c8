"""Damaged files of every kind that is read: one line or a result, in bounded memory, and nothing is run."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "damaged_files.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("damaged_files", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "damaged_files", found)  # its dataclasses look themselves up there
    spec.loader.exec_module(found)
    return found


@pytest.mark.lengthy
def test_a_hundred_damaged_files(script: Any) -> None:
    """A share of what the benchmark does; `loaded` are those in which a line or a pixel alone is another."""
    inputs = max(100, 5 * len(script.LOADERS))
    counts = script.measure(inputs)
    assert {name: count.wrong for name, count in counts.items() if count.wrong} == {}
    assert sum(count.inputs for count in counts.values()) == inputs
    assert all(count.inputs >= 5 for count in counts.values())
    for name in ("npz", "adversarial set", "config.json", "genotype", "checkpoint", "weights"):
        assert counts[name].refused >= 4


@pytest.mark.lengthy
def test_a_hundred_damaged_files_of_weights(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "LOADERS", {"weights": script.LOADERS["weights"]})
    count = script.measure(100)["weights"]
    assert (count.inputs, count.loaded, count.refused, count.wrong) == (100, 0, 100, [])
