"""Equal cells of NAS-Bench-201, by the benchmark's own notion: 6,466 classes of 15,625 cells."""

import functools
import itertools

import numpy as np
import numpy.typing as npt

from evonas.networks.nasbench201_plan import EDGES, OPERATIONS, live_edges

__all__ = ["canonical_cells"]

Genes = tuple[int, ...]


@functools.cache
def canonical_cells() -> npt.NDArray[np.int64]:
    """(5, 5, 5, 5, 5, 5, 6) canonical genes of every cell, read-only; indexed by its genes.

    Of equal cells it is the one with the most convolutions that are used, then with the fewest edges that carry
    nothing, then the first one. The benchmark takes a convolution that is read twice for two equal ones; the cell that
    stands for both has two, whose weights may be equal.
    """
    classes: dict[str, Genes] = {}
    cells = list(itertools.product(range(len(OPERATIONS)), repeat=len(EDGES)))
    expressions = [_expression(cell) for cell in cells]
    for expression, cell in sorted(zip(expressions, cells, strict=True), key=lambda each: _preference(each[1])):
        classes.setdefault(expression, cell)
    table = np.array([classes[expression] for expression in expressions], dtype=np.int64)
    table.setflags(write=False)
    return table.reshape(*[len(OPERATIONS)] * len(EDGES), len(EDGES))


def _expression(cell: Genes) -> str:
    """The output of a cell as a formula of its input, in the benchmark's form (`Structure.to_unique_str`).

    A skip connection is what it reads, `none` and what reads nothing are `#`, and the terms of each node are sorted as
    text, by the names of operations. Sums of several `#`, and sums inside sums, stay as they are: the benchmark counts
    by that.
    """
    nodes = ["0"]
    edges = iter(zip(EDGES, cell, strict=True))
    for node in range(1, 4):
        terms = []
        for (start, _), gene in itertools.islice(edges, node):
            name, read = OPERATIONS[gene], nodes[start]
            if name == "none" or read == "#":
                terms.append("#")
            else:
                terms.append(read if name == "skip_connect" else f"({read})@{name}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def _preference(cell: Genes) -> tuple[int, int, Genes]:
    """Order of cells within a class, the best first."""
    names = [OPERATIONS[gene] for gene in cell]
    live = live_edges(names)
    convolutions = sum(lives and name.startswith("nor_conv") for name, lives in zip(names, live, strict=True))
    idle = sum(name != "none" and not lives for name, lives in zip(names, live, strict=True))
    return -convolutions, idle, cell
