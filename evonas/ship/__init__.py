"""Networks that leave a run: files of weights."""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.ship.weights import Provenance, Weights, WeightsCard, load_weights, read_weights, weights_file

__all__ = ["Provenance", "Weights", "WeightsCard", "load_weights", "read_weights", "weights_file"]

import_lazily(__name__)
