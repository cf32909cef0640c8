"""Objectives of a search, one file each. Add one with a file and a line in `OBJECTIVES`."""

from collections.abc import Callable

from evonas.objectives.adversarial_set_error import AdversarialSetError
from evonas.objectives.attack_error import FGSMError, PGDError
from evonas.objectives.certified import CertifiedAccuracy, CertifiedRadius
from evonas.objectives.clean_error import CleanError
from evonas.objectives.cost import Flops, Macs, Params
from evonas.objectives.jacobian_norm import JacobianNorm
from evonas.objectives.objective import Candidate, Column, CostedSpace, Objective
from evonas.objectives.ood_aupr import OodAupr, OodImages

__all__ = [
    "OBJECTIVES",
    "AdversarialSetError",
    "Candidate",
    "CertifiedAccuracy",
    "CertifiedRadius",
    "CleanError",
    "Column",
    "CostedSpace",
    "FGSMError",
    "Flops",
    "JacobianNorm",
    "Macs",
    "Objective",
    "OodAupr",
    "OodImages",
    "PGDError",
    "Params",
]

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    AdversarialSetError.name: AdversarialSetError,
    CertifiedAccuracy.name: CertifiedAccuracy,
    CertifiedRadius.name: CertifiedRadius,
    CleanError.name: CleanError,
    FGSMError.name: FGSMError,
    Flops.name: Flops,
    JacobianNorm.name: JacobianNorm,
    Macs.name: Macs,
    OodAupr.name: OodAupr,
    PGDError.name: PGDError,
    Params.name: Params,
}
"""Name -> class. AdversarialSetError takes a set, OodAupr images of another data set; all else has defaults."""
