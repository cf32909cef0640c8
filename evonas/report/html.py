"""The report's page: one file with data, charts, drawings and scripts inside, which asks the network for nothing."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evonas.errors import ConfigurationError
from evonas.report.colours import styles_of
from evonas.report.output import write_text
from evonas.report.page_data import ReportedRun, drawings, page_data
from evonas.report.scene import STYLE

__all__ = ["report_page", "require_charts", "write_report"]

COMMANDS = (
    ("train to the end and audit", "evonas audit RUN ARCH --train PLUGIN"),
    ("audit as searched", "evonas audit RUN ARCH PLUGIN"),
    ("export", "evonas export RUN ARCH --to net.onnx PLUGIN"),
    ("train, audit, export and measure the best within the limits", 'evonas ship RUN --where "WHERE" PLUGIN'),
    ("list the networks within the limits", 'evonas choose RUN --where "WHERE"'),
    ("look at it", "evonas show RUN ARCH PLUGIN"),
)
"""Commands for the selected network: a few words, and the line."""

_HERE = Path(__file__).with_name("page")


def require_charts() -> None:
    """ConfigurationError, in one line, where a library of the extra `report` is missing."""
    missing = [name for name in ("altair", "vl_convert") if find_spec(name) is None]
    if missing:
        names = " and ".join(name.replace("vl_convert", "vl-convert-python") for name in missing)
        raise ConfigurationError(f"expected {names} for a report, not installed; pip install 'evonas[report]'")


def write_report(path: Path, runs: Sequence[ReportedRun], made: str = "", watch: int = 0) -> None:
    """Write `report_page` into a file, whole or not at all."""
    write_text(path, report_page(runs, made, watch))


def report_page(runs: Sequence[ReportedRun], made: str = "", watch: int = 0) -> str:
    """HTML of the report of some runs; equal runs give equal text.

    Args:
        made: a few words on when it was made.
        watch: seconds between two looks of the page at its file, for a search that goes on; 0: none.
    """
    data = {**page_data(runs), "commands": COMMANDS, "made": made, "watch": watch}
    data["styles"] = {
        "run": _styles(run.joint.name for run in runs),
        "method": _styles(dict.fromkeys(run.joint.searched.method for run in runs)),
    }
    data["charts"] = _charts()
    title = "evonas: " + ", ".join(run.joint.name for run in runs)
    return _filled(
        {
            "TITLE": html.escape(title),
            "STYLE": (_HERE / "report.css").read_text() + STYLE,
            "DATA": _script_json(data),
            "DRAWINGS": _packed(drawings(runs)),
            "VEGA": _bundle(),
            "SCRIPT": (_HERE / "report.js").read_text(),
        }
    )


def _filled(parts: Mapping[str, str]) -> str:
    """The template with its parts, none of which is looked at for names of others."""
    pieces = (_HERE / "report.html").read_text().split("@")
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def _styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name -> colour, shape."""
    return {name: (style.colour, style.shape) for name, style in styles_of(names).items()}


def _charts() -> dict[str, Any]:
    """Specifications of the charts without data; the page fills in rows, axes and colours."""
    from evonas.report.charts import choices_chart, front_chart, history_chart, lines_chart

    charts = {
        "front": front_chart(("", ""), {}),
        "lines": lines_chart((), {}),
        "history": history_chart({}),
        "choices": choices_chart(),
    }
    return {name: chart.to_dict() for name, chart in charts.items()}


@lru_cache(maxsize=1)
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script."""
    from vl_convert import javascript_bundle

    script = javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
    return f"(function () {{{script}}})();"  # its names are its own


def _script_json(value: Any) -> str:
    """JSON that ends no script element, whatever its texts are."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _packed(value: Any) -> str:
    """JSON, compressed and in base64; equal values give equal text."""
    return base64.b64encode(gzip.compress(json.dumps(value).encode(), mtime=0)).decode()
