"""Damaged files of every kind that is read: one line or a result, in bounded memory, and nothing is run."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "damaged_files.py"


@pytest.mark.lengthy
def test_a_hundred_damaged_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of what the benchmark does; `loaded` are those in which a line or a pixel alone is another."""
    spec = importlib.util.spec_from_file_location("damaged_files", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "damaged_files", script)  # its dataclasses look themselves up there
    spec.loader.exec_module(script)
    counts = script.measure(100)
    assert {name: count.wrong for name, count in counts.items() if count.wrong} == {}
    assert sum(count.inputs for count in counts.values()) == 100
    assert all(count.inputs >= 5 for count in counts.values())
    for name in ("npz", "adversarial set", "config.json", "genotype", "checkpoint"):
        assert counts[name].refused >= 4
