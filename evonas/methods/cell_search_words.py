"""What the screen says of a search of cells: its beginning, an epoch, a warning, the cells of a wanted size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from evonas.gradient import METRICS, ExpectedCost, GradientSearch, Mgda, Sum
from evonas.methods.recipes import recipe_words
from evonas.networks.darts import Genotype
from evonas.spaces.darts_costs import fixed_cost

if TYPE_CHECKING:
    from evonas.methods.cell_search import CellSearch

__all__ = ["compact", "described", "fitted", "opening", "warning"]

MOST = 0.95
"""Share of the steps beyond which a warning comes."""

SIZES = ("expected", "derived", "delivered")
"""Networks whose size an epoch tells, where a search is held to one."""

UNITS = {"size": "M", "macs": "M multiply-adds", "latency_ms": " ms"}
"""End of a column's name -> unit on the screen."""


def opening(plan: CellSearch, search: GradientSearch) -> str:
    weights = sum(weight.numel() for weight in search.levels.weights)
    order = {1: "first", 2: "second"}[plan.method.config.order]
    return (
        f"{plan.name}: supernet of {weights:,} weights, {plan.method.epochs} epochs of {search.steps} steps, {order} "
        f"order, {len(search.data.below)} images below and {len(search.data.above)} above, {plan.precision}"
        f"{_trained_by(plan)}{_limit(plan)}"
    )


def _limit(plan: CellSearch) -> str:
    """L, and its network or the parameters that N-hat leaves out, or the preferences; empty where there are none."""
    share = plan.method.size_share
    if share is not None:
        least, most = share.sizes
        eager = "; no step is replayed as a CUDA graph" if torch.device(plan.device).type == "cuda" else ""
        return (
            f"; {plan.method.architectures} preferences take turns, a step each, for networks of {least:.3g} to "
            f"{most:.3g}M parameters with {share.channels} channels and {share.layers} cells{eager}"
        )
    size = plan.method.size
    if size is not None:
        limits = " and ".join(f"{each.letter} = {each.limit:g}{each.unit}" for each in plan.method.limits)
        return (
            f"; {limits} of the delivered network, within {100 * size.within:.2g}%, with "
            f"{size.channels} channels and {size.layers} cells (--cost-channels, --cost-layers)"
        )
    cost = next((loss for loss in plan.method.upper if isinstance(loss, ExpectedCost) and loss.kind == "params"), None)
    if cost is None:
        return ""
    fixed = fixed_cost(cost.channels, cost.layers, cost.nodes, cost.image_size, plan.data.n_classes, 3).params
    return (
        f"; L = {cost.limit:g}M of N-hat, the operations of all edges; besides, every network has {fixed / 1e6:.6f}M "
        "in stem, inputs of cells and classifier"
    )


def _trained_by(plan: CellSearch) -> str:
    """Recipe of the weights; empty where they descend the method's own loss."""
    recipe = plan.method.recipe
    return "" if recipe is None else f", weights by {recipe_words(recipe)}"


def described(row: Mapping[str, Any]) -> str:
    """An epoch in a line."""
    if "preferences" in row:
        parts = row["preferences"]
        found = ", ".join(f"{part['delivered_size']:.3f}" for part in parts)
        return f"loss {row['train_loss']:.3f}, cells of {len(parts)} preferences: {found}M parameters"
    shares = _shares(row)
    parts = ", ".join(f"{name.removesuffix('_loss')} {100 * share:.3g}%" for name, share in shares.items())
    descends = any(name.startswith("upper_") for name in row)
    above = f"shares of the {_when(row)} {parts}" if shares else "the objective above" if descends else "weights alone"
    if shares.keys() & METRICS.keys():
        *_, metric, loss = shares.values()
        above += f" (the metric's gradient is {metric / loss:.3g} times the loss's)" if loss else ""
    metrics = {
        "jacobian_norm": "Jacobian norm",
        "squared_jacobian": "squared Jacobian norm",
        "certified_bound": "certified bound",
        "certified_difference": "bounds apart",
        "epsilon": "epsilon now",
    }
    found = "".join(f", {label} {row[name]:.4g}" for name, label in metrics.items() if name in row)
    sizes = ", ".join(
        f"{row[f'{kind}_{column}']:.3f}{unit} {kind}"
        for column, unit in UNITS.items()
        for kind in SIZES
        if f"{kind}_{column}" in row
    )
    return (
        f"loss {row['train_loss']:.3f}, {above}{found}, entropy {row['entropy_normal']:.3f} and "
        f"{row['entropy_reduce']:.3f}, N-hat {row['expected_params']:.3f}M{sizes and f', network {sizes}'}; "
        f"{row['genotype']}"
    )


def _shares(row: Mapping[str, Any]) -> dict[str, float]:
    """Name of an upper loss -> its share of the architecture's steps in an epoch; see `_when`."""
    return {name.removeprefix("share_"): value for name, value in row.items() if name.startswith("share_")}


def _when(row: Mapping[str, Any]) -> str:
    """The steps that shares are of: parts of a sum, which have no weights of their own, are measured at the first."""
    return "steps" if any(f"weight_{name}" in row for name in _shares(row)) else "first step"


def warning(plan: CellSearch, row: Mapping[str, Any]) -> str:
    """A line where one objective made nearly all of an epoch's steps; else empty.

    Of several preferences, where all steps of one were zero: on the way into a cone one objective may well make them.
    """
    if any(_stood(part) for part in row.get("preferences", ())):
        return (
            f"warning: {plan.name}: all steps of the architecture of a preference were zero in an epoch "
            f"(weight_* in {plan.file('search')}.csv), so that its cells stayed as they were"
        )
    most = [name for name, share in _shares(row).items() if share > MOST]
    if not most:
        return ""
    method, remedy = plan.method, ""
    combine = method.combine
    if isinstance(combine, Mgda) and combine.applied_to == "raw" and combine.normalisation != "none":
        remedy = "; --weights-on normalised lets all count"
    elif any(isinstance(loss, Sum) for loss in method.upper):
        remedy = "; --metric-share 0.5 makes both count alike"
    return (
        f"warning: {plan.name}: {most[0]} made over {MOST:.0%} of the architecture's {_when(row)} in an epoch "
        f"(share_{most[0]} in {plan.file('search')}.csv), so that hardly anything else was minimised{remedy}"
    )


def _stood(part: Mapping[str, Any]) -> bool:
    """Whether a preference had steps in an epoch, and its objectives had no weight in them but rounding."""
    weights = [value for name, value in part.items() if name.startswith("weight_")]
    return bool(weights) and max(map(abs, weights)) < 1e-9


def fitted(plan: CellSearch, search: GradientSearch) -> str:
    """A line on cells that were exchanged for others of the wanted size; empty where none were."""
    size = plan.method.size
    derived, delivered = search.derived, search.genotype
    if size is None or delivered == derived:
        return ""
    changed = f"{size.changed(derived, delivered)} of {2 * len(delivered.normal)}"
    had = " and ".join(f"{each.of(derived):.3f}{each.unit}" for each in plan.method.limits)
    has = " and ".join(
        f"{each.of(delivered):.3f}{each.unit} for {each.letter} = {each.limit:g}" for each in plan.method.limits
    )
    fits = all(each.holds(delivered) for each in plan.method.limits)
    which = "the strongest that fit" if fits else "the nearest that were found, since none fits"
    return (
        f"{plan.name}: the derived network has {had}, the delivered one {has}: {changed} operations are others, {which}"
    )


def compact(genotype: Genotype) -> str:
    """Cells in a line: `normal sep3(0) skip(1) | ... ; reduce ...`, two operations a node with what they read."""
    short = {
        "skip_connect": "skip",
        "sep_conv_3x3": "sep3",
        "sep_conv_5x5": "sep5",
        "dil_conv_3x3": "dil3",
        "dil_conv_5x5": "dil5",
        "max_pool_3x3": "max",
        "avg_pool_3x3": "avg",
    }
    cells = []
    for name, pairs in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        words = [f"{short[operation]}({source})" for operation, source in pairs]
        cells.append(f"{name} " + " | ".join(" ".join(words[i : i + 2]) for i in range(0, len(words), 2)))
    return "; ".join(cells)
