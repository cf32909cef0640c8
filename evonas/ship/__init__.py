"""Networks that leave a run: files of weights, and how fast they are."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.ship.latency import Runtime, onnx_call, processor, set_threads, time_alternately, torch_call
    from evonas.ship.latency_measuring import Effort, measure_table
    from evonas.ship.latency_table import LatencyTable, load_table, save_table
    from evonas.ship.layers import layers_of
    from evonas.ship.weights import Provenance, Weights, WeightsCard, load_weights, read_weights, weights_file

__all__ = [
    "Effort",
    "LatencyTable",
    "Provenance",
    "Runtime",
    "Weights",
    "WeightsCard",
    "layers_of",
    "load_table",
    "load_weights",
    "measure_table",
    "onnx_call",
    "processor",
    "read_weights",
    "save_table",
    "set_threads",
    "time_alternately",
    "torch_call",
    "weights_file",
]

import_lazily(__name__)
