"""Attacks: images that a network gets wrong, close to images that it gets right.

To add one: a file here and a line in `ATTACKS`.
"""

from collections.abc import Callable

from evonas.attacks.attack import Attack
from evonas.attacks.autoattack import AutoAttack
from evonas.attacks.cw import CarliniWagnerL2
from evonas.attacks.deepfool import DeepFool
from evonas.attacks.gradient_sign import BIM, FGSM, PGD
from evonas.attacks.inference import FixedModel, inference_copy
from evonas.attacks.pixel import PixelAttack
from evonas.attacks.threshold import ThresholdAttack

__all__ = [
    "ATTACKS",
    "BIM",
    "FGSM",
    "PGD",
    "Attack",
    "AutoAttack",
    "CarliniWagnerL2",
    "DeepFool",
    "FixedModel",
    "PixelAttack",
    "ThresholdAttack",
    "inference_copy",
]

ATTACKS: dict[str, Callable[..., Attack]] = {
    AutoAttack.name: AutoAttack,
    BIM.name: BIM,
    CarliniWagnerL2.name: CarliniWagnerL2,
    DeepFool.name: DeepFool,
    FGSM.name: FGSM,
    PGD.name: PGD,
    PixelAttack.name: PixelAttack,
    ThresholdAttack.name: ThresholdAttack,
}
"""Name -> class; the defaults are common settings."""
