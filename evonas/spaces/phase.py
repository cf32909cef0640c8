"""The macro space of NSGA-Net, phase bitstrings, as searched by RoCo-NAS."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from evonas.errors import ConfigurationError, choose
from evonas.networks.phase_plan import PhaseGraph, PhasePlan, plan_phases
from evonas.spaces.phase_graph import canonical_bits, connections, decode, n_bits, node_counts
from evonas.spaces.phase_operators import PHASE_OPERATORS, PhaseOperators
from evonas.types import Cost, Genome, as_genome

if TYPE_CHECKING:
    from evonas.networks.phase import PhaseNetwork

__all__ = ["NSGANET", "PhaseSpace"]

NSGANET = [
    [[1], [0, 0], [0, 1, 0], [0, 1, 1, 1], [1, 0, 0, 1, 1], [0]],
    [[0], [0, 0], [0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1, 1], [0]],
    [[0], [0, 1], [1, 0, 1], [1, 0, 1, 1], [1, 0, 0, 1, 1], [0]],
]
"""The published macro genome of NSGA-Net, in its list form (Lu et al., 2019)."""

NestedBits = Sequence[Sequence[Sequence[int]]]


@dataclass(frozen=True)
class PhaseSpace:
    """Networks of up to `phases` phases of up to `nodes` 3x3 convolutions (RoCo-NAS, III-B; NSGA-Net).

    A genome concatenates the bits of the phases; for each phase the bits of predecessors 1..i-1 of every node i = 2..n,
    then the residual bit. Phases without connection are dropped, and the active ones get the widths in order. A genome
    without active phase, or with more active phases than the image allows, is infeasible.

    The setting `operators` selects crossover and mutation: `roco` (whole blocks) or `nsganet` (bits).
    """

    phases: int = 3
    """Computational blocks (RoCo-NAS, Table II)."""
    nodes: int = 6
    """Maximum computational units of a block (RoCo-NAS, Table II); 2 to 8."""
    channels: int = 16
    """Width of the first phase; doubles from phase to phase."""
    image_size: int = 32
    """Height and width of the images."""
    operators: str = "roco"
    """Crossover and mutation: roco (whole blocks) or nsganet (bits)."""
    mutation_rate: float | None = None
    """Expected flips of a child, for `nsganet` only; None: 0.157, the effective rate of the reference."""

    name: ClassVar[str] = "phase"
    search_only: ClassVar[tuple[str, ...]] = ("operators", "mutation_rate")
    """Fields that change the search, and no network."""

    def __post_init__(self) -> None:
        if not 2 <= self.nodes <= 8:
            why = " (a single node has no connection)" if self.nodes == 1 else ""
            raise ConfigurationError(f"expected 2 to 8 nodes a phase, got {self.nodes}{why}")
        for name in ("phases", "channels", "image_size", "nodes"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"expected a whole number of {name} >= 1, got {value!r}")
        if self._room == 0:
            raise ConfigurationError(f"expected images large enough for a phase, got image_size {self.image_size}")
        if self.mutation_rate is not None and self.operators != "nsganet":
            raise ConfigurationError(
                f"expected no mutation rate with operators {self.operators!r}, got {self.mutation_rate}; "
                "only 'nsganet' has one"
            )
        _ = self._operators

    @cached_property
    def _operators(self) -> PhaseOperators:
        return choose(PHASE_OPERATORS, self.operators, "operators")(self.phases, self.mutation_rate)

    @property
    def bits_per_phase(self) -> int:
        return n_bits(self.nodes)

    @property
    def n_genes(self) -> int:
        return self.phases * self.bits_per_phase

    @property
    def upper(self) -> Genome:
        return np.ones(self.n_genes, dtype=np.int64)

    @property
    def n_genomes(self) -> int:
        """Number of bitstrings: 2^48 for three phases of six nodes."""
        return 1 << self.n_genes

    @property
    def paper_size(self) -> int:
        """RoCo-NAS, Eq. 3: phases x 2^(bits of a phase); counts bitstrings of single phases, not of networks."""
        return self.phases * (1 << self.bits_per_phase)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """(n, n_genes) random bits; random phases become 0 where more are active than the image has room for."""
        genomes = rng.integers(2, size=(n, self.n_genes), dtype=np.int64)
        phases = genomes.reshape(n, self.phases, self.bits_per_phase)
        for row in np.flatnonzero(phases[:, :, :-1].any(axis=2).sum(axis=1) > self._room):
            active = np.flatnonzero(phases[row, :, :-1].any(axis=1))
            phases[row, rng.permutation(active)[self._room :]] = 0
        return genomes

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        return self._operators.crossover(self._checked(a), self._checked(b), rng)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        return self._operators.mutate(self._checked(genome), rng)

    def canonical(self, genome: Genome) -> Genome:
        """(n_genes,) one genome for all genomes of the same network, up to isomorphism of its phases.

        Active phases come first, in their order and in canonical bits; dropped phases are all 0.
        """
        phases = [canonical_bits(bits, self.nodes) for bits in self._phases(genome)]
        phases.sort(key=lambda bits: not any(bits[:-1]))  # stable: active phases keep their order
        return np.array([bit for bits in phases for bit in bits], dtype=np.int64)

    def violation(self, genome: Genome) -> float:
        """<= 0 if at least one phase is active, and at most as many as the image has room for."""
        active = len(self._graphs(genome))
        return float(1 if active == 0 else active - self._room)

    def build(
        self,
        genome: Genome,
        n_classes: int = 10,
        channels: int | None = None,
        in_channels: int = 3,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> "PhaseNetwork":
        """Network of a genome, from (B, in_channels, H, W) images in [0, 1] to (B, n_classes) logits.

        Args:
            channels: width of the first phase; None: that of the space.
            normalization: (mean, deviation) per channel become the first layer; None: the bare network.
        """
        from evonas.networks.phase import PhaseNetwork

        return PhaseNetwork(
            self._graphs(genome), self._width(channels), n_classes, in_channels, self.image_size, normalization
        )

    def plan(self, genome: Genome) -> list[tuple[PhaseGraph, PhasePlan]]:
        """Connections of every active phase, with its channels and sizes."""
        graphs = self._graphs(genome)
        return list(zip(graphs, plan_phases(len(graphs), self.channels, 3, self.image_size), strict=True))

    def cost(
        self,
        genome: Genome,
        n_classes: int = 10,
        channels: int | None = None,
        in_channels: int = 3,
        image_size: int | None = None,
    ) -> Cost:
        """Parameters and MACs of the network by arithmetic, equal to those of the built network."""
        counts = self._counts(genome)
        size = self.image_size if image_size is None else image_size
        plan = plan_phases(len(counts), self._width(channels), in_channels, size)
        params, macs = 0, 0
        for (active, merged), place in zip(counts, plan, strict=True):
            width = place.out_channels
            first = place.kernel_size**2 * place.in_channels * width
            weights = first + (9 * active + merged) * width**2  # 3x3 nodes, 1x1 merges
            params += weights + 2 * width * (active + 1)  # batch normalisation of nodes and output
            macs += weights * place.size**2
        features = plan[-1].out_channels if plan else in_channels
        return Cost(params + (features + 1) * n_classes, macs + features * n_classes)

    def max_cost(
        self, n_classes: int = 10, channels: int | None = None, in_channels: int = 3, image_size: int | None = None
    ) -> Cost:
        """Largest parameters and MACs of feasible genomes: those of the largest number of fully connected phases."""
        return self.cost(self.designs()["dense"], n_classes, channels, in_channels, image_size)

    def flops(self, genome: Genome, n_classes: int = 10, channels: int | None = None, in_channels: int = 3) -> int:
        """FLOPs as counted by NSGA-Net's code: MACs, plus additions for layers without multiply-adds.

        Adds twice the input elements of every batch normalisation, the output elements of every ReLU, and the input
        elements of every pooling. `designs()["dense"]` has the largest value of feasible genomes.
        """
        counts = self._counts(genome)
        plan = plan_phases(len(counts), self._width(channels), in_channels, self.image_size)
        maps = [place.out_channels * place.size**2 for place in plan]  # elements of one map
        pooled = sum(maps) if maps else in_channels * self.image_size**2
        extra = sum(3 * (active + 1) * values for (active, _), values in zip(counts, maps, strict=True))
        return self.cost(genome, n_classes, channels, in_channels).macs + extra + pooled

    def describe(self, genome: Genome) -> str:
        """Inputs of each node, e.g. `phase 1 (16 channels): 1<-in 2<-1 out<-in,2 | phase 2 ...`."""
        graphs = self._graphs(genome)
        if not graphs:
            return "no active phase"
        lines = []
        for position, graph in enumerate(graphs):
            reads = {str(node): inputs for node, inputs in enumerate(graph.node_inputs, start=1) if inputs}
            reads["out"] = graph.output_inputs
            edges = " ".join(
                f"{node}<-{','.join('in' if i == 0 else str(i) for i in inputs)}" for node, inputs in reads.items()
            )
            lines.append(f"phase {position + 1} ({self.channels * 2**position} channels): {edges}")
        return " | ".join(lines)

    def designs(self) -> dict[str, Genome]:
        """Hand-crafted genomes for a first population (RoCo-NAS, III-C).

        `chain`: each node reads the previous one. `residual`: a chain whose output also reads the input of the phase.
        `dense`: each node reads all earlier ones, and the output also the input of the phase. `pair`: a single phase of
        two nodes, the smallest network.
        """
        pairs = connections([1] * self.bits_per_phase, self.nodes)
        chain = [int(node == before + 1) for before, node in pairs]
        phases = {"chain": [*chain, 0], "residual": [*chain, 1], "dense": [1] * self.bits_per_phase}
        active = min(self.phases, self._room)
        filled = {name: bits * active for name, bits in phases.items()} | {"pair": [1]}
        return {
            name: np.array(bits + [0] * (self.n_genes - len(bits)), dtype=np.int64) for name, bits in filled.items()
        }

    def cover(self) -> Iterator[Genome]:
        """Genomes whose networks have every layer of the space between them, the slowest network among them.

        For each number of phases, `dense` ones, and ones whose output reads as many maps as there can be.
        """
        star = [int(before == 1) for before, _ in connections([1] * self.bits_per_phase, self.nodes)]
        for active in range(1, min(self.phases, self._room) + 1):
            for bits in ([1] * self.bits_per_phase, [*star, 1]):
                yield np.array(bits * active + [0] * (self.n_genes - active * len(bits)), dtype=np.int64)

    @staticmethod
    def from_lists(nested: NestedBits) -> Genome:
        """Genome from the list form of NSGA-Net: a phase is [[bit], [bit, bit], ..., [residual bit]]."""
        genes: list[int] = []
        for phase in nested:
            lengths = [len(part) for part in phase]
            if lengths != [*range(1, len(phase)), 1] or len(phase) != len(nested[0]) or len(phase) < 2:
                raise ValueError(
                    f"expected every phase as lists of 1, 2, ..., n-1 bits and one residual bit, got lengths {lengths}"
                )
            genes += [bit for part in phase for bit in part]
        if not genes or not set(genes) <= {0, 1}:
            raise ValueError(f"expected at least one phase of bits 0 and 1, got {nested}")
        return np.array(genes, dtype=np.int64)

    def to_lists(self, genome: Genome) -> list[list[list[int]]]:
        """List form of a genome, as in NSGA-Net."""
        nested = []
        for bits in self._phases(genome):
            starts = [n_bits(node) - 1 for node in range(1, self.nodes + 1)]  # start of the bits of node + 1
            parts = [list(bits[a:b]) for a, b in pairwise(starts)]
            nested.append([*parts, [bits[-1]]])
        return nested

    @cached_property
    def _room(self) -> int:
        """Largest number of active phases for the image size: 5 for 32x32, with maps of 30, 15, 7, 3 and 1."""
        room = 0
        while True:
            try:
                plan_phases(room + 1, self.channels, 3, self.image_size)
            except ValueError:
                return room
            room += 1

    def _width(self, channels: int | None) -> int:
        return self.channels if channels is None else channels

    def _checked(self, genome: Any) -> Genome:
        genes = as_genome(genome, self.n_genes, self.name)
        if genes.min() < 0 or genes.max() > 1:
            raise ValueError(f"expected bits 0 and 1 for space {self.name!r}, got {genes.tolist()}")
        return genes

    def _phases(self, genome: Any) -> list[tuple[int, ...]]:
        return [tuple(bits) for bits in self._checked(genome).reshape(self.phases, -1).tolist()]

    def _counts(self, genome: Any) -> list[tuple[int, int]]:
        """(active nodes, maps read by merges) of every active phase."""
        packed = (self._checked(genome).reshape(self.phases, -1) << np.arange(self.bits_per_phase)).sum(axis=1)
        counts = (node_counts(bits, self.nodes) for bits in packed.tolist())
        return [count for count in counts if count[0]]

    def _graphs(self, genome: Any) -> list[PhaseGraph]:
        graphs = (decode(bits, self.nodes) for bits in self._phases(genome))
        return [graph for graph in graphs if graph is not None]
