"""The card of an exported network, from the run that it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas._version import version_of
from evonas.data import terms_of
from evonas.report import read_audit
from evonas.report.units import is_error

if TYPE_CHECKING:
    from evonas.data import Dataset
    from evonas.runs.exporting import Findings, NetworkExport
    from evonas.ship import Card, ErrorRow, WeightsCard
    from evonas.types import TrainOn

__all__ = ["audited", "make_card"]

ABOUT_TRAINING = ("training", "supernet", "method", "cells", "precision", "device", "threads")
"""Pieces of a run's identity that its weights follow from."""


def make_card(export: NetworkExport, data: Dataset, files: Mapping[Path, bytes], measured: Findings) -> Card:
    """The card of files that are about to be written."""
    from evonas.runs.exporting import file_row
    from evonas.ship import EXPORTS, TOLERANCE, Card

    config, trained = export.result.folder.open_stored(), _trained(export)
    origin = None if trained is None else trained.provenance
    training = (None, None, "") if origin is None else (origin.epochs, origin.train_on, origin.identity[:8])
    audit = audited(export.result.path, export.entry.key, export.weights, *training)
    about = export.about(data)
    parity, size = measured.parity, data.image_size
    return Card(
        name=export.to.name,
        network=_network(export, trained, str(config["identity"]["method"]), size),
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
            "images": parity.images,
            "tolerance": TOLERANCE,
            "largest_difference": {str(batch): value for batch, value in parity.largest.items()},
            "labels_changed": max(parity.changed.values()),
        },
        errors=[*_errors(export, config, measured), *_audited(audit)],
        latency=_latencies(measured),
        quantisation=_quantisation(measured) if measured.rivals else None,
        audit=audit and {name: audit[name] for name in ("images", "measured", "alarms")},
        training=dict(export.training or _training(trained, config)),
        seed=export.entry.result.seed if trained is None else trained.provenance.seed,
        versions=_versions(config),
        limits=[*_limits(export, trained, parity.images, bool(audit), bool(measured.rivals))],
    )


def _trained(export: NetworkExport) -> WeightsCard | None:
    """The card of weights of a training to the end; None for those of the search."""
    from evonas.ship import read_weights

    if export.weights == "search":
        return None
    key = export.entry.key
    name = export.result.trainings(key)[0] if export.weights == "audit" else export.weights
    folder, training = name.split("/")
    return read_weights(export.result.path / folder / f"{key}-{training}.safetensors").card


def _training(trained: WeightsCard | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that the weights follow from, as far as the run states them."""
    if trained is None:
        return {name: config["identity"][name] for name in ABOUT_TRAINING if name in config["identity"]}
    return {"space": trained.space, "provenance": asdict(trained.provenance)}


def _network(export: NetworkExport, trained: WeightsCard | None, method: str, size: int) -> dict[str, Any]:
    import numpy as np

    from evonas.costs import count_macs, count_params

    genome = export.entry.result.genome
    space = export.result.space if trained is None or not trained.known_space else trained.make_space()
    kind = {"search": "as the search scored them", "audit": "of a training to the end"}
    return {
        "arch_id": export.entry.key,
        "space": str(space.name),
        "method": method,
        "genome": [*genome],
        "description": str(space.describe(np.array(genome, dtype=np.int64))),
        "params": count_params(export.network),
        "macs": count_macs(export.network, (3, size, size)),
        "weights": kind.get(export.weights, f"of a training to the end, {export.weights}"),
    }


def _data(data: Dataset) -> dict[str, Any]:
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "terms": terms_of(data.name),
        **{part: len(getattr(data, part)) for part in ("train", "validation", "test")},
    }


def _errors(export: NetworkExport, config: Mapping[str, Any], measured: Findings) -> Iterator[ErrorRow]:
    """Errors measured now, then those of the search."""
    from evonas.ship import ErrorRow

    wanted, images = export.settings, measured.parity.images
    attacked = min(wanted.attacked_images, images)
    if not measured.rivals:
        yield ErrorRow.of("clean_error", measured.clean_error, images, "test", "this export")
    bound = f"L-inf, epsilon {wanted.epsilon:.4g}"
    pgd = f"PGD against the float32 network, 20 steps, {bound}"
    squares = f"Square attack through onnxruntime, {wanted.queries} queries, {bound}"
    for name, each in measured.rivals.items():
        network: Any = name
        threat: Any = "white-box" if name == "float32" else "transfer"
        yield ErrorRow.of("clean_error", each.clean_error, images, "test", "this export", network=network)
        yield ErrorRow.of("pgd_error", each.pgd_error, attacked, "test", "this export", threat, pgd, network)
        yield ErrorRow.of(
            "square_error", each.square_error, attacked, "test", "this export", "black-box", squares, network
        )
    if export.weights == "search":
        yield from _searched(export, config)


def _searched(export: NetworkExport, config: Mapping[str, Any]) -> Iterator[ErrorRow]:
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


def audited(
    run: Path,
    key: str,
    weights: str,
    epochs: int | None = None,
    train_on: TrainOn | None = None,
    training: str = "",
) -> dict[str, Any] | None:
    """Measured columns of a network in the audit of a run, on how many images, within which radius, and its alarms.

    None where it has none.

    Args:
        epochs, train_on: of the training to the end: the audit of a longer or shorter one, or of one on other images,
            is another network's.
        training: first digits of its digest; a table of version 0.1.0 lacks them.
    Raises:
        StorageError: audit.csv or audit.json is damaged.
    """
    kind, audit = "search" if weights == "search" else "audit", read_audit(run)
    for row, cells in zip(audit.networks, audit.rows, strict=True):
        same = epochs in (None, cells.get("epochs", epochs)) and row.training in ("", training or row.training)
        same = same and train_on in (None, cells.get("train_on") or "train")
        if same and (row.arch_id, row.weights, row.status) == (key, kind, "ok"):
            alarms = [
                each
                for each in audit.summary.get("alarms", [])
                if (each["arch_id"], each["weights"], each.get("training", row.training)) == (key, kind, row.training)
            ]
            return {
                "images": cells.get("images") or audit.summary.get("images"),
                "epsilon": cells.get("epsilon"),
                "measured": dict(row.values),
                "alarms": [each["line"] for each in alarms],
            }
    return None


def _audited(audit: Mapping[str, Any] | None) -> Iterator[ErrorRow]:
    """Errors of the audit; without the number of images they have no interval, and stand in the audit alone."""
    from evonas.audit import MEASUREMENTS, SET, OnImages, within
    from evonas.ship import ErrorRow

    if audit is None or not audit["images"]:
        return
    known = {each.column: each for group in MEASUREMENTS.values() for each in group}
    for column, value in audit["measured"].items():
        if not is_error(column) or column == f"{SET}_error" or not 0 <= value <= 1:
            continue
        images, text, measured = int(audit["images"]), column, known.get(column)
        if measured is not None:
            text = (within(measured, audit["epsilon"]) if audit["epsilon"] else measured).label
            images = min(images, measured.measure.images) if isinstance(measured.measure, OnImages) else images
        threat: Any = "none" if column == "clean_error" else "other"
        yield ErrorRow.of(column, value, images, "test", "audit", threat, "" if threat == "none" else text)


def _latencies(measured: Findings) -> list[dict[str, Any]]:
    from evonas.ship import processor
    from evonas.ship.int8 import PASSES

    common = {"batch": 1, "threads": 1, "passes": PASSES}
    runtime = f"onnxruntime {version_of('onnxruntime')}, {processor()}"
    return [
        {"network": name, "milliseconds": each, **common, "runtime": runtime}
        for name, each in measured.milliseconds.items()
    ]


def _quantisation(measured: Findings) -> dict[str, Any]:
    from evonas.ship.int8 import QUANTISATION

    return {"how": QUANTISATION, "images": measured.calibrated, "part": "train"}


def _versions(config: Mapping[str, Any]) -> dict[str, str]:
    now = {name: version_of(name) for name in ("evonas", "torch", "onnx", "onnxruntime")}
    begun = {f"search: {name}": str(version) for name, version in config.get("versions", {}).items()}
    return {**{f"export: {name}": version for name, version in now.items() if version != "not installed"}, **begun}


def _limits(
    export: NetworkExport, trained: WeightsCard | None, images: int, audited: bool, int8: bool
) -> Iterator[str]:
    yield f"Errors are of {images} test images of this data set; images of another camera or place can give others."
    yield "An error under an attack is a lower bound: a stronger attack, or one with more queries, fools more images."
    yield "Attacks stay in the stated ball around an image; a larger or another change is not covered."
    if export.weights == "search":
        yield "The weights are those of the search, which trains for a short time; a training to the end errs less."
        yield "Errors on the validation part chose this network, so they are lower than those on new images."
    if trained is not None and trained.provenance.train_on == "all":
        yield "It was trained on all images but the test part's: errors on validation images are not held-out ones."
    if not audited:
        yield "The network was not audited: nothing here rules out that its gradients are masked."
    if int8:
        yield "The int8 network has no gradients: its errors are under transferred and black-box attacks alone."
        yield "Its logits are coarse, which hinders a black-box search: a lower error under it proves nothing."
