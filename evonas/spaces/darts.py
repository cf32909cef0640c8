"""The cell space of DARTS (Liu et al., 2019) as integers, for gradient methods and evolution alike."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from evonas.errors import ConfigurationError, choose
from evonas.networks.darts_genotypes import Genotype
from evonas.networks.darts_plan import PRIMITIVES
from evonas.spaces.darts_canonical import canonical_nodes
from evonas.spaces.darts_costs import fixed_cost, operation_costs
from evonas.types import Cost, Genome, as_genome

if TYPE_CHECKING:
    from evonas.networks.darts import DartsNetwork

__all__ = ["DARTS_CROSSOVERS", "DartsSpace"]

OPERATIONS = PRIMITIVES[1:]
"""Meaning of an operation gene; `none` is not a choice."""


@dataclass(frozen=True)
class DartsSpace:
    """A normal and a reduction cell, each with `nodes` nodes that add two operations on earlier states.

    A genome lists the normal cell, then the reduction cell; for each cell the nodes 2, 3, ...; for each node two pairs
    of an input (0 and 1 are the inputs of the cell) and an operation (0 to 6: `PRIMITIVES` without `none`). The output
    of a cell consists of all its nodes. A genome with a node that reads the same input twice is infeasible; sampling
    produces feasible genomes only, and so do crossover and mutation of feasible parents.
    """

    channels: int = 36
    """Width of a node of the first cell."""
    layers: int = 20
    """Number of cells; at least 3, so that both kinds occur."""
    nodes: int = 4
    """Intermediate nodes of a cell; 1 to 6."""
    stem: str = "cifar"
    """First layers: cifar, or imagenet for images of 224x224."""
    crossover_kind: str = "node"
    """node (each node from either parent) or cell (normal cell of one parent, reduction cell of the other)."""
    crossover_rate: float = 0.9
    """Probability of crossover of a pair of parents."""
    mutation_rate: float = 0.1
    """Probability of resampling, for every gene."""
    image_size: int = 32
    """Height and width of the images."""

    name: ClassVar[str] = "darts"
    depthwise: ClassVar[bool] = True
    """Most of its convolutions are depthwise, for which bf16 is slower on a CPU."""
    search_only: ClassVar[tuple[str, ...]] = ("crossover_kind", "crossover_rate", "mutation_rate")
    """Fields that change the search, and no network."""

    def __post_init__(self) -> None:
        if not isinstance(self.layers, int) or self.layers < 3:
            raise ConfigurationError(f"expected at least 3 layers, so that both kinds of cell occur, got {self.layers}")
        if not isinstance(self.nodes, int) or not 1 <= self.nodes <= 6:
            raise ConfigurationError(f"expected 1 to 6 nodes of a cell, got {self.nodes!r}")
        for name in ("crossover_rate", "mutation_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"expected {name} in [0, 1], got {getattr(self, name)!r}")
        choose(DARTS_CROSSOVERS, self.crossover_kind, "crossover")
        self.cost(np.zeros(self.n_genes, dtype=np.int64))  # raises for a width, stem or size that no network has

    @property
    def n_genes(self) -> int:
        return 8 * self.nodes

    @property
    def upper(self) -> Genome:
        return self._upper.copy()

    @cached_property
    def _upper(self) -> Genome:
        cell = np.empty((self.nodes, 2, 2), dtype=np.int64)
        cell[:, :, 0] = np.arange(1, self.nodes + 1)[:, None]  # node 2 reads state 0 or 1
        cell[:, :, 1] = len(OPERATIONS) - 1
        return np.tile(cell.reshape(-1), 2)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """(n, n_genes) feasible genomes, uniform."""
        genomes = np.empty((n, 2, self.nodes, 2, 2), dtype=np.int64)
        genomes[..., 1] = rng.integers(len(OPERATIONS), size=genomes.shape[:-1])
        last = np.arange(1, self.nodes + 1)
        genomes[..., 0, 0] = rng.integers(last + 1, size=genomes.shape[:3])
        genomes[..., 1, 0] = _skipping(genomes[..., 0, 0], rng.integers(last, size=genomes.shape[:3]))
        return genomes.reshape(n, self.n_genes)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Two complementary children, with each node or each cell from either parent."""
        first, second = self._checked(a).copy(), self._checked(b).copy()
        if rng.random() < self.crossover_rate:
            swapped = np.repeat(DARTS_CROSSOVERS[self.crossover_kind](self.nodes, rng).reshape(-1), 4)
            first[swapped], second[swapped] = second[swapped], first[swapped]
        return first, second

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Resample every gene with probability `mutation_rate`; an input among those that the node's other pair does
        not read. A new value may equal the old one."""
        cells = self._cells(genome).copy()
        resampled = rng.random(cells.shape) < self.mutation_rate
        names = rng.integers(len(OPERATIONS), size=cells.shape[:-1])
        states = rng.integers(np.arange(1, self.nodes + 1)[:, None], size=cells.shape[:-1])
        cells[..., 1] = np.where(resampled[..., 1], names, cells[..., 1])
        for slot in (0, 1):
            inputs = _skipping(cells[:, :, 1 - slot, 0], states[:, :, slot])
            cells[:, :, slot, 0] = np.where(resampled[:, :, slot, 0], inputs, cells[:, :, slot, 0])
        return cells.reshape(-1)

    def canonical(self, genome: Genome) -> Genome:
        """One genome for all genomes of isomorphic cells: sorted pairs of each node, canonical order of nodes.

        Sorting changes no bit of the network's output; another order of nodes gives the same network with permuted
        weights of the layers that read the cell. Cells that are equal only by arithmetic, such as two ways to add up
        the same skip connections, keep different genomes: they round differently.
        """
        listed = [
            canonical_nodes(tuple((tuple(first), tuple(second)) for first, second in cell))
            for cell in self._cells(genome).tolist()
        ]
        return np.array(listed, dtype=np.int64).reshape(-1)

    def violation(self, genome: Genome) -> float:
        """Number of nodes that read the same input twice; 0 is feasible."""
        cells = self._cells(genome)
        return float((cells[:, :, 0, 0] == cells[:, :, 1, 0]).sum())

    def cover(self) -> Iterator[Genome]:
        """Genomes whose networks have every layer of the space between them, the slowest network among them.

        One for each operation, on the inputs of the cells alone, and one for each on the last two states.
        """
        for operation in range(len(OPERATIONS)):
            for first in (np.zeros(self.nodes, dtype=np.int64), np.arange(self.nodes)):
                cell = np.full((self.nodes, 2, 2), operation, dtype=np.int64)
                cell[:, 0, 0], cell[:, 1, 0] = first, first + 1
                yield np.tile(cell.reshape(-1), 2)

    def genotype(self, genome: Genome) -> Genotype:
        """Cells of a genome in the notation of DARTS, with pairs and nodes in the order of the genome."""
        normal, reduce = (
            [(OPERATIONS[name], state) for node in cell for state, name in node]
            for cell in self._cells(genome).tolist()
        )
        concat = range(2, self.nodes + 2)
        return Genotype(normal, concat, reduce, concat)  # type: ignore[arg-type]  # accepts lists and ranges

    def from_genotype(self, genotype: Genotype) -> Genome:
        """Genome of a genotype, in the order of the genotype.

        Raises:
            ConfigurationError (a ValueError): cells with another number of nodes, or with nodes missing in the output.
        """
        whole = tuple(range(2, self.nodes + 2))
        for kind, pairs, concat in (
            ("normal", genotype.normal, genotype.normal_concat),
            ("reduction", genotype.reduce, genotype.reduce_concat),
        ):
            if len(pairs) != 2 * self.nodes or concat != whole:
                raise ConfigurationError(
                    f"expected a {kind} cell of {self.nodes} nodes, all of them in its output, for space "
                    f"{self.name!r}, got {len(pairs) // 2} nodes, and {list(concat)} in its output"
                )
        genes = [(state, OPERATIONS.index(name)) for name, state in (*genotype.normal, *genotype.reduce)]
        return np.array(genes, dtype=np.int64).reshape(-1)

    def build(
        self,
        genome: Genome,
        n_classes: int = 10,
        channels: int | None = None,
        in_channels: int = 3,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
        auxiliary: bool = False,
    ) -> "DartsNetwork":
        """Network of a genome, from (B, in_channels, H, W) images in [0, 1] to (B, n_classes) logits.

        Args:
            channels: width of a node of the first cell; None: that of the space.
            normalization: (mean, deviation) per channel become the first layer; None: the bare network.
            auxiliary: add the auxiliary head that training uses.
        """
        from evonas.networks.darts import DartsNetwork

        return DartsNetwork(
            self.genotype(genome),
            self.channels if channels is None else channels,
            self.layers,
            n_classes,
            auxiliary=auxiliary,
            in_channels=in_channels,
            normalization=normalization,
            stem=self.stem,
        )

    def cost(
        self,
        genome: Genome,
        n_classes: int = 10,
        channels: int | None = None,
        in_channels: int = 3,
        image_size: int | None = None,
    ) -> Cost:
        """Parameters and MACs of the network by table lookup, equal to those of the built network."""
        cells = self._cells(genome)
        fixed, params, macs = self._tables(n_classes, channels, in_channels, image_size)
        node = np.arange(2, self.nodes + 2)[:, None]
        edge = (node - 2) * (node + 1) // 2 + cells[..., 0]  # (2, nodes, 2); node k has k inputs
        chosen = np.array([0, 1])[:, None, None], edge, cells[..., 1] + 1
        return Cost(fixed.params + int(params[chosen].sum()), fixed.macs + int(macs[chosen].sum()))

    def max_cost(
        self, n_classes: int = 10, channels: int | None = None, in_channels: int = 3, image_size: int | None = None
    ) -> Cost:
        """Largest parameters and largest MACs of feasible genomes; not necessarily of the same genome."""
        fixed, *tables = self._tables(n_classes, channels, in_channels, image_size)
        most = []
        for table in tables:
            dearest = np.split(
                table.max(axis=2), np.cumsum(np.arange(2, self.nodes + 1)), axis=1
            )  # one part for each node
            most.append(sum(int(np.sort(part, axis=1)[:, -2:].sum()) for part in dearest))
        return Cost(fixed.params + most[0], fixed.macs + most[1])

    def describe(self, genome: Genome) -> str:
        """Sum of every node, e.g. `normal: 2 = sep_conv_3x3(0) + skip_connect(1), 3 = ... | reduce: ...`."""
        genotype = self.genotype(genome)
        cells = []
        for kind, pairs in (("normal", genotype.normal), ("reduce", genotype.reduce)):
            terms = [f"{name}({state})" for name, state in pairs]
            nodes = [f"{2 + first // 2} = {terms[first]} + {terms[first + 1]}" for first in range(0, len(terms), 2)]
            cells.append(f"{kind}: {', '.join(nodes)}")
        return " | ".join(cells)

    def _tables(
        self, n_classes: int, channels: int | None, in_channels: int, image_size: int | None
    ) -> tuple[Cost, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        width = self.channels if channels is None else channels
        size = self.image_size if image_size is None else image_size
        costs = operation_costs(width, self.layers, True, self.nodes, size, self.stem)
        fixed = fixed_cost(width, self.layers, self.nodes, size, n_classes, in_channels, self.stem)
        return fixed, costs.params, costs.macs

    def _cells(self, genome: Any) -> npt.NDArray[np.int64]:
        """(2, nodes, 2, 2): cell, node, pair, (input, operation)."""
        return self._checked(genome).reshape(2, self.nodes, 2, 2)

    def _checked(self, genome: Any) -> Genome:
        genes = as_genome(genome, self.n_genes, self.name)
        if (genes < 0).any() or (genes > self._upper).any():
            raise ValueError(
                f"expected genes of 0 to {self._upper.tolist()} in space {self.name!r}, got {genes.tolist()}"
            )
        return genes


def _skipping(excluded: npt.NDArray[np.int64], drawn: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Map numbers 0 to k - 2 to the numbers 0 to k - 1 without `excluded`, in order."""
    return drawn + (drawn >= excluded)


def _node(nodes: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    return rng.random((2, nodes)) < 0.5


def _cell(nodes: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    return np.repeat(np.arange(2) == rng.integers(2), nodes)


DARTS_CROSSOVERS: dict[str, Callable[[int, np.random.Generator], npt.NDArray[np.bool_]]] = {
    "cell": _cell,
    "node": _node,
}
"""Name -> function of (nodes, rng) -> (2 * nodes,) mask of the nodes to swap."""
