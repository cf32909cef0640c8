"""Networks that leave a run: how fast they are."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.ship.latency import Runtime, onnx_call, processor, set_threads, time_alternately, torch_call
    from evonas.ship.latency_measuring import Effort, measure_table
    from evonas.ship.latency_table import LatencyTable, load_table, save_table
    from evonas.ship.layers import layers_of

__all__ = [
    "Effort",
    "LatencyTable",
    "Runtime",
    "layers_of",
    "load_table",
    "measure_table",
    "onnx_call",
    "processor",
    "save_table",
    "set_threads",
    "time_alternately",
    "torch_call",
]

import_lazily(__name__)
