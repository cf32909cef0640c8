"""Everything that the report's page shows of some runs, as JSON has it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from evonas.plugins import plugin_flag
from evonas.report.audit_files import AuditFiles
from evonas.report.depictions import depiction_of
from evonas.report.joint import COSTS, JointRun, different_words
from evonas.report.table import history, objective_values, population_table
from evonas.report.units import axis_label, axis_scale, is_error
from evonas.search import knee, stops_of

__all__ = ["ReportedRun", "choices_of", "drawings", "history_of", "incomparable", "page_data"]

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """A run, with what a report says besides its rows."""

    joint: JointRun
    path: str
    """Folder, as commands name it."""
    space: Any
    """Search space; None: in no table, so that its networks are not drawn."""
    config: Mapping[str, Any]
    """Content of config.json."""
    audit: AuditFiles = field(default_factory=AuditFiles)


def page_data(runs: Sequence[ReportedRun]) -> Json:
    """Runs, columns, rows (one list a column) and audits."""
    names = list(dict.fromkeys(name for run in runs for name in run.joint.columns))
    tables = [population_table(run.joint.entries, run.joint.searched) for run in runs]
    rows: dict[str, list[Any]] = {name: [] for name in ("run", "id", "generation", "rank", "genome", *names)}
    for number, table in enumerate(tables):
        ok = table[table["status"] == "ok"]
        rows["run"] += [number] * len(ok)
        for name in names:
            rows[name] += [_plain(value) for value in ok[name]] if name in ok else [None] * len(ok)
        for name, column in (("id", "arch_id"), *((each, each) for each in ("generation", "rank", "genome"))):
            rows[name] += [_plain(value) for value in ok[column]]
    return {
        "runs": [_run(run) for run in runs],
        "columns": [_column(name, runs) for name in names],
        "rows": rows,
        "first": _knee(runs[0], rows["id"]),
        "notes": [*incomparable(runs)],
    }


def incomparable(runs: Sequence[ReportedRun]) -> Iterator[str]:
    """A line for whatever does not compare between the first run and another: images, or a way of measuring."""
    first = runs[0].joint
    for run in (each.joint for each in runs[1:]):
        if run.data["fingerprint"] != first.data["fingerprint"]:
            yield f"{run.name} and {first.name} have different images: their errors do not compare."
        for name in run.columns:
            if name in first.columns:
                for words in different_words(first, run, name):
                    yield f"{name} was measured differently: {words}."


def drawings(runs: Sequence[ReportedRun]) -> Json:
    """SVG of every row of the page, in its order, as numbers of `pieces`; empty where a space has no drawings.

    Networks share most pieces, so that this is a tenth of the text.
    """
    numbers: dict[str, int] = {}
    found = []
    for run in runs:
        depiction = depiction_of(run.space)
        table = population_table(run.joint.entries, run.joint.searched)
        for genome in table[table["status"] == "ok"]["genome"]:
            genes = np.array(genome.split(), dtype=np.int64)
            pieces = [] if depiction is None else depiction.scene(run.space, genes).pieces()
            found.append([numbers.setdefault(piece, len(numbers)) for piece in pieces])
    return {"pieces": [*numbers], "drawings": found}


def choices_of(run: ReportedRun) -> list[Json]:
    """Share of every answer to every question of the space, on the front and among all networks with status ok."""
    depiction = depiction_of(run.space)
    if depiction is None:
        return []
    table = population_table(run.joint.entries, run.joint.searched)
    counts: dict[str, dict[str, Counter[str]]] = {"on the front": {}, "all evaluated": {}}
    for genome, rank in table[table["status"] == "ok"][["genome", "rank"]].itertuples(index=False):
        for question, answer in depiction.choices(run.space, np.array(genome.split(), dtype=np.int64)):
            for part in ("on the front", "all evaluated") if rank == 0 else ("all evaluated",):
                counts[part].setdefault(question, Counter())[answer] += 1
    return [
        {"question": question, "answer": answer, "part": part, "share": there[answer] / max(sum(there.values()), 1)}
        for question, every in sorted(counts["all evaluated"].items())
        for answer in sorted(every, key=_natural)
        for part in counts
        for there in [counts[part].get(question, Counter())]
    ]


def history_of(run: ReportedRun) -> list[Json]:
    """Evaluations and hypervolume, as a share of its box, at the end of every generation."""
    searched = run.joint.searched
    rows = history(run.joint.entries, searched)
    return [{"evaluations": row.evaluations, "share": row.hypervolume / searched.box} for row in rows]


def _run(run: ReportedRun) -> Json:
    searched, identity = run.joint.searched, run.config["identity"]
    results = [entry.result for entry in run.joint.entries]
    failed = Counter(result.reason for result in results if result.status == "failed")
    stops = stops_of(results)
    return {
        "name": run.joint.name,
        "path": run.path,
        "plugin": plugin_flag(run.config),
        "method": searched.method,
        "space": run.joint.space,
        "data": searched.data,
        "objectives": [*searched.objectives],
        "reference": dict(zip(searched.objectives, searched.reference, strict=True)),
        "chance": None if searched.chance is None else searched.chance.error,
        "about": {name: words for name, words in searched.about.items() if words},
        "evaluations": len(run.joint.entries),
        "failed": failed.most_common(5),
        "history": history_of(run),
        "choices": choices_of(run),
        "settings": {name: json.dumps(value) for name, value in run.config["settings"].items()},
        "identity": json.dumps(identity, indent=1),
        "versions": run.config.get("versions", {}),
        "notes": [*run.config.get("notes", []), *([] if stops is None else [f"early stopping: {stops}"])],
        "audit": [{**asdict(row), "values": dict(row.values)} for row in run.audit.networks],
        "audited": run.audit.lines,
    }


def _column(name: str, runs: Sequence[ReportedRun]) -> Json:
    return {
        "name": name,
        "label": axis_label(name),
        "scale": axis_scale(name),
        "error": is_error(name),
        "cost": name in COSTS,
        "maximize": any(run.joint.maximizes(name) for run in runs),
    }


def _knee(run: ReportedRun, ids: Sequence[str]) -> int:
    """Row of the knee of the first run's front; -1 without any row."""
    entries = [entry for entry in run.joint.entries if entry.result.ok]
    if not entries:
        return -1
    return ids.index(entries[knee(objective_values(entries, run.joint.searched))].key)


def _plain(value: Any) -> Any:
    """A value of a table as JSON has it: empty cells and what is not finite are null."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _natural(answer: str) -> tuple[float, str]:
    """Order of answers: numbers by size."""
    digits = answer.strip("×")
    return (float(digits), answer) if digits.replace(".", "", 1).isdigit() else (math.inf, answer)
