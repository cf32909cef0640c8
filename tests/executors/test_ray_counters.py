"""Counters in Ray's metrics: counted from the beginning, exported once this process is connected."""

from typing import Any

import pytest

from evonas.executors.ray_counters import RayCounters


class Exported:
    """A counter of Ray that keeps its value."""

    values: dict[str, float]

    def __init__(self, name: str, description: str) -> None:
        assert description
        assert name not in self.values, "Ray takes a name once"
        self.name = name
        self.values[name] = 0.0

    def inc(self, value: float) -> None:
        self.values[self.name] += value


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    metrics: Any = pytest.importorskip("ray.util.metrics")
    monkeypatch.setattr(Exported, "values", {}, raising=False)
    monkeypatch.setattr(metrics, "Counter", Exported)
    return Exported.values


def test_evaluations_failures_and_answers_of_the_journal_are_counted(values: dict[str, float]) -> None:
    counters = RayCounters()
    counters.count(cached=True, ok=True)
    counters.count(cached=True, ok=False)
    counters.count(cached=False, ok=True)
    assert values == {}, "nothing is connected yet"
    counters.flush()
    assert values == {"evonas_cache_hits": 2, "evonas_evaluations": 1}
    counters.count(cached=False, ok=False)
    counters.count(cached=False, ok=True)
    assert values == {"evonas_cache_hits": 2, "evonas_evaluations": 3, "evonas_failures": 1}
