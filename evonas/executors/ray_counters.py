"""Counters of evaluations in Ray's metrics."""

from collections import Counter
from typing import Any

__all__ = ["RayCounters"]

COUNTERS = {
    "evonas_evaluations": "Evaluations that have finished, failed ones among them.",
    "evonas_failures": "Evaluations that have failed.",
    "evonas_cache_hits": "Evaluations that the journal answered.",
}


class RayCounters:
    """Exported by Ray beside its own metrics once this process is connected; counted from the beginning."""

    def __init__(self) -> None:
        self._pending: Counter[str] = Counter()
        self._exported: dict[str, Any] = {}
        self._connected = False

    def count(self, cached: bool, ok: bool) -> None:
        """Count one evaluation: whether the journal had it, and whether it is ok."""
        self._pending["evonas_cache_hits" if cached else "evonas_evaluations"] += 1
        if not ok and not cached:
            self._pending["evonas_failures"] += 1
        if self._connected:
            self.flush()

    def flush(self) -> None:
        """Export the counts so far; this process is connected to Ray."""
        from ray.util.metrics import Counter as Exported

        self._connected = True
        for name, value in self._pending.items():
            if name not in self._exported:
                self._exported[name] = Exported(name, description=COUNTERS[name])
            self._exported[name].inc(value)
        self._pending.clear()
