"""Charts of the report: Vega-Lite specifications by Altair, the same for the page and for files without a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from evonas.report.colours import BLUE, GREY, Style
from evonas.report.scene import INK

__all__ = ["Chart", "choices_chart", "front_chart", "history_chart", "lines_chart", "with_rows"]

Chart = alt.Chart | alt.LayerChart | alt.FacetChart
Rows = Sequence[Mapping[str, Any]]

ROWS = alt.NamedData("rows")


def front_chart(titles: tuple[str, str], styles: Mapping[str, Style], networks: int = 0) -> Chart:
    """Networks by two objectives; those on the front larger, and joined by steps.

    The data are `rows` with `i` (the row's number), `x`, `y`, `series`, `text` and `on` (whether it is on the front),
    and `steps` with `x` and `y`. The parameter `keep` has the opacity of row i, `chosen` the number of the selected.
    """
    x = alt.X("x:Q", title=titles[0], scale=alt.Scale(zero=False, nice=True))
    y = alt.Y("y:Q", title=titles[1], scale=alt.Scale(zero=False, nice=True))
    keep = alt.param("keep", value=[1] * networks)
    chosen = alt.param("chosen", value=-1)
    steps = alt.Chart(alt.NamedData("steps")).mark_line(interpolate="step-after", color=GREY, strokeWidth=1.2)
    points = alt.Chart(ROWS).mark_point(
        filled=True, opacity=alt.expr("keep[datum.i]"), size=alt.expr("datum.on ? 90 : 26"), strokeWidth=0
    )
    ring = alt.Chart(ROWS).transform_filter("datum.i == chosen").mark_point(size=260, strokeWidth=2.5, color=INK)
    brush = alt.selection_interval(name="brush", encodings=["x", "y"])
    return alt.layer(
        steps.encode(x=x, y=y),
        ring.encode(x=x, y=y),
        points.encode(x=x, y=y, tooltip=alt.Tooltip("text:N", title="network"), **_look(styles)).add_params(brush),
    ).add_params(keep, chosen)


def lines_chart(columns: Sequence[str], styles: Mapping[str, Style]) -> Chart:
    """Parallel coordinates: a line for every network, 0 the best of a column at the bottom and 1 the worst.

    A row has `i`, `column`, `place` (the column's number), `share` in [0, 1], `series` and `text`.
    """
    chosen = alt.param("chosen", value=-1)
    words = alt.Axis(labelExpr="split(datum.label, '_')", labelAngle=0)
    x = alt.X("column:N", title=None, sort=list(columns), scale=alt.Scale(padding=0.3), axis=words)
    axis = alt.Axis(labels=False, ticks=False, tickCount=4)
    y = alt.Y("share:Q", title="best at the bottom", scale=alt.Scale(domain=[0, 1]), axis=axis)
    base = alt.Chart(ROWS).encode(x=x, y=y, detail="i:N", order="place:Q")
    lines = base.mark_line(strokeWidth=1.3, opacity=0.45).encode(_look(styles)["color"])
    one = base.transform_filter("datum.i == chosen").mark_line(strokeWidth=3.5, color=INK, point=True)
    return alt.layer(lines, one.encode(tooltip=alt.Tooltip("text:N", title="network"))).add_params(chosen)


def history_chart(styles: Mapping[str, Style]) -> Chart:
    """Hypervolume over evaluations; a row has `evaluations`, `share` and `series`."""
    chart: alt.Chart = (
        alt.Chart(ROWS)
        .mark_line(point=True, interpolate="step-after")
        .encode(
            x=alt.X("evaluations:Q", title="evaluations"),
            y=alt.Y("share:Q", title="hypervolume, share of its box", scale=alt.Scale(zero=False)),
            tooltip=["series:N", "evaluations:Q", alt.Tooltip("share:Q", format=".4f")],
            **_look(styles),
        )
    )
    return chart


def choices_chart() -> Chart:
    """How often a choice is made on the front and among all networks; a row has `answer`, `part` and `share`."""
    parts = alt.Scale(domain=["on the front", "all evaluated"], range=[BLUE, GREY])
    chart: alt.Chart = (
        alt.Chart(ROWS)
        .mark_bar()
        .encode(
            y=alt.Y("answer:N", title=None, sort=None),
            x=alt.X("share:Q", title="share of the choices", axis=alt.Axis(format="%", tickCount=5)),
            yOffset=alt.YOffset("part:N", sort=["on the front", "all evaluated"]),
            color=alt.Color("part:N", title=None, scale=parts, legend=alt.Legend(orient="top")),
            tooltip=["answer:N", "part:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    return chart


def with_rows(chart: Chart, size: tuple[int, int] = (560, 380), **rows: Rows) -> dict[str, Any]:
    """The specification of a chart with its data, as a picture of so many pixels."""
    sized = chart.properties(width=size[0], height=size[1], datasets={name: [*each] for name, each in rows.items()})
    found: dict[str, Any] = sized.configure_axis(labelFontSize=12, titleFontSize=13, gridOpacity=0.5).to_dict()
    return found


def _look(styles: Mapping[str, Style]) -> dict[str, Any]:
    """Colour and shape of a series, in one legend; none for a single one."""
    legend = alt.Legend(orient="top", columns=3) if len(styles) > 1 else None
    colours, shapes = ([style[kind] for style in styles.values()] for kind in (0, 2))
    return {
        "color": alt.Color("series:N", title=None, scale=alt.Scale(domain=[*styles], range=colours), legend=legend),
        "shape": alt.Shape("series:N", title=None, scale=alt.Scale(domain=[*styles], range=shapes), legend=legend),
    }
