"""Everything that a trained network can be measured under, each by its name: attacks, certificates, costs.

A new measurement is an entry of `MEASUREMENTS`; every command of an audit then knows its name.
"""

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from evonas.adversarial_sets import AdversarialSet
from evonas.attacks import (
    ATTACKS,
    BIM,
    FGSM,
    PGD,
    Attack,
    AutoAttack,
    CarliniWagnerL2,
    DeepFool,
    PixelAttack,
    ThresholdAttack,
)
from evonas.audit.calibration import CalibrationError
from evonas.audit.certificates import SmoothedAccuracy, Unproven
from evonas.audit.corruptions import STRENGTHS, Corrupted
from evonas.audit.gradient_check import CHECKED, GRADIENT_CHECK, GradientCheck
from evonas.audit.images import CountsErrors, OnImages, reporting
from evonas.audit.staged import StagedAutoAttack
from evonas.certify import certified_radius, random_targets
from evonas.certify.settings import Intermediate, Rounding
from evonas.certify.smoothing import Smoothing
from evonas.data import Dataset, DeviceData, DevicePart, batches
from evonas.errors import ConfigurationError, DivergedError, choose
from evonas.objectives import AdversarialSetError, Candidate, CertifiedAccuracy, CertifiedError, OodAupr
from evonas.objectives.scoring import error_under, wrong_after, wrong_under
from evonas.parts import part_identity, part_name
from evonas.seeding import derive_seed
from evonas.spaces.darts_costs import paper_flops
from evonas.types import Progress, Report, arch_id

__all__ = [
    "CLEAN",
    "MEASUREMENTS",
    "AdversarialSetShare",
    "ErrorUnder",
    "ErrorsAfter",
    "MeanRadius",
    "Measure",
    "Measurement",
    "OodPrecision",
    "PaperFlops",
    "SecondSetShare",
    "errors_under",
    "in_one_pass",
    "joined",
    "measurements",
    "pgd_grid",
    "require_libraries",
    "with_attack",
]


class Measure(Protocol):
    """A frozen value that measures a candidate on test images."""

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        """Column -> value.

        Args:
            tested: its validation part are the test images.
            report: gets the images that are done.
        Raises:
            DivergedError: logits that are not finite.
        """
        ...


@dataclass(frozen=True)
class Measurement:
    """One thing that an audit measures."""

    column: str
    """Its first column in tables."""
    label: str
    """Name and bound, as tables and pictures show them."""
    measure: Measure
    note: str = ""
    """Source of the settings."""
    unit: Literal["share", "pixels", "count"] = "share"
    """Share of images in [0, 1], radius on the [0, 1] pixel scale, or a number."""
    maximize: bool = False
    """More is better."""
    library: str = ""
    """Required library of the extra `audit`."""

    def identity(self) -> dict[str, Any]:
        """Everything its values follow from, besides the network and the test images."""
        return {"column": self.column, "measure": {"name": part_name(self.measure), **part_identity(self.measure)}}


@dataclass(frozen=True)
class ErrorUnder(CountsErrors):
    """Share of the test images that a network gets wrong, clean or under a white-box attack."""

    column: str
    attack: Attack | None = None

    def wrong(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, Tensor]:
        part = DevicePart(tested.validation, candidate.device)
        on_batch = reporting(report, candidate, self.column, len(part))
        every_batch = batches(part, batch_size)
        return {self.column: wrong_under(candidate.attacked, every_batch, self.attack, candidate.generator, on_batch)}


@dataclass(frozen=True)
class CleanOnAll:
    """Clean error on all test images, however few the other measurements take."""

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        every = replace(tested, validation=tested.test)
        (wrong,) = ErrorUnder(CLEAN_ON_ALL).wrong(candidate, every, batch_size, report).values()
        return {CLEAN_ON_ALL: float(wrong.double().mean())}


@dataclass(frozen=True)
class ErrorsAfter(CountsErrors):
    """Errors under one PGD after several numbers of steps, in one pass: what `ErrorUnder` gives for each of them."""

    columns: tuple[str, ...]
    attacks: tuple[PGD, ...]
    """One for each column; they differ in their steps alone, and are `prefixed`."""

    def wrong(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, Tensor]:
        part = DevicePart(tested.validation, candidate.device)
        on_batch = reporting(report, candidate, ", ".join(self.columns), len(part))
        steps = [attack.steps for attack in self.attacks]
        wrong = wrong_after(candidate.attacked, batches(part, batch_size), self.attacks[0], steps, on_batch)
        return dict(zip(self.columns, wrong, strict=True))


def in_one_pass(measurements: Sequence[Measurement]) -> list[list[int]]:
    """Places of the measurements, those together that one pass gives: errors under a PGD and under its beginnings."""
    found: dict[object, list[int]] = {}
    for place, each in enumerate(measurements):
        attack = each.measure.attack if type(each.measure) is ErrorUnder else None
        kind: object = place
        if isinstance(attack, PGD) and type(attack) in (PGD, BIM) and attack.prefixed:  # a subclass may do otherwise
            kind = replace(attack, steps=1)
        found.setdefault(kind, []).append(place)
    return list(found.values())


def joined(measurements: Sequence[Measurement]) -> Measure:
    """One measure instead of those that `in_one_pass` has put together: the same values, bit for bit."""
    errors = [each.measure for each in measurements if isinstance(each.measure, ErrorUnder)]
    attacks = [each.attack for each in errors if isinstance(each.attack, PGD)]
    if len(measurements) == 1:
        return measurements[0].measure
    return ErrorsAfter(tuple(each.column for each in errors), tuple(attacks))


@dataclass(frozen=True)
class AdversarialSetShare:
    """Error on a precomputed set, made against other networks: transferred, not white-box, robustness."""

    adversarial_set: AdversarialSet

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        report(Progress(arch_id(candidate.genome), 0, 1, "image", "scoring the adversarial set"))
        return dict(AdversarialSetError(self.adversarial_set)(candidate))


@dataclass(frozen=True)
class SecondSetShare(AdversarialSetShare):
    """The same on another set, which no search has seen: a searched set is optimised against."""

    name: ClassVar[str] = "second_set_error"

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        found = super().__call__(candidate, tested, batch_size, report)
        return {column.replace(AdversarialSetError.name, self.name): value for column, value in found.items()}


@dataclass(frozen=True)
class OodPrecision:
    """Average precision of telling test images of another data set from the network's own (E2RNAS, AUPR)."""

    ood_data: Dataset
    seed: int
    """Seed of the choice, where there are more images than the ratio takes."""
    ratio: tuple[int, int] = (1, 5)
    """OoD images to own ones. Where there are too few of either, there are fewer of both."""

    def objective(self, tested: Dataset) -> OodAupr:
        """DataError where there are too few images, or they are of another size."""
        ood = replace(self.ood_data, train=self.ood_data.test, validation=self.ood_data.test)
        return OodAupr.of(ood, tested, self.ratio, self.seed)

    def identity(self) -> dict[str, Any]:
        data = self.ood_data
        return {
            "name": data.name,
            "fingerprint": data.test.fingerprint,
            "ratio": list(self.ratio),
            "seed": self.seed,
        }

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        total = len(tested.validation)
        report(Progress(arch_id(candidate.genome), total, total, "image", "scoring ood_aupr"))
        seen = replace(candidate, data=DeviceData(tested, candidate.device))
        return dict(self.objective(tested)(seen))


@dataclass(frozen=True)
class CertifiedShare:
    """Share of images that are classified right, provably so for every change within epsilon."""

    certificate: CertifiedAccuracy

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        total = min(len(tested.validation), self.certificate.images)
        report(Progress(arch_id(candidate.genome), 0, total, "image", "scoring certified_accuracy"))
        seen = replace(candidate, data=DeviceData(tested, candidate.device))
        return dict(self.certificate(seen))


@dataclass(frozen=True)
class PaperFlops:
    """FLOPs as E2RNAS's tables count them."""

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        size = tested.image_size
        return {"paper_flops": paper_flops(candidate.network, (3, size, size))}


@dataclass(frozen=True)
class MeanRadius:
    """Mean certified radius over the first test images, by bisection on linear bounds; 0 where the class is wrong.

    Images are in [0, 1].
    """

    column: str
    norm: Literal["linf", "l2"]
    images: int = 100
    intermediate: Intermediate = "interval"
    """Bounds before each ReLU: intervals, or linear bounds, which are tighter and cost far more."""
    targets: Literal["random", "all"] = "random"
    """Classes that an image must not be taken for: one drawn for it, the same for every network (CNN-Cert), or all."""
    batch_size: int = 10
    rounding: Rounding = "outward"
    """outward: proven in spite of rounding errors."""

    def __post_init__(self) -> None:
        if self.targets not in ("random", "all"):
            raise ConfigurationError(f"expected radii against random or all targets, got {self.targets!r}")
        if self.images < 1:
            raise ConfigurationError(f"expected certified images >= 1, got {self.images}")

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        part = DevicePart(tested.validation, candidate.device)
        first = DevicePart.of(part.images[: self.images], part.labels[: self.images])
        key, done, found = arch_id(candidate.genome), 0, []
        error_under(candidate.network, batches(first, self.batch_size))  # raises where logits are not finite
        drawn = torch.Generator().manual_seed(derive_seed(0, "radius targets"))
        for images, labels in batches(first, self.batch_size):
            report(Progress(key, done, len(first), "image", f"scoring {self.column}"))
            targets = random_targets(labels, candidate.data.n_classes, drawn) if self.targets == "random" else None
            radii = certified_radius(
                candidate.network,
                images,
                labels,
                self.norm,
                intermediate=self.intermediate,
                clip=(0.0, 1.0),
                targets=targets,
                rounding=self.rounding,
            )
            found.append(radii.double())
            done += len(labels)
        mean = float(torch.cat(found).mean())
        if not math.isfinite(mean):
            raise DivergedError(f"{self.column} is not finite")
        return {self.column: mean}


def _error(column: str, label: str, attack: Attack | None, note: str = "", library: str = "") -> Measurement:
    return Measurement(column, label, ErrorUnder(column, attack), note, library=library)


CLEAN = _error("clean_error", "No attack", None)
CLEAN_ON_ALL = "clean_on_all_error"

SINGLE_CW = CarliniWagnerL2(
    initial_const=1.0, confidence=0.0, stepsize=0.01, steps=60, binary_search_steps=1, abort_early=False
)
FROM_CLEAN = "epsilon 8/255, the paper's 0.03, in steps of 2/255 from the clean image; the last iterate counts"

FGSM_NOTE = "the paper's 'epsilon = 0.01 (2/255)', which are two numbers, is read as 2/255 unless another is given"
CW_NOTE = "L2, 60 iterations; c = 1, kappa = 0 and steps of 0.01 are ours, without a bound"


def _roco_suite() -> dict[str, tuple[Measurement, ...]]:
    """RoCo-NAS, IV-C and IV-D."""
    pgd = PGD(epsilon=1 / 255, step_size=0.25 / 255, steps=10)
    bim = BIM(epsilon=2 / 255, step_size=1 / 255, steps=3)
    deepfool = DeepFool(epsilon=0.25, steps=50, overshoot=0.02)
    pgd_note = "the paper's weak 'epsilon = 1' (Fig. 5), read as 1/255; steps are ours; the last iterate counts"
    fgsm_note = "the paper's epsilon, read on the [0, 1] scale"
    bim_note = (
        "the paper gives no setting; steps of one grey level, min(epsilon + 4, 1.25 epsilon) of them, are Kurakin "
        "et al.'s (2017), and epsilon is ours"
    )
    cw_note = (
        "the paper gives no setting; without binary search and with few steps some images hold out, while the full "
        "attack succeeds on nearly all"
    )
    deepfool_note = (
        "the paper gives no setting; without a bound it fools every network, so that what it needs beyond 0.25 "
        "(a change of 1/255 of every value is 0.22) is cut off"
    )
    fgsm = (_error(f"fgsm_{e}_error", f"FGSM, L-inf epsilon {e}", FGSM(epsilon=e), fgsm_note) for e in (0.1, 0.2, 0.3))
    return {
        "pgd": (_error("pgd_error", "PGD, L-inf epsilon 1/255, 10 steps of 0.25/255", pgd, pgd_note),),
        "fgsm": tuple(fgsm),
        "bim": (_error("bim_error", "BIM, L-inf epsilon 2/255, 3 steps of 1/255", bim, bim_note),),
        "cw": (_error("cw_error", "C&W L2, c 1, 60 steps, no bound", SINGLE_CW, cw_note, "foolbox"),),
        "deepfool": (
            _error("deepfool_error", "DeepFool, L2 epsilon 0.25, 50 steps", deepfool, deepfool_note, "foolbox"),
        ),
    }


def _dsrna_suite() -> dict[str, tuple[Measurement, ...]]:
    """DSRNA, 4.3.1."""
    pgd = {steps: PGD(epsilon=8 / 255, step_size=2 / 255, steps=steps) for steps in (10, 20, 50, 100)}
    return {
        "fgsm2": (_error("fgsm_error", "FGSM", FGSM(epsilon=2 / 255), FGSM_NOTE),),
        **{
            f"pgd{steps}": (_error(f"pgd{steps}_error", f"PGD ({steps})", attack, FROM_CLEAN),)
            for steps, attack in pgd.items()
        },
        "cw60": (_error("cw_error", "C&W", SINGLE_CW, CW_NOTE, "foolbox"),),
    }


def _radius(column: str, label: str, norm: Literal["linf", "l2"]) -> Measurement:
    return Measurement(column, label, MeanRadius(column, norm), unit="pixels", maximize=True)


WITHIN = 8 / 255
"""L-inf radius of what is not a paper's own setting."""


def _stages() -> dict[str, tuple[Measurement, ...]]:
    """The attacks of AutoAttack, each alone on every image that the network gets right, then all of them."""
    source, library = "of the standard version (Croce and Hein, 2020)", "pyautoattack"
    labels = {"apgd-ce": "APGD-CE", "apgd-t": "APGD-T", "fab-t": "FAB-T", "square": "Square"}
    alone = {name: _called(name, label, AutoAttack(attacks=(name,)), source) for name, label in labels.items()}
    staged = StagedAutoAttack("autoattack_error", AutoAttack())
    whole = Measurement("autoattack_error", "AutoAttack, L-inf epsilon 8/255", staged, source, library=library)
    some = OnImages(StagedAutoAttack("autoattack_1_error", AutoAttack(epsilon=1 / 255)), 100)
    note = f"{source}, on 100 images"
    weak = Measurement("autoattack_1_error", "AutoAttack, L-inf epsilon 1/255", some, note, library=library)
    return {
        **{name.replace("-", "_"): (replace(each, library=library),) for name, each in alone.items()},
        "autoattack": (whole,),
        "autoattack_1": (weak,),
    }


def _called(name: str, label: str, attack: Attack, note: str) -> Measurement:
    return _error(f"{name.replace('-', '_')}_error", f"{label}, L-inf epsilon 8/255", attack, note)


def _restarted() -> dict[str, tuple[Measurement, ...]]:
    """One step, few steps, and PGD from five random starts, whose worst iterate counts."""
    pgd = PGD(epsilon=WITHIN, step_size=2 / 255, random_start=True, restarts=5, stop_when_fooled=True)
    note = "five random starts, steps of 2/255; the worst iterate counts"
    return {
        "fgsm_linf": (_called("fgsm_linf", "FGSM", FGSM(epsilon=WITHIN), ""),),
        "bim_linf": (_called("bim_linf", "BIM, 10 steps", BIM(epsilon=WITHIN), "steps of 1/255"),),
        **{
            f"pgd{steps}x5": (_called(f"pgd{steps}x5", f"PGD ({steps}, 5 starts)", replace(pgd, steps=steps), note),)
            for steps in (20, 50, 100)
        },
    }


def _few_changes() -> dict[str, tuple[Measurement, ...]]:
    """Attacks by evolution, on some of the images: they take thousands of passes for each."""
    pixel = ErrorUnder("pixel_error", PixelAttack(threshold=1, population=100, generations=30))
    threshold = ErrorUnder("threshold_error", ThresholdAttack(threshold=10, population=100, generations=50))
    note = "on 50 images"
    return {
        "pixel": (Measurement("pixel_error", "Pixel attack, 1 pixel", OnImages(pixel, 50), note),),
        "threshold": (Measurement("threshold_error", "Threshold attack, 10/255", OnImages(threshold, 50), note),),
    }


def _without_attacker() -> dict[str, tuple[Measurement, ...]]:
    """Changed images, certificates, calibration, and the ladder that alarms are read from."""
    words = {"gaussian_noise": "Gaussian noise", "brightness": "Brightness", "contrast": "Contrast", "blur": "Blur"}
    note = "CIFAR-10-C's kind, mean of severities 1 to 5: {}"
    changed = {
        kind: Measurement(
            f"{kind}_error",
            label,
            Corrupted(f"{kind}_error", kind),
            note.format(", ".join(f"{each:g}" for each in STRENGTHS[kind])),
        )
        for kind, label in words.items()
    }
    proven = CertifiedShare(CertifiedAccuracy(images=100))
    certified = Measurement("certified_accuracy", "Certified, L-inf 1/255", proven, "of 100 images", maximize=True)
    ladder = OnImages(GradientCheck(), CHECKED)
    return {
        **{kind: (each,) for kind, each in changed.items()},
        "ece": (Measurement("ece", "Calibration error", CalibrationError(), "15 bins (Guo et al., 2017)"),),
        "certified": (certified,),
        GRADIENT_CHECK: (Measurement(GRADIENT_CHECK, "No usable gradient", ladder, f"share of {CHECKED} images"),),
    }


def _certificates() -> dict[str, tuple[Measurement, ...]]:
    """An error that no attack exceeds, and the certified accuracy of the smoothed network."""
    unproven = Unproven("certified_error", CertifiedError(epsilon=WITHIN))
    note = "the better one of IBP's and CROWN-IBP's bounds of each margin"
    error = Measurement("certified_error", "Not certified, L-inf epsilon 8/255", unproven, note)
    smoothing = Smoothing(sigma=0.25)
    smoothed = OnImages(SmoothedAccuracy("certified_smoothing_025", smoothing), 100)
    note = f"mean at L2 radii 0.25 and 0.5, {smoothing.n:,} samples of each of 100 images (Cohen et al., 2019)"
    accuracy = Measurement("certified_smoothing_025", "Smoothed, sigma 0.25", smoothed, note, maximize=True)
    return {"certified_error": (error,), "smoothing_025": (accuracy,)}


MEASUREMENTS: dict[str, tuple[Measurement, ...]] = {
    "clean": (CLEAN,),
    "clean_on_all": (Measurement(CLEAN_ON_ALL, "No attack, all images", CleanOnAll()),),
    **_roco_suite(),
    **_dsrna_suite(),
    **_restarted(),
    **_stages(),
    **_few_changes(),
    **_without_attacker(),
    **_certificates(),
    "radius_linf": (_radius("certified_radius_linf", "Radius L-inf", "linf"),),
    "radius_l2": (_radius("certified_radius_l2", "Radius L2", "l2"),),
    "paper_flops": (Measurement("paper_flops", "FLOPs of E2RNAS's tables", PaperFlops(), unit="count"),),
}
"""Name on the command line -> what is measured. What needs images of another data set or an adversarial set is made by
`OodPrecision` and `AdversarialSetShare`."""


def measurements(names: Sequence[str]) -> tuple[Measurement, ...]:
    """The measurements called so, in order; an attack of `ATTACKS` is one with its defaults.

    Raises:
        UnknownNameError: neither has the name.
        ConfigurationError: an attack has no defaults.
    """
    known = dict.fromkeys(ATTACKS, ()) | MEASUREMENTS
    return tuple(each for name in names for each in choose(known, name, "measurement") or (_under(name),))


def _under(name: str) -> Measurement:
    """The error under an attack of `ATTACKS` with its defaults. ConfigurationError where it has none."""
    try:
        attack = ATTACKS[name]()
    except Exception as error:  # it may be a user's own
        raise ConfigurationError(
            f"expected an attack that is made without arguments, {name}: {type(error).__name__}: {error}"
        ) from error
    return _error(f"{name}_error", name, attack)


def errors_under(names: Sequence[str], option: str) -> tuple[Measurement, ...]:
    """`measurements`, where a table takes shares of images only.

    Raises:
        ConfigurationError: one is a radius or a number.
        UnknownNameError: see `measurements`.
    """
    found = measurements(names)
    for each in found:
        if each.unit != "share":
            raise ConfigurationError(f"expected errors under attacks with --{option}, {each.label} is in {each.unit}")
    return found


def with_attack(measurement: Measurement, attack: Attack) -> Measurement:
    """The same column under another attack."""
    return replace(measurement, measure=ErrorUnder(measurement.column, attack))


def pgd_grid(attacks: Sequence[tuple[int, int]], step_size: float) -> tuple[Measurement, ...]:
    """PGD at every (steps, epsilon in 255ths), from the clean image, the last iterate counting (TAM-NAS, II to V)."""
    return tuple(
        _error(
            f"pgd{steps}_{epsilon}_error",
            f"P{steps} {epsilon}/255",
            PGD(epsilon=epsilon / 255, step_size=step_size, steps=steps),
        )
        for steps, epsilon in attacks
    )


def require_libraries(wanted: Sequence[Measurement], flag: str = "") -> None:
    """ConfigurationError where a measurement needs a library that is not installed.

    Args:
        flag: that names the measurements, for the message.
    """
    absent = [each for each in wanted if each.library and importlib.util.find_spec(each.library) is None]
    if absent:
        libraries = ", ".join(dict.fromkeys(each.library for each in absent))
        labels = ", ".join(each.label for each in absent)
        instead = f", or leave them out with {flag}" if flag else ""
        raise ConfigurationError(
            f"expected {libraries} for {labels}, it is not installed; pip install 'evonas[audit]'{instead}"
        )
