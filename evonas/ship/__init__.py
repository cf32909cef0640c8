"""Networks that leave a run: weights, files that other programs take, checked, a card beside them, and their speed.

To add a format: a file here and a line in `EXPORTS`.
"""

from typing import TYPE_CHECKING

from evonas.lazy import Table, import_lazily

if TYPE_CHECKING:
    from evonas.ship.card import Card, ErrorRow, script_of, wilson
    from evonas.ship.card_page import card_page
    from evonas.ship.card_schema import CARD_SCHEMA
    from evonas.ship.checking import TOLERANCE, Parity, check_export, labelled_images
    from evonas.ship.format import Format, Sent, format_of, require_extra
    from evonas.ship.int8 import Rival, median_latencies, quantised, rivals
    from evonas.ship.latency import Runtime, onnx_call, processor, set_threads, time_alternately, torch_call
    from evonas.ship.latency_measuring import Effort, measure_table
    from evonas.ship.latency_table import LatencyTable, load_table, save_table
    from evonas.ship.layers import layers_of
    from evonas.ship.onnx_format import OPSET, OnnxNetwork
    from evonas.ship.operation_times import operation_times
    from evonas.ship.weights import (
        Provenance,
        Weights,
        WeightsCard,
        load_weights,
        parse_weights,
        read_weights,
        space_settings,
        weights_file,
    )

__all__ = [
    "CARD_SCHEMA",
    "EXPORTS",
    "OPSET",
    "TOLERANCE",
    "Card",
    "Effort",
    "ErrorRow",
    "Format",
    "LatencyTable",
    "OnnxNetwork",
    "Parity",
    "Provenance",
    "Rival",
    "Runtime",
    "Sent",
    "Weights",
    "WeightsCard",
    "card_page",
    "check_export",
    "format_of",
    "labelled_images",
    "layers_of",
    "load_table",
    "load_weights",
    "measure_table",
    "median_latencies",
    "onnx_call",
    "operation_times",
    "parse_weights",
    "processor",
    "quantised",
    "read_weights",
    "require_extra",
    "rivals",
    "save_table",
    "script_of",
    "set_threads",
    "space_settings",
    "time_alternately",
    "torch_call",
    "weights_file",
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
