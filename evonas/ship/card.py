"""Cards of exported networks: what one is, what it was measured under, and how far that may be trusted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

__all__ = ["KNOWS", "SCHEMA", "Card", "ErrorRow", "Threat", "script_of", "wilson"]

SCHEMA = "evonas card 1"

Threat = Literal["none", "transfer", "black-box", "white-box", "other"]

KNOWS: Mapping[str, str] = {
    "none": "nobody changes the images",
    "transfer": "the attacker knows other networks, or the float32 one, and not this one",
    "black-box": "the attacker sees the logits alone, and may ask a stated number of times",
    "white-box": "the attacker knows the weights and follows the gradients",
    "other": "see the name of the measurement",
}
"""Threat -> what an attacker knows."""


@dataclass(frozen=True)
class ErrorRow:
    """A share of images that a network gets wrong, with its 95% interval (Wilson)."""

    network: Literal["float32", "int8"]
    name: str
    error: float
    low: float
    high: float
    images: int
    part: str
    """test, validation, or the images of an adversarial set."""
    threat: Threat
    attack: str
    """Attack and its bound; empty: none."""
    source: str
    """Origin of the number: this export, the search, or the audit."""

    @classmethod
    def of(
        cls,
        name: str,
        error: float,
        images: int,
        part: str,
        source: str,
        threat: Threat = "none",
        attack: str = "",
        network: Literal["float32", "int8"] = "float32",
    ) -> Self:
        return cls(network, name, error, *wilson(error, images), images, part, threat, attack, source)


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything on the card, as plain values; `CARD_SCHEMA` is its schema."""

    name: str
    """File of the network."""
    network: Mapping[str, Any]
    files: Sequence[Mapping[str, Any]]
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    data: Mapping[str, Any]
    check: Mapping[str, Any]
    errors: Sequence[ErrorRow]
    latency: Sequence[Mapping[str, Any]]
    quantisation: Mapping[str, Any] | None
    audit: Mapping[str, Any] | None
    training: Mapping[str, Any]
    seed: int
    versions: Mapping[str, str]
    limits: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self), "threats": self.threats, "script": script_of(self.name, self.input)}

    @property
    def threats(self) -> list[dict[str, str]]:
        """Powers of each attacker: one entry for each threat that errors stand for."""
        kinds = dict.fromkeys(each.threat for each in self.errors)
        return [
            {
                "threat": kind,
                "knows": KNOWS[kind],
                "attacks": "; ".join(dict.fromkeys(each.attack for each in self.errors if each.threat == kind)),
            }
            for kind in kinds
        ]


def wilson(share: float, n: int) -> tuple[float, float]:
    """95% interval of a share that was counted on `n` images (Wilson, 1927)."""
    z = 1.959963984540054
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return centre - half if share > 0 else 0.0, centre + half if share < 1 else 1.0


def script_of(name: str, taken: Mapping[str, Any]) -> str:
    """A Python script that runs the file, without evonas."""
    shape = f"(1, {', '.join(str(each) for each in taken['shape'][1:])})"
    images = f"images = np.zeros({shape}, np.float32)  # your own: {taken['layout']}, values in [0, 1]"
    if name.endswith(".onnx"):
        lines = [
            "import numpy as np",
            "import onnxruntime",
            "",
            f'session = onnxruntime.InferenceSession("{name}")',
            'print(session.get_modelmeta().custom_metadata_map["value_range"])',
            images,
            f'(logits,) = session.run(["logits"], {{"{taken["name"]}": images}})',
            "print(logits.argmax(axis=1))",
        ]
    elif name.endswith(".pt2"):
        lines = [
            "import numpy as np",
            "import torch",
            "",
            f'network = torch.export.load("{name}").module()',
            images,
            "logits = network(torch.from_numpy(images))",
            "print(logits.argmax(dim=1))",
        ]
    else:
        lines = [
            "import numpy as np",
            "import torch",
            "from executorch.runtime import Runtime",
            "",
            f'method = Runtime.get().load_program("{name}").load_method("forward")',
            images,
            "(logits,) = method.execute([torch.from_numpy(images)])",
            "print(logits.argmax(dim=1))",
        ]
    return "\n".join(lines) + "\n"
