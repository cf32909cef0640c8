"""Probabilities of the cells that are derived: a differentiable form of the rule of the two strongest edges.

Edges and operations compete by their odds. An operation whose weight is p (in PC-DARTS times the edge's share of the
node) has odds p / (1 - p); an edge has those of its strongest operation other than `none`. Every pair of the edges into
a node is kept with a probability in proportion to the product of their odds, each to the power 1 / temperature, and on
a kept edge every operation stands in proportion to its own odds to that power. Toward temperature 0 all probability
goes to the cells of `derive_genotype`, since odds grow with the weight. Unlike logarithms of weights, those of odds
still tell edges apart whose weights are all nearly 1.
"""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["derived_probabilities", "log_odds"]

TINY = torch.finfo(torch.float64).tiny
"""Instead of 0 in a logarithm."""


def log_odds(probabilities: Tensor, shares: Tensor | None = None) -> Tensor:
    """(2, edges, 8) logarithm of each operation's odds in float64, at most about 708 in size; differentiable.

    Args:
        probabilities: (2, edges, 8) of the operations of every edge; their sum is 1 at each.
        shares: (2, edges) of the edges into each node (PC-DARTS), whose sum is 1 at each node; None: no such shares.
    """
    inside = probabilities.double()
    outside = inside @ _others(torch.zeros(inside.shape[-1], dtype=torch.int64)).to(inside)
    if shares is not None:
        own = shares.double()
        rest = own @ _others(_nodes(own.shape[-1])).to(own)
        inside, outside = inside * own[..., None], outside + inside * rest[..., None]
    return inside.clamp(min=TINY).log() - outside.clamp(min=TINY).log()


def derived_probabilities(odds: Tensor, temperature: float) -> Tensor:
    """(2, edges, 8) probability that a derived cell has this operation on this edge; their sum is 2 at each node.

    Args:
        odds: (2, edges, 8) from `log_odds`.
        temperature: > 0; 1: in proportion to the odds themselves.
    """
    sharpened = odds[..., 1:] / temperature  # all but `none`
    strengths = sharpened.amax(dim=-1)  # (2, edges)
    nodes = _nodes(strengths.shape[-1])
    kept = [_kept(into) for into in torch.split(strengths, torch.bincount(nodes).tolist(), dim=-1)]
    chosen = torch.cat(kept, dim=-1)[..., None] * sharpened.softmax(dim=-1)
    return functional.pad(chosen, (1, 0))


def _kept(strengths: Tensor) -> Tensor:
    """(2, k) probability of each edge of a node to be one of the two that are kept."""
    both = torch.combinations(torch.arange(strengths.shape[-1]))  # (k (k - 1) / 2, 2)
    members = functional.one_hot(both).sum(dim=1).to(strengths)  # 1 for the two edges of each pair
    pairs = (strengths @ members.t()).softmax(dim=-1)
    return pairs @ members


def _nodes(edges: int) -> Tensor:
    """(edges,) number of the node that each edge leads to, from 0: two edges, then three, ...."""
    sizes: list[int] = []
    while sum(sizes) < edges:
        sizes.append(2 + len(sizes))
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def _others(groups: Tensor) -> Tensor:
    """(n, n) matrix that sums over the others of the same group; a difference from 1 would lose small ones."""
    return (groups[:, None] == groups[None]).double().fill_diagonal_(0)
