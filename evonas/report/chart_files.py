"""The charts of the report as files, made without a browser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import IO, Any

import numpy as np

from evonas.files import replace_file
from evonas.report.charts import choices_chart, front_chart, history_chart, lines_chart, with_rows
from evonas.report.colours import styles_of
from evonas.report.output import write_text
from evonas.report.page_data import ReportedRun, page_data
from evonas.report.units import shown
from evonas.search import minimised, non_dominated

__all__ = ["chart_specifications", "write_charts"]

Json = dict[str, Any]
Row = Mapping[str, Any]


def write_charts(folder: Path, runs: Sequence[ReportedRun]) -> None:
    """Write every chart as NAME.svg and NAME.png, each whole or not at all."""
    from vl_convert import vegalite_to_png, vegalite_to_svg

    for name, specification in chart_specifications(runs):
        write_text(folder / f"{name}.svg", vegalite_to_svg(specification))
        png = vegalite_to_png(specification, scale=2)
        replace_file(folder / f"{name}.png", partial(_write, png))


def _write(content: bytes, file: IO[bytes]) -> None:
    file.write(content)


def chart_specifications(runs: Sequence[ReportedRun]) -> Iterator[tuple[str, Json]]:
    """(name, Vega-Lite specification) of every chart.

    `front-Y-X` for every pair of the first run's objectives, `lines`, `history`, and `choices-RUN-QUESTION` for every
    run whose space has choices.
    """
    page = page_data(runs)
    columns: dict[str, Json] = {column["name"]: column for column in page["columns"]}
    styles = styles_of(run["name"] for run in page["runs"])
    rows = [dict(zip(page["rows"], values, strict=True)) for values in zip(*page["rows"].values(), strict=True)]
    series = [*styles]
    for number, row in enumerate(rows):
        said = (f"{name} {shown(name, row[name])}" for name in columns if row[name] is not None)
        row |= {"i": number, "series": series[row["run"]], "text": ", ".join([row["id"][:6], *said])}
    searched = [column for name in page["runs"][0]["objectives"] if (column := columns.get(name))]
    scored = [row for row in rows if all(row[column["name"]] is not None for column in searched)]
    _mark_front(scored, searched)
    for vertical, horizontal in combinations(searched, 2):
        drawn = [_point(row, horizontal, vertical) for row in scored]
        joined = len(searched) == 2 and not (vertical["maximize"] or horizontal["maximize"])
        steps = sorted(
            (point for point in drawn if point["on"] and joined), key=lambda point: (point["x"], -point["y"])
        )
        chart = front_chart((horizontal["label"], vertical["label"]), styles, len(rows))
        yield f"front-{vertical['name']}-{horizontal['name']}", with_rows(chart, rows=drawn, steps=steps)
    lines = [line for row in scored for line in _line(row, columns.values(), page["rows"])]
    yield "lines", with_rows(lines_chart([*columns], styles), (720, 380), rows=lines)
    history = [{**point, "series": run["name"]} for run in page["runs"] for point in run["history"]]
    yield "history", with_rows(history_chart(styles), rows=history)
    yield from _choices(page["runs"])


def _choices(runs: Sequence[Json]) -> Iterator[tuple[str, Json]]:
    for number, run in enumerate(runs):
        for place, question in enumerate(dict.fromkeys(row["question"] for row in run["choices"])):
            rows = [row for row in run["choices"] if row["question"] == question]
            chart = choices_chart().properties(title=f"{run['name']}: {question}")
            answers = len({row["answer"] for row in rows})
            yield f"choices-{number}-{place}", with_rows(chart, (560, 40 + 34 * answers), rows=rows)


def _mark_front(rows: Sequence[Json], searched: Sequence[Json]) -> None:
    """Set `on` of every row: whether no other one dominates it in the searched columns."""
    names = [column["name"] for column in searched]
    maximize = [column["name"] for column in searched if column["maximize"]]
    values = np.array([minimised(row, names, maximize) for row in rows]).reshape(-1, len(names))
    front = set(non_dominated(values).tolist())
    for number, row in enumerate(rows):
        row["on"] = number in front


def _point(row: Row, horizontal: Json, vertical: Json) -> Json:
    at = {axis: row[column["name"]] * column["scale"] for axis, column in (("x", horizontal), ("y", vertical))}
    return {**{name: row[name] for name in ("i", "series", "text", "on")}, **at}


def _line(row: Row, columns: Iterable[Json], values: Mapping[str, Sequence[Any]]) -> Iterator[Json]:
    """A network's place in every column, 0 the best."""
    for place, column in enumerate(columns):
        name = column["name"]
        if row[name] is not None:
            known = [value for value in values[name] if value is not None]
            low, high = min(known), max(known)
            share = (row[name] - low) / (high - low) if high > low else 0.5
            yield {
                **{key: row[key] for key in ("i", "series", "text")},
                "column": name,
                "place": place,
                "share": 1 - share if column["maximize"] else share,
            }
