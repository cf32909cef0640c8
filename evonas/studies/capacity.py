"""The study `capacity`: does RoCo-NAS's third objective give robustness that size and clean error do not explain?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from evonas.methods.roco_retraining import RetrainOptions
from evonas.report import TextTable
from evonas.report.papers.beyond import Scattered, draw_effects, draw_scattered
from evonas.studies import roco
from evonas.studies.association import (
    CLEAN_CALIPER,
    FEWEST,
    MACS_CALIPER,
    Effect,
    Groups,
    Point,
    adjusted_difference,
    effect,
    matched,
    mean_difference,
    pairs,
    partial_spearman,
)
from evonas.studies.grid import Cell
from evonas.studies.intervals import Difference
from evonas.studies.study import Item, Row, Studied, Study
from evonas.studies.tables import DASH, difference_cell

__all__ = ["STUDY"]

RECORD = "capacity.json"
BASELINE, ROCO = "Baseline-NAS", "RoCo-NAS"
BESIDE = ("clean_on_all", "autoattack_1")
"""Measurements besides those of the study roco: networks are matched by clean errors on all test images."""
CLEAN = "clean_on_all_error"
ERRORS = {
    "adversarial_set_error": "searched adversarial set",
    "second_set_error": "set that no search saw",
    "pgd_error": "PGD 1/255",
    "autoattack_1_error": "AutoAttack 1/255",
}
"""Column -> robust error: two transferred ones, two white-box ones within the same radius."""
CONTROLS: Mapping[str, Callable[[Point], float]] = {
    "MACs": lambda each: each.macs,
    "clean error": lambda each: each.clean,
}

INTERVAL = (
    "[low, high]: 95% of 1,000 resamples from a fixed seed: of the seeds, where there are two or more, and of the "
    "networks of both methods in each; of few seeds and networks it is too narrow. None of fewer than five matched "
    "networks of either method."
)
MATCHED = (
    "At equal size and clean error: every pair of a RoCo-NAS and a Baseline-NAS network of one seed whose MACs "
    f"differ by no more than {100 * (MACS_CALIPER - 1):.0f}% and whose clean errors by no more than "
    f"{100 * CLEAN_CALIPER:.0f} points; the mean over pairs, then over seeds. Regression: the coefficient of RoCo-NAS "
    "beside log MACs, clean error and seeds. RoCo-NAS minus Baseline-NAS, in points of error: below 0, RoCo-NAS is the "
    "more robust."
)


def cells(preset: str, seeds: int) -> Iterator[Cell]:
    """The runs of the study roco, with AutoAttack and all clean test images, too."""
    for cell in roco.STUDY.cells(preset, seeds):
        if cell.group == ROCO:
            after = cell.options.after
            cell = replace(cell, options=replace(cell.options, after=replace(after, suite=(*after.suite, *BESIDE))))
        yield replace(cell, record=RECORD)


class Compared(NamedTuple):
    """A robust error of both methods' networks."""

    plain: Effect | None
    matched: Effect | None
    adjusted: Effect | None
    imbalance: tuple[float, float] | None
    """Mean ratio of MACs and mean difference of clean errors of the pairs."""


def on_both(rows: Sequence[Row]) -> set[tuple[int, str]]:
    """(seed, arch_id) of networks that both searches found: one training, which says nothing of either."""
    found = [{(row["seed"], str(row["arch_id"])) for row in rows if row["label"] == name} for name in (BASELINE, ROCO)]
    return found[0] & found[1]


def points(rows: Sequence[Row], column: str, other: str = "macs") -> Groups:
    """Networks with all values that one method alone has found, seed by seed."""
    found: dict[int, list[Point]] = {}
    both = on_both(rows)
    for row in rows:
        if (row["seed"], str(row["arch_id"])) in both:
            continue
        needed = [row.get(name) for name in ("macs", CLEAN, column, other)]
        if all(isinstance(each, float | int) for each in needed):
            macs, clean, value, beside = map(float, needed)  # type: ignore[arg-type]
            point = Point(row["label"] == ROCO, macs, clean, value, beside, str(row["arch_id"]))
            found.setdefault(row["seed"], []).append(point)
    return tuple(tuple(found[seed]) for seed in sorted(found))


@lru_cache(maxsize=2 * len(ERRORS))
def compared(groups: Groups) -> Compared:
    """All differences of one robust error."""
    if not groups:
        return Compared(None, None, None, None)
    every = [pair for group in groups for pair in pairs(group)]
    balance = None
    if every:
        ratio = math.exp(sum(math.log(first.macs / second.macs) for first, second in every) / len(every))
        balance = ratio, sum(first.clean - second.clean for first, second in every) / len(every)
    return Compared(
        effect(groups, mean_difference),
        matched(groups),
        effect(groups, adjusted_difference),
        balance,
    )


def _all(studied: Studied) -> Mapping[str, Compared]:
    return {column: compared(points(studied.rows, column)) for column in ERRORS}


def _cell(found: Effect | None, scale: float = 100.0) -> str:
    if found is None:
        return DASH
    own = Difference(scale * found.value, scale * found.low, scale * found.high, found.n)
    return difference_cell(own)


def differences(studied: Studied) -> list[TextTable]:
    lines = []
    for column, words in ERRORS.items():
        found = _all(studied)[column]
        balance = DASH
        if found.imbalance is not None:
            balance = f"x{found.imbalance[0]:.3f}, {100 * found.imbalance[1]:+.2f}"
        lines.append((words, _cell(found.plain), _cell(found.matched), balance, _cell(found.adjusted)))
    header = (
        *("Robust error", "Difference of means (networks)", "At equal size and clean error (pairs)"),
        *("What is left: MACs, clean error", "Regression (networks)"),
    )
    title = f"Robust error of RoCo-NAS minus that of Baseline-NAS, in points; {studied.data('cifar10')}"
    notes = MATCHED, _left_out(studied), _noise(studied.data("cifar10")), INTERVAL
    return [TextTable(title, header, tuple(lines), notes)]


def _left_out(studied: Studied) -> str:
    """Number of networks that say nothing of either method."""
    every = {(row["seed"], str(row["arch_id"])) for row in studied.rows}
    return (
        f"{len(on_both(studied.rows))} of {len(every)} networks are on both fronts of their seed: the same training, "
        "so that they are left out here and among the correlations."
    )


def _noise(data: str) -> str:
    """Bias of matching by clean errors that are counted on all test images of a data set."""
    few = "" if data != "digits" else " Digits have 300, a standard error of up to 2.9 points."
    return (
        "Clean errors are counted on all test images: 10,000 in CIFAR-10, a standard error of up to 0.5 points each."
        f"{few} Where that is not small beside {100 * CLEAN_CALIPER:.0f} points, networks that match differ by more in "
        "truth, which favours the method whose networks have the lower clean errors."
    )


def correlations(studied: Studied) -> list[TextTable]:
    """Rank correlations of robust errors with one another and with size, others held fixed."""
    asked = [
        *((column, other, tuple(CONTROLS)) for column in ERRORS for other in ERRORS if column < other),
        *((column, CLEAN, ("MACs",)) for column in ERRORS),
        *((column, "macs", ("clean error",)) for column in ERRORS),
    ]
    names = {**ERRORS, CLEAN: "clean error", "macs": "MACs"}
    lines = []
    for column, other, fixed in asked:
        groups = points(studied.rows, column, other)
        plain = partial_spearman(groups, ())
        statistic = partial(partial_spearman, controls=[CONTROLS[name] for name in fixed])
        left = effect(groups, statistic)
        cells = (DASH if math.isnan(plain) else f"{plain:+.2f}", _cell(left, 1.0))
        lines.append((names[column], names[other], *cells, " and ".join(fixed)))
    header = ("Robust error", "With", "Spearman", "Partial (networks)", "Held fixed")
    notes = (
        "Spearman's rank correlation over the networks of both methods, ranked in each seed; partial: of what the "
        "ranks of MACs or clean error do not explain.",
        INTERVAL,
    )
    return [TextTable(f"Partial rank correlations; {studied.data('cifar10')}", header, tuple(lines), notes)]


def verdict(found: Effect | None, seeds: int) -> str:
    """A difference of errors of so many seeds in words."""
    if found is None:
        return "no pair of networks is that close, so that nothing can be said"
    if math.isnan(found.low):
        return "too few networks are matched for an interval"
    if found.low == found.high == 0:
        return "no difference at all"
    few = "" if seeds >= FEWEST else f", in {seeds} seed(s), which are too few for a sound interval"
    if found.high < 0:
        return f"RoCo-NAS is more robust than its size and clean error explain{few}"
    if found.low > 0:
        return f"RoCo-NAS is less robust than its size and clean error explain{few}"
    return "the interval holds 0: no difference is shown"


def findings(studied: Studied) -> Iterator[str]:
    """The answer, from the differences at equal size and clean error."""
    found = {column: each.matched for column, each in _all(studied).items()}
    measured = {column for column in ERRORS if points(studied.rows, column)}
    if not measured:
        yield "Nothing yet: no network is measured."
        return
    for column, words in ERRORS.items():
        if column in measured:
            yield f"{words}: {_cell(found[column])} points over the pairs; {verdict(found[column], studied.seeds)}."
    unseen = [column for column in ERRORS if column in measured and column != "adversarial_set_error"]
    better = [ERRORS[column] for column in unseen if (each := found[column]) is not None and each.high < 0]
    worse = [ERRORS[column] for column in unseen if (each := found[column]) is not None and each.low > 0]
    gives = "gives" if unseen and len(better) == len(unseen) else "is not shown to give"
    if better and not worse and len(better) < len(unseen):
        gives = "gives, by these measures alone,"
    yield (
        f"Of the {len(unseen)} robust errors that no search has minimised, RoCo-NAS's networks are better under "
        f"{', '.join(better) or 'none'}, and worse under {', '.join(worse) or 'none'}, at equal size and clean error: "
        f"the third objective {gives} robustness that these do not explain. {len(studied.finished)} runs with "
        f"{studied.seeds} seed(s); the intervals are not corrected for their number."
    )


def draw_differences(studied: Studied, path: Path) -> bool:
    kinds = {"difference of means": 0, "at equal size and clean error": 1, "regression": 2}
    shown = {
        ERRORS[column]: {name: found for name, at in kinds.items() if isinstance(found := each[at], Effect)}
        for column, each in _all(studied).items()
    }
    title = f"Robust error, {ROCO} minus {BASELINE}, {studied.data('cifar10')}"
    return draw_effects(path, shown, title, "points of error (below 0: RoCo-NAS is more robust)", 100)


def draw_networks(studied: Studied, path: Path) -> bool:
    panels = []
    for column, words in ERRORS.items():
        groups = {
            name: [
                (100 * float(row[CLEAN]), 100 * float(row[column]))
                for row in studied.rows
                if row["label"] == name and column in row and CLEAN in row
            ]
            for name in (BASELINE, ROCO)
        }
        panels.append(Scattered(words, "clean error (%)", f"{words}: error (%)", groups))
    return draw_scattered(path, panels, f"Networks of all seeds, trained again, {studied.data('cifar10')}")


def check() -> None:
    """ConfigurationError where a library of the attacks is missing."""
    from evonas.audit import require_libraries

    suite = (*RetrainOptions().suite, *BESIDE)
    require_libraries(replace(RetrainOptions(), suite=suite).measured().measurements, "the study capacity")


STUDY = Study(
    name="capacity",
    paper="RoCo-NAS (Geraeinejad et al., 2021), beyond the paper: robustness that size and clean error do not explain.",
    cells=cells,
    read=roco.STUDY.read,
    check=check,
    shares="roco",
    findings=findings,
    notes=(
        "The runs are those of the study roco: both methods' whole fronts, trained again alike and measured on test "
        "images. Smaller networks and those with more clean errors differ in robust error for these reasons alone, so "
        "networks are compared where both are equal. All seeds share the parts of the data and both adversarial sets.",
    ),
    items=(
        Item("Table differences", "robust error at equal MACs and clean error", "no paper has it", differences),
        Item(
            "Table correlations", "rank correlations, MACs and clean error held fixed", "no paper has it", correlations
        ),
        Item("Fig. differences", "these differences with their intervals", "no paper has it", draw=draw_differences),
        Item("Fig. networks", "robust over clean error of every network", "no paper has it", draw=draw_networks),
    ),
)
