"""The study `supernet`: which training and which batch statistics let a supernet predict networks trained alone?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean

from evonas.report import TextTable
from evonas.report.papers.beyond import Scattered, draw_curves, draw_scattered
from evonas.studies.association import FEWEST, Effect, Groups, Point, effect, kendall, partial_spearman
from evonas.studies.intervals import Difference, spread
from evonas.studies.study import Item, Studied, Study, read_rows
from evonas.studies.supernet_runs import ALONE, RECALIBRATIONS, REFERENCE, SAMPLINGS, cells, group, read, untrained
from evonas.studies.tables import DASH, NOTE, difference_cell, spread_cell

__all__ = ["STUDY"]

ERRORS = {"clean_error": "clean error", "pgd_error": "PGD error"}
"""Errors that both networks have; PGD has ten steps within 8/255, in quick within 2/255."""
TAU = (
    "Kendall's tau-b between the errors of random networks with inherited weights (validation images) and those of the "
    "same networks trained alone (test images), the mean over seeds: 1 for the same order, 0 for none. [low, high]: "
    "95% of 1,000 resamples of seeds (of two or more) and networks, from a fixed seed. (n): networks of the seeds "
    "behind it. A seed in which all networks have one error has no order, one of two networks says nothing, and both "
    f"are left out; no tau of fewer than {FEWEST} networks."
)
LEAST = 3
"""Networks that a seed's tau needs: two are always in the same or in the opposite order."""


def by_seed(
    studied: Studied, label: str, column: str, other: str = "", all_trained: bool = False
) -> dict[int, tuple[Point, ...]]:
    """Seed -> networks of a setting: their error, and that of the same one trained alone, or another column."""
    alone = {(row["seed"], row["arch_id"]): row for row in studied.labelled(ALONE)}
    found: dict[int, list[Point]] = {}
    for row in studied.labelled(label):
        final = row if other else alone.get((row["seed"], row["arch_id"]), {})
        value = final.get(other or column)
        if isinstance(value, float | int) and column in row and not (all_trained and row["untrained_choices"]):
            found.setdefault(row["seed"], []).append(Point(True, 1.0, 0.0, float(row[column]), float(value)))
    return {seed: tuple(found[seed]) for seed in sorted(found)}


def points(studied: Studied, label: str, column: str, other: str = "", all_trained: bool = False) -> Groups:
    """`by_seed` without the numbers of the seeds."""
    return tuple(by_seed(studied, label, column, other, all_trained).values())


@lru_cache(maxsize=64)
def tau(groups: Groups) -> Effect | None:
    return _over_seeds(groups, kendall)


def _over_seeds(groups: Groups, statistic: Callable[[Groups], float]) -> Effect | None:
    """A statistic over the seeds that have it, with the number of their networks; None of fewer than `FEWEST`."""
    used = tuple(own for own in groups if len(own) >= LEAST and math.isfinite(statistic((own,))))
    return effect(used, statistic) if sum(map(len, used)) >= FEWEST else None


def _settings() -> Iterator[tuple[str, str]]:
    yield from ((sampling, recalibration) for sampling in SAMPLINGS for recalibration in RECALIBRATIONS)


def _tau_cell(found: Effect | None) -> str:
    return difference_cell(None if found is None else Difference(*found))


def predictions(studied: Studied) -> list[TextTable]:
    """Kendall's tau of every setting, and what it is more or less than the paper's."""
    lines = []
    for each in _settings():
        cells = [_tau_cell(tau(points(studied, group(*each), column))) for column in ERRORS]
        more = [_tau_cell(gained(studied, group(*each), column)) for column in ERRORS]
        lines.append((*each, *cells, *((DASH, DASH) if group(*each) == REFERENCE else more)))
    header = (
        *("Sampling", "Recalibration", *(f"tau, {each}" for each in ERRORS.values())),
        *(f"more than the paper's, {each}" for each in ERRORS.values()),
    )
    paired = (
        f"more than the paper's: tau minus that of {REFERENCE}, over the networks of the seeds in which both have one"
    )
    notes = (NOTE, TAU, f"{paired}, resampled together.")
    title = f"What a supernet's error says of networks that are trained alone; {studied.data('cifar10')}"
    return [TextTable(title, header, tuple(lines), notes)]


def gained(studied: Studied, label: str, column: str) -> Effect | None:
    """Tau of a setting minus that of the reference, over networks that both have scored."""
    alone = {(row["seed"], row["arch_id"]): row for row in studied.labelled(ALONE)}
    own = {(row["seed"], row["arch_id"]): row for row in studied.labelled(label)}
    found: dict[int, list[Point]] = {}
    for row in studied.labelled(REFERENCE):
        key = row["seed"], row["arch_id"]
        values = [each.get(column) for each in (alone.get(key, {}), row, own.get(key, {}))]
        if all(isinstance(each, float | int) for each in values):
            final, before, after = map(float, values)  # type: ignore[arg-type]
            found.setdefault(key[0], []).append(Point(True, before, 0.0, after, final))
    return _gained(tuple(tuple(found[seed]) for seed in sorted(found)))


@lru_cache(maxsize=64)
def _gained(groups: Groups) -> Effect | None:
    def more(drawn: Groups) -> float:
        """Mean of the differences of the seeds in which both have a tau."""
        reference = [tuple(each._replace(value=each.macs) for each in own) for own in drawn]
        gains = [kendall((own,)) - kendall((before,)) for own, before in zip(drawn, reference, strict=True)]
        finite = [gain for gain in gains if math.isfinite(gain)]
        return fmean(finite) if finite else math.nan

    return _over_seeds(groups, more)


def coverage(studied: Studied) -> list[TextTable]:
    """Choices that each sampling never trains, and whether errors of the supernet follow from that."""
    lines = []
    for sampling in SAMPLINGS:
        label = group(sampling, "clean")
        of = [cell for cell in studied.finished if cell.group == label]
        never = [untrained(studied.runs / cell.folder) for cell in of]
        every = [cell.options.space(32).choices() for cell in of]
        shares: dict[int, list[float]] = {}
        for row in studied.labelled(label):
            shares.setdefault(row["seed"], []).append(100 * row["untrained_choices"] / row["all_choices"])
        lines.append(
            (
                sampling,
                spread_cell(spread(len(each) for each in never), 1),
                str(len(every[0])) if every else DASH,
                spread_cell(spread(_blocks(all_of, left) for all_of, left in zip(every, never, strict=True)), 1),
                spread_cell(spread(map(fmean, shares.values())), 1),
                _follows(points(studied, label, "pgd_error", "untrained_choices")),
                _tau_cell(tau(points(studied, label, "pgd_error", all_trained=True))),
            )
        )
    header = (
        *("Sampling", "(layer, block, ratio) never trained", "of", "(layer, block) never trained"),
        *(
            "% of a random network's layers",
            "Spearman: PGD error, untrained layers",
            "tau, PGD, fully trained networks",
        ),
    )
    notes = (
        "Never trained: drawn in no step of the supernet's training, so that its weights are as they were drawn, or "
        "trained for other ratios; the search ranks such networks like all others. Of runs with clean recalibration.",
        NOTE,
        TAU,
    )
    title = f"Choices that a supernet's training covers; {studied.data('cifar10')}"
    return [TextTable(title, header, tuple(lines), notes)]


def _blocks(every: set[tuple[int, int, int]], never: set[tuple[int, int, int]]) -> int:
    """Number of (layer, block) of which no ratio was trained."""
    return len({choice[:2] for choice in every} - {choice[:2] for choice in every - never})


def _follows(groups: Groups) -> str:
    found = partial_spearman(groups, ())
    return DASH if math.isnan(found) else f"{found:+.2f} ({sum(map(len, groups))})"


def findings(studied: Studied) -> Iterator[str]:
    """Which setting predicts best, and whether it is told apart from the paper's."""
    for column, words in ERRORS.items():
        yield from _without_order(studied, column, words)
        taus = {group(*each): tau(points(studied, group(*each), column)) for each in _settings()}
        known = {name: found for name, found in taus.items() if found is not None}
        if not known:
            yield f"{words}: nothing yet."
            continue
        best = max(known, key=lambda name: known[name].value)
        yield f"{words}: {best} predicts best, tau {_tau_cell(known[best])}; {_beside(studied, best, column, known)}."
        above = [name for name, found in known.items() if found.low > 0]
        yield (
            f"{words}: {len(above)} of {len(known)} settings have an interval above 0, so that they order networks "
            f"better than chance{': ' + '; '.join(above) if above else ''}."
        )
    for sampling in SAMPLINGS:
        of = [cell for cell in studied.finished if cell.group == group(sampling, "clean")]
        if of:
            counts = [len(untrained(studied.runs / cell.folder)) for cell in of]
            every = len(of[0].options.space(32).choices())
            shown = spread_cell(spread(counts), 1)
            yield f"Sampling {sampling}: {shown} of {every} (layer, block, ratio) are never trained."


def _without_order(studied: Studied, column: str, words: str) -> Iterator[str]:
    """Settings, and networks trained alone, that all have one error in some seeds."""
    labels = (ALONE, *(group(*each) for each in _settings()))
    found = {label: equal for label in labels if (equal := _equal(studied, label, column))}
    if found:
        shown = "; ".join(f"{label} (seed {', '.join(map(str, seeds))})" for label, seeds in found.items())
        yield f"{words}: every network has the same one, so that nothing is ordered: {shown}."


def _equal(studied: Studied, label: str, column: str) -> list[int]:
    """Seeds in which the networks have one error."""
    errors: dict[int, list[float]] = {}
    for row in studied.labelled(label):
        if isinstance(row.get(column), float | int):
            errors.setdefault(row["seed"], []).append(row[column])
    return [seed for seed in sorted(errors) if len(errors[seed]) > 1 and len(set(errors[seed])) == 1]


def _beside(studied: Studied, best: str, column: str, known: Mapping[str, Effect]) -> str:
    if best == REFERENCE:
        return "it is the paper's own"
    if REFERENCE not in known:
        return f"{REFERENCE}, the paper's, is not measured"
    more = gained(studied, best, column)
    if more is None or math.isnan(more.low):
        return f"{REFERENCE}, the paper's, has {_tau_cell(known[REFERENCE])}"
    shown = "whose interval holds 0: no gain is shown"
    if more.low > 0:
        few = f", in {studied.seeds} seed(s), which are too few for a sound interval" if studied.seeds < FEWEST else ""
        shown = f"better; chosen as the best of {len([*_settings()])}, which the interval is not corrected for{few}"
    return f"{_tau_cell(more)} more than {REFERENCE}, the paper's, {shown}"


def draw_predictions(studied: Studied, path: Path) -> bool:
    panels = []
    for each in _settings():
        groups = {
            f"seed {seed}": [(100 * point.other, 100 * point.value) for point in own]
            for seed, own in by_seed(studied, group(*each), "pgd_error").items()
        }
        panels.append(Scattered(group(*each), "trained alone: PGD error (%)", "supernet: PGD error (%)", groups))
    return draw_scattered(path, panels, f"Random networks, {studied.data('cifar10')}", across=3)


def draw_coverage(studied: Studied, path: Path) -> bool:
    curves: dict[str, Sequence[Sequence[float]]] = {}
    for sampling in SAMPLINGS:
        of = [cell for cell in studied.finished if cell.group == group(sampling, "clean")]
        rows = [read_rows(studied.runs / cell.folder / "supernet.csv") for cell in of]
        curves[sampling] = [[float(row["untrained"]) for row in each if "untrained" in row] for each in rows]
    title = f"(layer, block, ratio) that were never trained, {studied.data('cifar10')}"
    return draw_curves(path, curves, title, "epoch of the supernet's training", "choices never trained")


STUDY = Study(
    name="supernet",
    paper="TAM-NAS (Xie et al., 2021), beyond the paper: what makes a supernet predict networks trained alone.",
    cells=cells,
    read=read,
    findings=findings,
    notes=(
        "Random networks, uniform over the space and the same in all runs of a seed, are scored with weights of each "
        "supernet and trained alone, once. Fronts would say less: they are chosen by the supernet's own errors.",
        "Sampling: a network for some epochs (the paper), for every batch, or for every batch with each choice equally "
        "often. Recalibration: batch statistics of each network measured on clean or on attacked images, or off: those "
        "of the supernet.",
    ),
    items=(
        Item("Table predictions", "Kendall's tau over random networks", "no paper has it", predictions),
        Item("Table coverage", "choices that were never trained", "no paper has it", coverage),
        Item("Fig. predictions", "errors in the supernet and trained alone", "no paper has it", draw=draw_predictions),
        Item("Fig. coverage", "choices never trained, epoch by epoch", "no paper has it", draw=draw_coverage),
    ),
)
