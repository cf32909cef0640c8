"""The schema of a card's JSON (JSON Schema, draft 2020-12)."""

from typing import Any

from evonas.ship.card import KNOWS, SCHEMA

__all__ = ["CARD_SCHEMA"]

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_POSITIVE = {"type": "number", "exclusiveMinimum": 0}


def _object(**properties: Any) -> dict[str, Any]:
    """An object with these properties, all of them, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


CARD_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Card of a network that evonas has exported",
    **_object(
        schema={"const": SCHEMA},
        name=_TEXT,
        network=_object(
            arch_id={"type": "string", "pattern": "^[0-9a-f]{16}$"},
            space=_TEXT,
            method=_TEXT,
            genome=_list({"type": "integer"}),
            description=_TEXT,
            params=_COUNT,
            macs=_COUNT,
            weights=_TEXT,
        ),
        files={
            "type": "array",
            "minItems": 1,
            "items": _object(
                name=_TEXT,
                format=_TEXT,
                bytes={"type": "integer", "minimum": 1},
                sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"},
            ),
        },
        input=_object(
            name=_TEXT,
            shape={"type": "array", "minItems": 4, "maxItems": 4, "items": {"type": ["string", "integer"]}},
            layout=_TEXT,
            range={"const": [0, 1]},
            normalization=_TEXT,
        ),
        output=_object(name=_TEXT, classes={"type": "integer", "minimum": 2}),
        data=_object(
            name=_TEXT,
            fingerprint=_TEXT,
            terms=_TEXT,
            train=_COUNT,
            validation=_COUNT,
            test=_COUNT,
        ),
        check=_object(
            images={"type": "integer", "minimum": 1},
            tolerance=_POSITIVE,
            largest_difference={"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
            labels_changed={"const": 0},
        ),
        errors={
            "type": "array",
            "minItems": 1,
            "items": _object(
                network={"enum": ["float32", "int8"]},
                name=_TEXT,
                error=_SHARE,
                low=_SHARE,
                high=_SHARE,
                images={"type": "integer", "minimum": 1},
                part=_TEXT,
                threat={"enum": [*KNOWS]},
                attack=_TEXT,
                source=_TEXT,
            ),
        },
        threats=_list(_object(threat={"enum": [*KNOWS]}, knows=_TEXT, attacks=_TEXT)),
        latency=_list(
            _object(
                network=_TEXT,
                milliseconds=_POSITIVE,
                batch={"const": 1},
                threads={"const": 1},
                passes=_COUNT,
                runtime=_TEXT,
            )
        ),
        quantisation=_or_null(_object(how=_TEXT, images=_COUNT, part={"const": "train"})),
        audit=_or_null(
            _object(images=_or_null(_COUNT), measured={"type": "object"}, alarms=_list(_TEXT)),
        ),
        training={"type": "object"},
        seed={"type": "integer"},
        versions={"type": "object", "additionalProperties": _TEXT},
        limits=_list(_TEXT),
        script=_TEXT,
    ),
}
