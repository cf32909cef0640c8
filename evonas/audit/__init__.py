"""The audit of a search: its networks trained to the end, and measured under attacks and certificates.

One training (`FinalTraining`), one table of measurements, one loop with records (`Audit`).
"""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.audit.audit import Audit, AuditNetwork, Measured, lightest
    from evonas.audit.layers import LayerCount, layer_counts, lego_genome
    from evonas.audit.measurements import (
        CLEAN,
        MEASUREMENTS,
        AdversarialSetShare,
        ErrorUnder,
        MeanRadius,
        Measurement,
        OodPrecision,
        SecondSetShare,
        errors_under,
        measurements,
        pgd_grid,
        require_libraries,
        with_attack,
    )
    from evonas.audit.records import AuditRecords
    from evonas.audit.training import FinalTraining

__all__ = [
    "CLEAN",
    "MEASUREMENTS",
    "AdversarialSetShare",
    "Audit",
    "AuditNetwork",
    "AuditRecords",
    "ErrorUnder",
    "FinalTraining",
    "LayerCount",
    "MeanRadius",
    "Measured",
    "Measurement",
    "OodPrecision",
    "SecondSetShare",
    "errors_under",
    "layer_counts",
    "lego_genome",
    "lightest",
    "measurements",
    "pgd_grid",
    "require_libraries",
    "with_attack",
]

import_lazily(__name__)
