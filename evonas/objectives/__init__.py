"""Objectives of a search, one file each. Add one with a file and a line in `OBJECTIVES`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from evonas.lazy import Table, import_lazily

if TYPE_CHECKING:
    from evonas.objectives.adversarial_set_error import AdversarialSetError
    from evonas.objectives.attack_error import FGSMError, PGDError
    from evonas.objectives.certified import CertifiedAccuracy, CertifiedRadius
    from evonas.objectives.certified_error import CertifiedError
    from evonas.objectives.clean_error import CleanError
    from evonas.objectives.cost import Flops, Macs, Params
    from evonas.objectives.jacobian_norm import JacobianNorm
    from evonas.objectives.latency import LatencyMs
    from evonas.objectives.objective import Candidate, Column, CostedSpace, Objective
    from evonas.objectives.ood_aupr import OodAupr, OodImages
    from evonas.objectives.quick_robust_error import QuickRobustError
    from evonas.objectives.timed import Timed

__all__ = [
    "OBJECTIVES",
    "AdversarialSetError",
    "Candidate",
    "CertifiedAccuracy",
    "CertifiedError",
    "CertifiedRadius",
    "CleanError",
    "Column",
    "CostedSpace",
    "FGSMError",
    "Flops",
    "JacobianNorm",
    "LatencyMs",
    "Macs",
    "Objective",
    "OodAupr",
    "OodImages",
    "PGDError",
    "Params",
    "QuickRobustError",
    "Timed",
]

OBJECTIVES: "Table[Callable[..., Objective]]" = Table(
    {
        "adversarial_set_error": "evonas.objectives.adversarial_set_error:AdversarialSetError",
        "certified_accuracy": "evonas.objectives.certified:CertifiedAccuracy",
        "certified_error": "evonas.objectives.certified_error:CertifiedError",
        "certified_radius": "evonas.objectives.certified:CertifiedRadius",
        "clean_error": "evonas.objectives.clean_error:CleanError",
        "fgsm_error": "evonas.objectives.attack_error:FGSMError",
        "flops": "evonas.objectives.cost:Flops",
        "jacobian_norm": "evonas.objectives.jacobian_norm:JacobianNorm",
        "latency_ms": "evonas.objectives.latency:LatencyMs",
        "macs": "evonas.objectives.cost:Macs",
        "ood_aupr": "evonas.objectives.ood_aupr:OodAupr",
        "pgd_error": "evonas.objectives.attack_error:PGDError",
        "params": "evonas.objectives.cost:Params",
        "quick_robust_error": "evonas.objectives.quick_robust_error:QuickRobustError",
    }
)
"""Name -> class. AdversarialSetError takes a set, LatencyMs a table, OodAupr images of another data set; all else has
defaults."""

import_lazily(__name__)
