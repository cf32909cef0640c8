"""Named lists of measurements, and the same measurements within another radius."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evonas.audit.certificates import Unproven
from evonas.audit.gradient_check import GradientCheck
from evonas.audit.images import OnImages
from evonas.audit.measurements import WITHIN, Measurement
from evonas.objectives.attack_error import described_radius

__all__ = ["ROBUST", "SET", "SUITES", "suite_names", "within"]

SET = "adversarial_set"
"""Name of the error on a run's adversarial set, which is no entry of `MEASUREMENTS`: it needs the set."""

_QUICK = ("clean", "fgsm_linf", "pgd20", "gaussian_noise", "ece", "gradient_check")
_STANDARD = (
    *("clean", "fgsm_linf", "bim_linf", "pgd20", "pgd50x5", "autoattack", "cw", "deepfool"),
    *("gaussian_noise", "brightness", "contrast", "blur", "ece", "gradient_check"),
)
SUITES: dict[str, tuple[str, ...]] = {
    "quick": _QUICK,
    "standard": _STANDARD,
    "full": (
        *("clean", "fgsm_linf", "bim_linf", "pgd20", "pgd50", "pgd100", "pgd20x5", "pgd50x5", "pgd100x5"),
        *("apgd_ce", "apgd_t", "fab_t", "square", "autoattack", "cw", "deepfool", "pixel", "threshold"),
        *("gaussian_noise", "brightness", "contrast", "blur", "ece", "certified", "radius_linf", "gradient_check"),
    ),
}
"""Name -> measurements. standard and full take a run's adversarial set, too, where it has one."""

ROBUST = (
    *("autoattack_error", "pgd100x5_error", "pgd50x5_error", "pgd20x5_error", "apgd_t_error", "apgd_ce_error"),
    *("pgd100_error", "pgd50_error", "pgd20_error", "pgd10_error", "bim_linf_error", "square_error"),
    *("fab_t_error", "fgsm_linf_error"),
)
"""Columns of L-inf attacks within one radius, the strongest first: the robust error of an audit is the first one."""


def suite_names(asked: Sequence[str], has_set: bool) -> list[str]:
    """Names of measurements, each once, the suites' written out.

    Args:
        has_set: whether there is an adversarial set.
    """
    found = [name for each in asked for name in SUITES.get(each, (each,))]
    if has_set and {"standard", "full"} & {*asked}:
        found.append(SET)
    return list(dict.fromkeys(found))


def within(measurement: Measurement, epsilon: float) -> Measurement:
    """The same within another L-inf radius, steps in proportion; what has a radius or a norm of its own stays."""
    measure: Any = measurement.measure
    if isinstance(measure, OnImages) and isinstance(measure.measure, GradientCheck):
        measure = replace(measure, measure=replace(measure.measure, epsilon=epsilon))
    if isinstance(measure, Unproven):
        measure = replace(measure, certificate=replace(measure.certificate, epsilon=epsilon))
    attack = getattr(measure, "attack", None)
    if attack is not None and attack.norm == "linf" and attack.radius == WITHIN:
        step = getattr(attack, "step_size", None)
        scaled = {} if step is None else {"step_size": step * epsilon / WITHIN}
        measure = replace(measure, attack=replace(attack, epsilon=epsilon, **scaled))
    label = measurement.label.replace(described_radius(WITHIN), described_radius(epsilon))
    return replace(measurement, measure=measure, label=label)
