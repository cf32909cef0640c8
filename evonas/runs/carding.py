"""The card of an exported network, from the run that it comes from."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas._version import version_of
from evonas.data import terms_of
from evonas.errors import StorageError
from evonas.files import decoding, exists, read_json, read_regular, storage_errors
from evonas.report.units import is_error

if TYPE_CHECKING:
    from evonas.data import Dataset
    from evonas.runs.exporting import Export
    from evonas.ship import Agreement, Card, ErrorRow, Rival

__all__ = ["make_card", "read_audit"]

ABOUT_TRAINING = ("training", "supernet", "method", "cells", "precision", "device", "threads")
"""Pieces of a run's identity that its weights follow from."""


def make_card(
    export: Export,
    data: Dataset,
    files: Mapping[Path, bytes],
    agreement: Agreement,
    rivals: Mapping[str, Rival],
    clean_error: float,
) -> Card:
    """The card of files that are written.

    Args:
        clean_error: share of the checked test images that the network gets wrong.
        rivals: the network and its int8 one, where that was made.
    """
    from evonas.runs.exporting import file_row
    from evonas.ship import EXPORTS, TOLERANCE, Card

    config = export.result.folder.open_stored()
    audit = read_audit(export.result.path, export.entry.key, export.weights)
    about = export._about(data)
    size = data.image_size
    return Card(
        name=export.to.name,
        network=_network(export, config),
        files=[file_row(path, content, EXPORTS[path.suffix].name) for path, content in files.items()],
        input={
            "name": "images",
            "shape": ["batch", 3, size, size],
            "layout": "RGB, batch x channels x rows x columns",
            "range": [0, 1],
            "normalization": about["normalization"],
        },
        output={"name": "logits", "classes": data.n_classes},
        data=_data(data),
        check={
            "images": agreement.images,
            "tolerance": TOLERANCE,
            "largest_difference": {str(batch): value for batch, value in agreement.largest.items()},
            "labels_changed": max(agreement.changed.values()),
        },
        errors=[*_errors(export, config, agreement.images, clean_error, rivals), *_audited(audit)],
        latency=_latencies(rivals),
        quantisation=_quantisation(export, data) if rivals else None,
        audit=audit and {name: audit[name] for name in ("images", "measured", "alarms")},
        training={name: config["identity"][name] for name in ABOUT_TRAINING if name in config["identity"]},
        seed=export.entry.result.seed,
        versions=_versions(config),
        limits=[*_limits(export, agreement.images, bool(audit), bool(rivals))],
    )


def _network(export: Export, config: Mapping[str, Any]) -> dict[str, Any]:
    import numpy as np

    genome = export.entry.result.genome
    values = export.entry.result.objectives
    kind = {"search": "as the search scored them", "audit": "of a training to the end"}
    return {
        "arch_id": export.entry.key,
        "space": str(export.result.space.name),
        "method": str(config["identity"]["method"]),
        "genome": [*genome],
        "description": str(export.result.space.describe(np.array(genome, dtype=np.int64))),
        "params": int(values["params"]),
        "macs": int(values["macs"]),
        "weights": kind.get(export.weights, export.weights),
    }


def _data(data: Dataset) -> dict[str, Any]:
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "terms": terms_of(data.name),
        **{part: len(getattr(data, part)) for part in ("train", "validation", "test")},
    }


def _errors(
    export: Export, config: Mapping[str, Any], images: int, clean_error: float, rivals: Mapping[str, Rival]
) -> Iterator[ErrorRow]:
    """Errors measured now, then those of the search."""
    from evonas.ship import ErrorRow

    wanted = export.settings
    attacked = min(wanted.attacked_images, images)
    if not rivals:
        yield ErrorRow.of("clean_error", clean_error, images, "test", "this export")
    bound = f"L-inf, epsilon {wanted.epsilon:.4g}"
    pgd = f"PGD against the float32 network, 20 steps, {bound}"
    squares = f"Square attack through onnxruntime, {wanted.queries} queries, {bound}"
    for name, each in rivals.items():
        network: Any = name
        threat: Any = "white-box" if name == "float32" else "transfer"
        yield ErrorRow.of("clean_error", each.clean_error, images, "test", "this export", network=network)
        yield ErrorRow.of("pgd_error", each.pgd_error, attacked, "test", "this export", threat, pgd, network)
        yield ErrorRow.of(
            "square_error", each.square_error, attacked, "test", "this export", "black-box", squares, network
        )
    if export.weights == "search":
        yield from _searched(export, config)


def _searched(export: Export, config: Mapping[str, Any]) -> Iterator[ErrorRow]:
    from evonas.ship import ErrorRow

    measured = config.get("measured", {})
    for column, value in export.entry.result.objectives.items():
        if not is_error(column):
            continue
        about = measured.get(column, {})
        images = int(about.get("images") or config["identity"]["data"]["validation"])
        part = "adversarial set" if about.get("set") else "validation"
        default = "none" if column == "clean_error" else "other"
        threat: Any = about.get("threat", default)
        text = "" if threat == "none" else str(about.get("about", ""))
        yield ErrorRow.of(column, value, images, part, "search", threat, text)


def read_audit(run: Path, key: str, weights: str) -> dict[str, Any] | None:
    """The audit of a network in a run's audit.csv and audit.json: columns, images, alarms; None without one.

    Raises:
        StorageError: one of the files is not an audit's.
    """
    table, facts = run / "audit.csv", run / "audit.json"
    with storage_errors(f"read {run}"):
        if not exists(table):
            return None
        content, summarised = read_regular(table, 2**26), exists(facts)
    about = read_json(facts) if summarised else {}
    kind = "search" if weights == "search" else "audit"
    with decoding(f"expected the table of an audit in {table}", "run the audit again", StorageError):
        for row in csv.DictReader(io.StringIO(content.decode())):
            if (row["arch_id"], row["weights"], row["status"]) == (key, kind, "ok"):
                return {
                    "images": about.get("images"),
                    "measured": dict(_numbers(row)),
                    "alarms": [
                        str(each["line"])
                        for each in about.get("alarms", [])
                        if (each["arch_id"], each["weights"]) == (key, kind)
                    ],
                }
    return None


def _numbers(row: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    for name, text in row.items():
        if name not in ("arch_id", "weights", "status", "reason", "params", "macs", "genome", "seed"):
            try:
                value = float(text)
            except (TypeError, ValueError):
                continue
            if value == value and abs(value) != float("inf"):
                yield name, value


def _audited(audit: Mapping[str, Any] | None) -> Iterator[ErrorRow]:
    """Errors of the audit; without the number of images they have no interval, and stand in the audit alone."""
    from evonas.audit import MEASUREMENTS
    from evonas.ship import ErrorRow

    if audit is None or not audit["images"]:
        return
    labels = {each.column: each.label for group in MEASUREMENTS.values() for each in group}
    for column, value in audit["measured"].items():
        if is_error(column) and 0 <= value <= 1:
            threat: Any = "none" if column == "clean_error" else "other"
            text = "" if threat == "none" else labels.get(column, column)
            yield ErrorRow.of(column, value, int(audit["images"]), "test", "audit", threat, text)


def _latencies(rivals: Mapping[str, Rival]) -> list[dict[str, Any]]:
    from evonas.ship.int8 import PASSES

    runtime = f"onnxruntime {version_of('onnxruntime')}, {platform.machine()}"
    return [
        {
            "network": name,
            "milliseconds": each.milliseconds,
            "batch": 1,
            "threads": 1,
            "passes": PASSES,
            "runtime": runtime,
        }
        for name, each in rivals.items()
    ]


def _quantisation(export: Export, data: Dataset) -> dict[str, Any]:
    from evonas.ship.int8 import QUANTISATION

    return {
        "how": QUANTISATION,
        "images": min(export.settings.calibration_images, len(data.train)),
        "part": "train",
    }


def _versions(config: Mapping[str, Any]) -> dict[str, str]:
    now = {name: version_of(name) for name in ("evonas", "torch", "onnx", "onnxruntime")}
    begun = {f"search: {name}": str(version) for name, version in config.get("versions", {}).items()}
    return {**{f"export: {name}": version for name, version in now.items() if version != "not installed"}, **begun}


def _limits(export: Export, images: int, audited: bool, int8: bool) -> Iterator[str]:
    yield f"Errors are of {images} test images of this data set; images of another camera or place can give others."
    yield "An error under an attack is a lower bound: a stronger attack, or one with more queries, fools more images."
    yield "Attacks stay in the stated ball around an image; a larger or another change is not covered."
    if export.weights == "search":
        yield "The weights are those of the search, which trains for a short time; a training to the end errs less."
        yield "Errors on the validation part chose this network, so they are lower than those on new images."
    if not audited:
        yield "The network was not audited: nothing here rules out that its gradients are masked."
    if int8:
        yield "The int8 network has no gradients: its errors are under transferred and black-box attacks alone."
