"""Latency of a candidate on a CPU, from a table of layers."""

from dataclasses import dataclass
from typing import ClassVar

from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.ship.latency_measuring import network_of
from evonas.ship.latency_table import LatencyTable
from evonas.ship.layers import layers_of

__all__ = ["LatencyMs"]


@dataclass(frozen=True)
class LatencyMs:
    """Milliseconds of a forward pass of one image by one thread of a CPU, to be minimised; looked up, not measured.

    With the same table equal networks get equal values, bit for bit, on any machine.
    """

    table: LatencyTable

    name: ClassVar[str] = "latency_ms"
    stage: ClassVar[str] = "before"

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        table = self.table
        metadata = {
            "table": table.fingerprint,
            "processor": table.processor,
            "torch": table.torch,
            "layers": len(table.layers),
            "networks": table.tested_on,
            "median_error": table.median_error,
            "p95_error": table.p95_error,
        }
        about = f"CPU, 1 thread, 1 image, from a table (error {100 * table.median_error:.0f}%)"
        return (Column(self.name, reference=table.slowest, about=about, metadata=metadata),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        network = network_of(candidate.space, candidate.genome, candidate.data.n_classes)
        return {self.name: self.table.predict(layers_of(network, self.table.image_size))}
