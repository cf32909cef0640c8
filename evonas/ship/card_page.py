"""A card as a page of Markdown."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from evonas.ship.card import Card

__all__ = ["card_page"]


def card_page(card: Card) -> str:
    """The card for people; its JSON says the same."""
    content = card.as_json()
    parts = [
        f"# {card.name}",
        _what_it_is(content),
        "## Files",
        _table(
            ("file", "format", "bytes", "SHA-256"),
            ((each["name"], each["format"], f"{each['bytes']:,}", f"`{each['sha256']}`") for each in card.files),
        ),
        *_input(content),
        *_run(content),
        *_errors(card),
        *_speed(content),
        *_audit(content),
        *_data(content),
        "## Training",
        f"Seed {card.seed}. Weights: {card.network['weights']}.",
        _code(json.dumps(card.training, indent=2), "json"),
        "## Versions",
        ", ".join(f"{name} {version}" for name, version in card.versions.items()),
        "## Limits",
        "\n".join(f"- {line}" for line in card.limits),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what_it_is(content: Mapping[str, Any]) -> str:
    network = content["network"]
    return (
        f"An image classifier with {content['output']['classes']} classes, network `{network['arch_id']}` of the space "
        f"`{network['space']}`, found by `{network['method']}` with evonas. {network['params']:,} parameters, "
        f"{network['macs']:,} multiply-adds for one image.\n\n{network['description']}"
    )


def _input(content: Mapping[str, Any]) -> Iterator[str]:
    taken, given, check = content["input"], content["output"], content["check"]
    shape = " x ".join(str(each) for each in taken["shape"])
    yield "## Input and output"
    yield (
        f"- Input `{taken['name']}`: float32, {shape}, {taken['layout']}, values in [0, 1] (8-bit values divided by "
        f"255). {taken['normalization']}\n- Output `{given['name']}`: float32, batch x {given['classes']} logits."
    )
    largest = ", ".join(f"{value:.1e} in batches of {batch}" for batch, value in check["largest_difference"].items())
    yield (
        f"Checked on {check['images']} test images when it was written: logits differ from the network's by at most "
        f"{largest} (allowed: {check['tolerance']:g}); {check['labels_changed']} labels differ."
    )


def _run(content: Mapping[str, Any]) -> Iterator[str]:
    yield "## How to run it"
    yield _code(content["script"].rstrip(), "python")


def _errors(card: Card) -> Iterator[str]:
    yield "## Errors"
    yield "Shares of images that are classified wrong, with 95% intervals (Wilson) over n images."
    yield _table(
        ("network", "error", "share", "95% interval", "n", "images", "attack", "threat", "from"),
        (
            (
                each.network,
                each.name,
                f"{100 * each.error:.1f}%",
                f"{100 * each.low:.1f}% to {100 * each.high:.1f}%",
                str(each.images),
                each.part,
                each.attack or "-",
                each.threat,
                each.source,
            )
            for each in card.errors
        ),
    )
    yield "## Threat model"
    yield "\n".join(_threat(**each) for each in card.threats)


def _threat(threat: str, knows: str, attacks: str) -> str:
    return f"- {threat}: {knows}." + (f" Measured: {attacks}." if attacks else "")


def _speed(content: Mapping[str, Any]) -> Iterator[str]:
    if content["latency"]:
        yield "## Latency"
        yield _table(
            ("network", "median ms", "batch", "threads", "passes", "runtime"),
            (
                (
                    each["network"],
                    f"{each['milliseconds']:.3g}",
                    *(str(each[name]) for name in ("batch", "threads", "passes", "runtime")),
                )
                for each in content["latency"]
            ),
        )
    if content["quantisation"]:
        found = content["quantisation"]
        yield "## Quantisation"
        yield f"{found['how']}; calibrated on {found['images']} images of the {found['part']} part."


def _audit(content: Mapping[str, Any]) -> Iterator[str]:
    yield "## Audit"
    found = content["audit"]
    if not found:
        yield "None yet: `evonas audit RUN` makes one."
        return
    values = ", ".join(f"{name} {value}" for name, value in found["measured"].items())
    yield f"Measured: {values}."
    alarms: Sequence[str] = found["alarms"]
    yield "Alarms:\n\n" + "\n".join(f"- {line}" for line in alarms) if alarms else "No alarms of masked gradients."


def _data(content: Mapping[str, Any]) -> Iterator[str]:
    data = content["data"]
    yield "## Data"
    yield (
        f"{data['name']}: {data['train']:,} images to train on, {data['validation']:,} to rank networks, "
        f"{data['test']:,} to test. Fingerprint `{data['fingerprint']}`. Terms: {data['terms']}"
    )


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines))


def _code(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"
