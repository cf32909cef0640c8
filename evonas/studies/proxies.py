"""The study `proxies`: which cheap measure ranks networks as full robust training and AutoAttack do?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from evonas.report import TextTable, duration
from evonas.report.papers.beyond import Scattered, draw_effects, draw_scattered
from evonas.studies.association import FEWEST, Effect
from evonas.studies.intervals import Difference, spread
from evonas.studies.proxies_agreement import (
    KINDS,
    PREDICTORS,
    QUICK,
    Compared,
    Pairs,
    Predictor,
    Values,
    agreement,
    compared,
    seconds,
)
from evonas.studies.proxies_runs import SET, SUITE, cells, read
from evonas.studies.study import Item, Studied, Study
from evonas.studies.tables import DASH, difference_cell

__all__ = ["STUDY"]

CEILING = "the target, another seed"
TARGETS = {"autoattack_error": "AutoAttack", "pgd20_error": "PGD-20"}
"""Column -> robust error that is predicted, the first one first."""
ABOUT = (
    "tau: Kendall's tau-b, beside Spearman's rank correlation, of a predictor and the robust error after full PGD "
    "training, the mean over that training's seeds: 1 for the same order, 0 for none. [low, high]: 95% of 1,000 "
    "resamples of the networks, the same for all seeds, from a fixed seed. (n): networks.",
    "FGSM after quick training minus it: the mean of the differences of tau, seed by seed; (n): the target's seeds in "
    "which both have one.",
    "Best half: the half of the networks with the least robust error, the mean over seeds; searches choose there.",
    f"{CEILING}: the correlation between two seeds of the target itself, the mean over all pairs: "
    "what one more full training would predict. Only a predictor with less noise than that can stand above it.",
    "Seconds: mean wall time of training and scoring one network; both quick predictors are one objective, and its "
    "seconds stand at both. tau per second: over all networks.",
)


def _cell(found: Effect | None) -> str:
    return difference_cell(None if found is None else Difference(*found))


def _ceiling(networks: Compared) -> Pairs:
    return tuple(combinations(networks.targets, 2))


def correlations(studied: Studied) -> list[TextTable]:
    """A table for each target, a line a predictor, and the target's own noise."""
    *others, last = (_table(studied, target) for target in TARGETS)
    built = sum(studied.states[cell.folder].seconds for cell in studied.finished if cell.group == SET)
    of_set = f"The adversarial set was built once, in {duration(built)}, which is not counted."
    return [*others, replace(last, notes=(*last.notes, *ABOUT, *((of_set,) if built else ())))]


def _table(studied: Studied, target: str) -> TextTable:
    networks = compared(studied, target)
    half, quick = networks.half(), networks.pairs(PREDICTORS[QUICK])
    lines = []
    for each in PREDICTORS.values():
        own = [_cell(agreement(part.pairs(each), kind)) for part in (networks, half) for kind in KINDS]
        less = DASH if each.column == QUICK else _cell(agreement(quick, "tau", networks.pairs(each)))
        lines.append((each.words, *own, less, _first(networks, each), *_cost(networks, each)))
    above = [_cell(agreement(_ceiling(part), kind)) for part in (networks, half) for kind in KINDS]
    cost = spread(networks.trained)
    lines.append((CEILING, *above, DASH, DASH, DASH if cost is None else f"{cost.mean:.2f}", DASH))
    header = (
        *("Predictor", "tau", "Spearman", "best half: tau", "best half: Spearman"),
        *("FGSM after quick training minus it, tau", "error of its first choice, %", "seconds", "tau per second"),
    )
    title = f"{TARGETS[target]} within 8/255 after full PGD training; {studied.data('cifar10')}"
    first = f"Error of its first choice: {TARGETS[target]}, the mean over seeds. {_range(networks.means)}".rstrip()
    return TextTable(title, header, tuple(lines), (first,))


def _range(errors: Values) -> str:
    if not errors:
        return ""
    return f"The best network has {100 * min(errors):.1f}%, and the mean is {100 * sum(errors) / len(errors):.1f}%."


def _first(networks: Compared, predictor: Predictor) -> str:
    """Robust error of the network that a predictor takes for the best, in percent; the mean over those that tie."""
    values = [*map(predictor.value, networks.rows)]
    if not values or any(map(math.isnan, values)):
        return DASH
    first = [mean for value, mean in zip(values, networks.means, strict=True) if value == min(values)]
    return f"{100 * sum(first) / len(first):.1f}"


def _cost(networks: Compared, predictor: Predictor) -> tuple[str, str]:
    """Seconds of a network, and tau for each of them; a dash for what takes none."""
    took, tau = seconds(networks, predictor), agreement(networks.pairs(predictor), "tau")
    if math.isnan(took):
        return DASH, DASH
    return f"{took:.2f}", DASH if tau is None or not took else f"{tau.value / took:.3g}"


def findings(studied: Studied) -> Iterator[str]:
    """The best predictor, the quick one beside those of clean training, and what a second buys."""
    for target, words in TARGETS.items():
        networks = compared(studied, target)
        taus = {each.column: agreement(networks.pairs(each), "tau") for each in PREDICTORS.values()}
        known = {PREDICTORS[column]: found for column, found in taus.items() if found is not None}
        if not known:
            yield f"{words}: nothing yet."
            continue
        best = max(known, key=lambda each: known[each].value)
        above = agreement(_ceiling(networks), "tau")
        noise = "one seed of the target says nothing of its noise"
        noise = noise if above is None else f"two seeds of the target agree by {_cell(above)}"
        yield f"{words}: {best.words} ranks best, tau {_cell(known[best])}; {noise}."
        for column in ("adversarial_set_error", "pgd_error"):
            less = agreement(networks.pairs(PREDICTORS[QUICK]), "tau", networks.pairs(PREDICTORS[column]))
            yield f"{words}: {PREDICTORS[QUICK].words} minus {PREDICTORS[column].words}: {_verdict(less)}."
        costs = {each: seconds(networks, each) for each in known}
        worth = {each: known[each].value / cost for each, cost in costs.items() if cost > 0}
        if worth:
            most = max(worth, key=lambda each: worth[each])
            yield f"{words}: {most.words} gives most for its time, {worth[most]:.3g} of tau a second of a network."
    if len(compared(studied, next(iter(TARGETS))).rows) < 2 * FEWEST:
        yield f"Fewer than {2 * FEWEST} networks: all of this is anecdote."


def _verdict(found: Effect | None) -> str:
    if found is None:
        return f"{DASH}, one of them ranks nothing"
    if math.isnan(found.low):
        return f"{_cell(found)}; no interval can be had"
    words = "ranks better" if found.low > 0 else "ranks worse" if found.high < 0 else ""
    return f"{_cell(found)}; {words or 'the interval holds 0, no difference is shown'}"


def draw_correlations(studied: Studied, path: Path) -> bool:
    target = next((each for each in TARGETS if compared(studied, each).rows), "")
    if not target:
        return False
    networks = compared(studied, target)
    parts = {"all networks": networks, "best half": networks.half()}
    effects: dict[str, dict[str, Effect]] = {}
    for each in PREDICTORS.values():
        took = seconds(networks, each)
        label = f"{each.words}{f' ({took:.1f} s)' if took > 0 else ''}"
        effects[label] = _known({name: agreement(part.pairs(each), "tau") for name, part in parts.items()})
    effects[CEILING] = _known({name: agreement(_ceiling(part), "tau") for name, part in parts.items()})
    title = f"Who ranks networks as {TARGETS[target]} after full PGD training does, {studied.data('cifar10')}"
    return draw_effects(path, effects, title, "Kendall's tau (seconds: of one network)")


def _known(found: Mapping[str, Effect | None]) -> dict[str, Effect]:
    return {name: each for name, each in found.items() if each is not None}


def draw_networks(studied: Studied, path: Path) -> bool:
    target = next((each for each in TARGETS if compared(studied, each).rows), "")
    if not target:
        return False
    networks, panels = compared(studied, target), []
    for each in PREDICTORS.values():
        scale, unit = (1e-3, "thousands") if each.sign < 0 else (100.0, "%")
        groups = {
            f"seed {seed}": [
                (scale * abs(first), 100 * second) for first, second in zip(*pair, strict=True) if not math.isnan(first)
            ]
            for seed, pair in zip(networks.seeds, networks.pairs(each), strict=True)
        }
        panels.append(Scattered(each.words, f"{each.column} ({unit})", f"{TARGETS[target]} error (%)", groups))
    return draw_scattered(path, panels, f"Random networks, {studied.data('cifar10')}", across=3)


def check() -> None:
    """ConfigurationError where a library of the attacks is missing."""
    from evonas.audit import measurements, require_libraries

    require_libraries(measurements(SUITE), "the study proxies")


STUDY = Study(
    name="proxies",
    paper="Beyond the papers: which cheap measure of a search ranks networks as full robust training does.",
    cells=cells,
    read=read,
    check=check,
    findings=findings,
    fixed="whose target is training by PGD",
    notes=(
        "Random networks of one space, the same in all runs. A search would see the predictors, measured on validation "
        "images; the target is the error on test images after full adversarial training by PGD, once a seed.",
    ),
    items=(
        Item("Table correlations", "rank correlations of every predictor", "no paper has it", correlations),
        Item(
            "Fig. correlations", "tau with its interval, all and best half", "no paper has it", draw=draw_correlations
        ),
        Item("Fig. networks", "robust error over every predictor", "no paper has it", draw=draw_networks),
    ),
)
