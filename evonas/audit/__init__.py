"""The audit of a search: its networks trained to the end, and measured under attacks and certificates.

One training (`FinalTraining`), one table of measurements, one loop with records (`Audit`).
"""

from typing import TYPE_CHECKING

from evonas.lazy import import_lazily

if TYPE_CHECKING:
    from evonas.audit.alarms import ALARMS, Alarm, alarms, masked_gradients
    from evonas.audit.audit import Audit, AuditNetwork, Measured, lightest
    from evonas.audit.changes import Scores, changes, compared, intervals, on_front, replicated
    from evonas.audit.corruptions import Corrupted, corrupted
    from evonas.audit.gradient_check import CHECKED, GradientCheck, check_gradients
    from evonas.audit.images import CountsErrors, OnImages
    from evonas.audit.latency import ImageLatency
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
    from evonas.audit.orders import other_orders
    from evonas.audit.presets import ROBUST, SET, SUITES, suite_names, within
    from evonas.audit.records import AuditRecords
    from evonas.audit.searched import AsSearched
    from evonas.audit.staged import StagedAutoAttack
    from evonas.audit.training import FinalTraining

__all__ = [
    "ALARMS",
    "CHECKED",
    "CLEAN",
    "MEASUREMENTS",
    "ROBUST",
    "SET",
    "SUITES",
    "AdversarialSetShare",
    "Alarm",
    "AsSearched",
    "Audit",
    "AuditNetwork",
    "AuditRecords",
    "Corrupted",
    "CountsErrors",
    "ErrorUnder",
    "FinalTraining",
    "GradientCheck",
    "ImageLatency",
    "LayerCount",
    "MeanRadius",
    "Measured",
    "Measurement",
    "OnImages",
    "OodPrecision",
    "Scores",
    "SecondSetShare",
    "StagedAutoAttack",
    "alarms",
    "changes",
    "check_gradients",
    "compared",
    "corrupted",
    "errors_under",
    "intervals",
    "layer_counts",
    "lego_genome",
    "lightest",
    "masked_gradients",
    "measurements",
    "on_front",
    "other_orders",
    "pgd_grid",
    "replicated",
    "require_libraries",
    "suite_names",
    "with_attack",
    "within",
]

import_lazily(__name__)
