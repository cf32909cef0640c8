"""Several runs together: the rows of different methods and spaces in one table, on one front, in one picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from evonas.errors import ConfigurationError
from evonas.report.chance import Chance, draw_chance
from evonas.report.colours import styles_of
from evonas.report.labels import draw_labels
from evonas.report.output import write_csv, write_png
from evonas.report.plots import front_labels, panels, placed, sizes_of, values_of
from evonas.report.table import Searched, population_table
from evonas.report.units import axis_text
from evonas.search import Entry, ranks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "JointFront",
    "JointRun",
    "check_comparable",
    "differences",
    "different_words",
    "joint_figure",
    "joint_front",
    "shared_objectives",
    "write_joint",
]

By = Literal["method", "run"]

COSTS = ("params", "macs")
HEAD = ("run", "method", "space", "arch_id", "generation", "rank", "status")
TAIL = ("params", "macs", "train_seconds", "seed", "data", "genome")


@dataclass(frozen=True, eq=False)
class JointRun:
    """A run as read from its folder."""

    name: str
    """Name of the run in the tables."""
    searched: Searched
    space: str
    data: Mapping[str, Any]
    """name, fingerprint and the numbers of images, as in the run's identity."""
    measured: Mapping[str, Mapping[str, Any]]
    """Column -> exact settings of its measurement."""
    entries: Sequence[Entry]

    def maximizes(self, name: str) -> bool:
        """Whether more is better in a column, by the search or by its measurement."""
        return name in self.searched.maximize or bool(self.measured.get(name, {}).get("maximize"))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of every measured or counted column."""
        return tuple(dict.fromkeys((*self.searched.objectives, *self.searched.columns, *COSTS)))


@dataclass(frozen=True, eq=False)
class JointFront:
    """Rows of several runs that all have the same objectives."""

    table: pd.DataFrame
    """run, method, space, arch_id, generation, rank, status, the objectives, params, macs, train_seconds, seed, data,
    genome. `rank` counts fronts over all rows, 0 the first. Rows are ordered by rank, then by the objectives, best
    first, then by run and arch_id."""
    objectives: tuple[str, ...]
    maximize: tuple[str, ...]
    about: Mapping[str, str]
    """Column -> a few words on its measurement."""
    chance: Chance | None = None
    """Level of guessing, where it is one in all runs."""

    @property
    def front(self) -> pd.DataFrame:
        """Rows that no other row dominates."""
        return self.table[self.table["rank"] == 0]

    def counted(self, by: By) -> dict[str, tuple[int, int]]:
        """Method, or run -> (rows on the front, rows), in alphabetical order."""
        of = self.table.groupby(by)["rank"]
        return {str(name): (int((rank == 0).sum()), len(rank)) for name, rank in of}

    @property
    def data(self) -> str:
        """Names of the data sets."""
        return ", ".join(sorted(set(self.table["data"])))


def shared_objectives(runs: Sequence[JointRun]) -> tuple[str, ...]:
    """What all runs were searched for, in the first one's order, where that is the same and measured alike; otherwise
    clean error and parameters."""
    first, *others = runs
    names = first.searched.objectives

    def alike(run: JointRun) -> bool:
        return set(run.searched.objectives) == set(names) and not any(
            list(differences(first.measured.get(name, {}), run.measured.get(name, {}))) for name in names
        )

    return names if all(alike(run) for run in others) else ("clean_error", "params")


def joint_front(runs: Sequence[JointRun], objectives: Sequence[str], any_data: bool = False) -> JointFront:
    """The joint front over all rows with status ok that have every objective.

    Dominance is decided on natural values; a column is maximised where any run declares it so.

    Raises:
        ConfigurationError: no run; different data, unless `any_data`; an objective that a run does not have, or that
            was measured differently; no row at all.
    """
    asked = tuple(objectives)
    if not runs:
        raise ConfigurationError("expected at least one run folder, got none")
    if not asked or len(set(asked)) < len(asked):
        raise ConfigurationError(f"expected different objectives, at least one, got {', '.join(asked) or 'none'}")
    for run in runs:
        missing = [name for name in asked if name not in run.columns]
        if missing:
            raise ConfigurationError(
                f"expected {missing[0]} in every run, {run.name} has no such column; it has {', '.join(run.columns)}"
            )
        check_comparable(runs[0], run, asked, any_data)
    maximize = tuple(name for name in asked if any(run.maximizes(name) for run in runs))
    table = _table(runs, asked, maximize)
    about = {name: words for run in runs for name in asked if (words := run.searched.about.get(name))}
    levels = {run.searched.chance for run in runs}
    return JointFront(table, asked, maximize, about, levels.pop() if len(levels) == 1 else None)


def check_comparable(first: JointRun, run: JointRun, objectives: Sequence[str], any_data: bool) -> None:
    """An error where two runs were scored on different images or in different ways."""
    if run.data["fingerprint"] != first.data["fingerprint"] and not any_data:
        raise ConfigurationError(
            f"expected runs on the same data, got {_data(first)} and {_data(run)}; "
            "their errors do not compare, --any-data puts them together all the same"
        )
    for name in objectives:
        what = ", ".join(different_words(first, run, name))
        if what:
            raise ConfigurationError(f"expected {name} to be measured alike in every run: {what}; leave it out")


def different_words(first: JointRun, run: JointRun, name: str) -> Iterator[str]:
    """Every difference of how two runs measured a column: `images is 20 in first and all in second`."""
    for key, there, here in differences(first.measured.get(name, {}), run.measured.get(name, {})):
        yield f"{key} is {_word(key, there)} in {first.name} and {_word(key, here)} in {run.name}"


def _word(key: str, value: Any) -> str:
    """A setting in a sentence; None is no limit."""
    if value is None:
        return "all" if key == "images" else "not limited"
    return str(value)


def _data(run: JointRun) -> str:
    data = run.data
    sizes = [f"{data[part]:,} {part}" for part in ("train", "validation") if part in data]
    return f"{data['name']} in {run.name} ({', '.join([*sizes, data['fingerprint'][:8]])})"


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(key, first value, second value) of every difference; `about` only where nothing else differs."""
    keys = dict.fromkeys((*first, *second))
    found = [
        (key, first.get(key, "nothing"), second.get(key, "nothing"))
        for key in keys
        if key != "maximize" and first.get(key, "") != second.get(key, "")
    ]
    exact = [each for each in found if each[0] != "about"]
    yield from exact or found


def _table(runs: Sequence[JointRun], objectives: tuple[str, ...], maximize: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    columns = [*HEAD, *(name for name in objectives if name not in COSTS), *TAIL]
    tables = []
    for run in runs:
        scored = [entry for entry in run.entries if entry.result.ok]
        found = population_table(scored, run.searched).assign(run=run.name, space=run.space)
        tables.append(found[found[list(objectives)].notna().all(axis=1)][columns])
    rows = [row for table in tables for row in table.itertuples(index=False, name=None)]
    if not rows:
        raise ConfigurationError(
            f"expected a row with status ok and {', '.join(objectives)} in {', '.join(run.name for run in runs)}, "
            "got none"
        )
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    signs = np.array([-1.0 if name in maximize else 1.0 for name in objectives])
    values = table[list(objectives)].to_numpy(dtype=np.float64) * signs
    table["rank"] = pd.Series(ranks(values).tolist(), dtype=object)
    keys = zip(table["rank"], values.tolist(), table["run"], table["arch_id"], strict=True)
    order = [number for *_, number in sorted((*key, number) for number, key in enumerate(keys))]
    return table.iloc[order].reset_index(drop=True)


def write_joint(folder: Path, joint: JointFront, by: By = "method") -> None:
    """Write population.csv (all rows), front.csv and front.png, each whole or not at all.

    Args:
        by: what has a colour of its own in the picture.
    """
    write_csv(folder / "population.csv", joint.table)
    write_csv(folder / "front.csv", joint.front)
    write_png(folder / "front.png", joint_figure(joint, by))


def joint_figure(joint: JointFront, by: By = "method") -> Figure:
    """One panel for every pair of objectives, one colour and mark a method, or run; the front is dark, large and named.

    With three or more objectives, marks grow with the parameters.
    """
    from matplotlib.lines import Line2D

    other = next(name for name in (*COSTS, "") if name not in joint.objectives)
    pairs = list(combinations(joint.objectives, 2)) or [(joint.objectives[0], other)]
    figure, every = panels(len(pairs), (6.0, 4.5), extra=0.8, narrowest=7.0)
    styles = styles_of(joint.counted(by))
    sizes = sizes_of(joint.table, len(joint.objectives) > 2)
    for axes, (vertical, horizontal) in zip(every, pairs, strict=True):
        _panel(axes, joint, horizontal, vertical, {name: joint.table[by] == name for name in styles}, sizes)
        axes.set(
            xlabel=axis_text(horizontal, joint.about, joint.maximize),
            ylabel=axis_text(vertical, joint.about, joint.maximize),
        )
    handles = [
        Line2D([], [], color=styles[name].colour, marker=styles[name].marker, label=f"{name}: {first} of {count}")
        for name, (first, count) in joint.counted(by).items()
    ]
    for handle in handles:
        handle.set(markeredgecolor="black", markersize=7, linestyle="")
    lines = [line for axes in every for line in axes.get_lines() if line.get_label() == "chance"]
    handles += lines[:1]
    grown = "; the more parameters, the larger" if sizes is not None else ""
    title = f"dark: on the joint front, counted for each {by}; pale: dominated{grown}"
    longest = max(len(str(handle.get_label())) for handle in handles)
    across = max(1, min(len(handles), 4, int(13 * figure.get_figwidth() / (longest + 4))))
    figure.legend(handles=handles, loc="outside lower center", ncols=across, title=title)
    figure.suptitle(f"{len(joint.front)} of {len(joint.table)} networks on the joint front, {joint.data}")
    return figure


def _panel(
    axes: Axes,
    joint: JointFront,
    horizontal: str,
    vertical: str,
    series: Mapping[str, pd.Series[bool]],
    sizes: pd.Series[float] | None,
) -> None:
    table, styles = joint.table, styles_of(series)
    for name, own in series.items():
        style: dict[str, Any] = {"color": styles[name].colour, "marker": styles[name].marker}
        for rows, size, alpha, edge, above in (
            (table[own & (table["rank"] != 0)], 26, 0.4, "none", 2),
            (table[own & (table["rank"] == 0)], 52, 0.95, "black", 3),
        ):
            area = size * (1.0 if sizes is None else sizes[rows.index])
            x, y = values_of(rows, horizontal), values_of(rows, vertical)
            axes.scatter(x, y, s=area, alpha=alpha, edgecolors=edge, zorder=above, linewidths=0.7, **style)
    if len(joint.objectives) == 2 and not joint.maximize:
        steps = joint.front.sort_values(list(reversed(joint.objectives)))
        x, y = values_of(steps, horizontal), values_of(steps, vertical)
        axes.step(x, y, where="post", color="0.5", linewidth=1, zorder=1)
    for name, scale, axis in ((horizontal, axes.set_xscale, axes.xaxis), (vertical, axes.set_yscale, axes.yaxis)):
        _widen(joint.table[name].astype(float), name, scale, axis)
    axes.margins(0.06)
    axes.grid(alpha=0.3)
    draw_chance(axes, horizontal, vertical, joint.chance)
    draw_labels(axes, placed(table, front_labels(table, joint.objectives, joint.maximize), horizontal, vertical))


def _widen(values: pd.Series[float], name: str, scale: Callable[[str], None], axis: Axis) -> None:
    """A logarithmic axis for costs that differ by more than twentyfold."""
    from matplotlib.ticker import FuncFormatter

    if name in COSTS and values.min() > 0 and values.max() > 20 * values.min():
        scale("log")
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
