"""Networks that leave a run: files that other programs take, checked, and a card beside them.

To add a format: a file here and a line in `EXPORTS`.
"""

from typing import TYPE_CHECKING

from evonas.lazy import Table, import_lazily

if TYPE_CHECKING:
    from evonas.ship.card import Card, ErrorRow, script_of, wilson
    from evonas.ship.card_page import card_page
    from evonas.ship.card_schema import CARD_SCHEMA
    from evonas.ship.checking import TOLERANCE, Agreement, check_export, labelled_images
    from evonas.ship.format import Format, Sent, format_of, require_extra
    from evonas.ship.int8 import Rival, quantised, rivals
    from evonas.ship.onnx_format import OPSET, OnnxNetwork

__all__ = [
    "CARD_SCHEMA",
    "EXPORTS",
    "OPSET",
    "TOLERANCE",
    "Agreement",
    "Card",
    "ErrorRow",
    "Format",
    "OnnxNetwork",
    "Rival",
    "Sent",
    "card_page",
    "check_export",
    "format_of",
    "labelled_images",
    "quantised",
    "require_extra",
    "rivals",
    "script_of",
    "wilson",
]

EXPORTS: "Table[Format]" = Table(
    {
        ".onnx": "evonas.ship.onnx_format:ONNX",
        ".pt2": "evonas.ship.torch_format:PT2",
        ".pte": "evonas.ship.executorch_format:PTE",
    }
)
"""Suffix of a file -> its format."""

import_lazily(__name__)
