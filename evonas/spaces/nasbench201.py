"""The space of NAS-Bench-201 (Dong and Yang, 2020): an operation on each of six edges of one cell."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from evonas.errors import ConfigurationError
from evonas.networks.nasbench201_plan import EDGES, OPERATIONS, STAGES, live_edges
from evonas.spaces.nasbench201_canonical import canonical_cells
from evonas.types import Cost, Genome, as_genome

if TYPE_CHECKING:
    from evonas.networks.nasbench201 import NasBench201Network

__all__ = ["NasBench201Space"]

FORM = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|"
"""Example of a cell in the benchmark's form."""


@dataclass(frozen=True)
class NasBench201Space:
    """Three stages of equal cells; a genome has one operation for each edge of the cell, in the benchmark's order.

    Gene k is the operation (`OPERATIONS`: 0 none, 1 skip_connect, 2 nor_conv_1x1, 3 nor_conv_3x3, 4 avg_pool_3x3) of
    the edge 0-1, 0-2, 1-2, 0-3, 1-3 or 2-3. Every genome is feasible. A network is built from the canonical genome,
    without edges that lead nowhere, so that equal cells have equal networks and costs.
    """

    channels: int = 16
    """Width of the first stage; doubles from stage to stage."""
    cells: int = 5
    """Cells of each stage."""
    crossover_rate: float = 0.9
    """Probability of crossover of a pair of parents."""
    mutation_rate: float = 1 / 6
    """Probability of another operation, for every edge."""
    image_size: int = 32
    """Height and width of the images."""

    name: ClassVar[str] = "nasbench201"
    n_genes: ClassVar[int] = len(EDGES)
    search_only: ClassVar[tuple[str, ...]] = ("crossover_rate", "mutation_rate")
    """Fields that change the search, and no network."""

    def __post_init__(self) -> None:
        for name in ("crossover_rate", "mutation_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"expected {name} in [0, 1], got {getattr(self, name)!r}")
        if not isinstance(self.cells, int) or self.cells < 1:
            raise ConfigurationError(f"expected at least 1 cell in a stage, got {self.cells!r}")
        self.cost([0] * self.n_genes)  # raises for a width or size that no network has

    @property
    def upper(self) -> Genome:
        return np.full(self.n_genes, len(OPERATIONS) - 1, dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """(n, 6) genomes, uniform."""
        return rng.integers(len(OPERATIONS), size=(n, self.n_genes), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Two complementary children, with each edge from either parent."""
        first, second = self._checked(a).copy(), self._checked(b).copy()
        if rng.random() < self.crossover_rate:
            swapped = rng.random(self.n_genes) < 0.5
            first[swapped], second[swapped] = second[swapped], first[swapped]
        return first, second

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Give every edge one of the four other operations with probability `mutation_rate`."""
        changed = rng.random(self.n_genes) < self.mutation_rate
        steps = rng.integers(1, len(OPERATIONS), size=self.n_genes, dtype=np.int64)
        mutated: Genome = (self._checked(genome) + changed * steps) % len(OPERATIONS)
        return mutated

    def canonical(self, genome: Genome) -> Genome:
        """One genome for all cells that the benchmark takes for one: 6,466 of 15,625.

        A skip connection is the identity, `none` cuts, sums commute. A convolution that is read twice counts as two
        equal ones, as there; the network then has two.
        """
        cell: Genome = canonical_cells()[tuple(self._checked(genome))]
        return cell.copy()

    def violation(self, genome: Genome) -> float:
        """0: every genome is feasible."""
        self._checked(genome)
        return 0.0

    def cover(self) -> Iterator[Genome]:
        """Genomes whose networks have every layer of the space between them, the slowest network among them."""
        for operation in range(len(OPERATIONS)):
            yield np.full(self.n_genes, operation, dtype=np.int64)

    def operations(self, genome: Genome) -> tuple[str, ...]:
        """Operation of each edge, in the benchmark's order; `none` for an edge that leads nowhere."""
        names = [OPERATIONS[gene] for gene in self.canonical(genome).tolist()]
        return tuple(name if lives else "none" for name, lives in zip(names, live_edges(names), strict=True))

    def edges(self, genome: Genome) -> Iterator[tuple[int, int, str]]:
        """From, to and operation of each edge, as `operations` has them; node 0 is the input, 3 the output."""
        for (start, end), operation in zip(EDGES, self.operations(genome), strict=True):
            yield start, end, operation

    def to_string(self, genome: Genome) -> str:
        """The benchmark's form of a genome as it is, such as `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|`."""
        words = [f"{OPERATIONS[gene]}~{edge[0]}" for gene, edge in zip(self._checked(genome), EDGES, strict=True)]
        return "+".join(f"|{'|'.join(words[first : first + count])}|" for first, count in ((0, 1), (1, 2), (3, 3)))

    def from_string(self, text: str) -> Genome:
        """Genome of a cell in the benchmark's form, its edges in order.

        Raises:
            ConfigurationError (a ValueError): another form, or an unknown operation.
        """
        words = re.findall(r"\|([^|~+]+)~\d", text) if isinstance(text, str) else []
        genes = [OPERATIONS.index(word) for word in words if word in OPERATIONS]
        if len(genes) != self.n_genes or self.to_string(np.array(genes)) != text.strip():
            raise ConfigurationError(
                f"expected a cell such as {FORM}, with operations among {', '.join(OPERATIONS)}, got {text!r:.200}"
            )
        return np.array(genes, dtype=np.int64)

    def build(
        self,
        genome: Genome,
        n_classes: int = 10,
        channels: int | None = None,
        in_channels: int = 3,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> "NasBench201Network":
        """Network of a genome, from (B, in_channels, H, W) images in [0, 1] to (B, n_classes) logits.

        Args:
            channels: width of the first stage; None: that of the space.
            normalization: (mean, deviation) per channel become the first layer; None: the bare network.
        """
        from evonas.networks.nasbench201 import NasBench201Network

        width = self.channels if channels is None else channels
        return NasBench201Network(self.operations(genome), width, self.cells, n_classes, in_channels, normalization)

    def cost(
        self,
        genome: Genome | Sequence[int],
        n_classes: int = 10,
        channels: int | None = None,
        in_channels: int = 3,
        image_size: int | None = None,
    ) -> Cost:
        """Parameters and MACs of the network by arithmetic, equal to those of the built network."""
        width = self.channels if channels is None else channels
        size = self.image_size if image_size is None else image_size
        if not isinstance(width, int | np.integer) or width < 1:
            raise ConfigurationError(f"expected at least 1 channel, got {width!r}")
        if not isinstance(size, int | np.integer) or size < 4 or size % 4:
            raise ConfigurationError(f"expected image_size to be a multiple of 4, got {size!r}")
        kernels = [int(name[-1]) for name in self.operations(np.asarray(genome)) if name.startswith("nor_conv")]
        parts = [_conv(in_channels, width, 3, size**2)]
        for stage in range(STAGES):
            wide, area = width * 2**stage, (size // 2**stage) ** 2
            if stage:  # the residual block; its shortcut has no normalisation
                parts += [_conv(wide // 2, wide, 3, area), _conv(wide, wide, 3, area)]
                parts.append(Cost(wide // 2 * wide, wide // 2 * wide * area))
            cell = [_conv(wide, wide, kernel, area) for kernel in kernels]
            parts += cell * self.cells
        parts.append(Cost(2 * wide + (wide + 1) * n_classes, wide * n_classes))
        return Cost(sum(part.params for part in parts), sum(part.macs for part in parts))

    def max_cost(
        self, n_classes: int = 10, channels: int | None = None, in_channels: int = 3, image_size: int | None = None
    ) -> Cost:
        """Cost of the largest network: 3x3 convolutions on all edges."""
        largest = [OPERATIONS.index("nor_conv_3x3")] * self.n_genes
        return self.cost(largest, n_classes, channels, in_channels, image_size)

    def describe(self, genome: Genome) -> str:
        """The canonical genome in the benchmark's form."""
        return self.to_string(self.canonical(genome))

    def _checked(self, genome: Any) -> Genome:
        genes = as_genome(genome, self.n_genes, self.name)
        if (genes < 0).any() or (genes >= len(OPERATIONS)).any():
            raise ValueError(
                f"expected genes of 0 to {len(OPERATIONS) - 1} in space {self.name!r}, got {genes.tolist()}"
            )
        return genes


def _conv(in_channels: int, out_channels: int, kernel: int, area: int) -> Cost:
    """Convolution with batch normalisation, on an output of `area` positions."""
    weights = in_channels * out_channels * kernel**2
    return Cost(weights + 2 * out_channels, weights * area)
