"""The card of an adversarial set: its data, targets and attacks, checked, and as JSON."""

import sys
import types
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from numbers import Integral, Real
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

from evonas.errors import DataError

__all__ = ["ATTACK_NAMES", "CARD_FORMAT", "SMALL_PART", "AttackCell", "Card", "CardData", "Target"]

CARD_FORMAT = "evonas adversarial set 1"
ATTACK_NAMES = ("L0", "Linf")
"""The two parts of a set: th pixels changed at will, or every value changed by at most th/255."""

SMALL_PART = 200
"""Below this number of images a single one moves the error by more than 0.5%."""

_ALGORITHMS = ("de", "cma")


class _Checked:
    """A record that checks its fields against their annotations, and converts them to plain values."""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            value = _typed(getattr(self, name), hint, f"{type(self).__name__}.{name}")
            object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class CardData(_Checked):
    """The images on which targets were trained and from which adversarial images were made."""

    name: str
    n_classes: int
    image_size: int
    """Height and width."""
    mean: tuple[float, ...]
    """Per channel on the [0, 1] scale, as `deviation`: the targets' first layer."""
    deviation: tuple[float, ...]
    train_images: int
    """Size of the train part."""
    adversarial_images: int
    """Size of the adversarial part, on which nothing is trained."""
    train_fingerprint: str
    adversarial_fingerprint: str
    split_seed: int
    """Seed of the split into parts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.n_classes >= 2, "CardData.n_classes", "at least 2", self.n_classes)
        _require(len(self.mean) == len(self.deviation) == 3, "CardData.mean and deviation", "3 channels", self.mean)


@dataclass(frozen=True, kw_only=True)
class Target(_Checked):
    """A target network."""

    name: str
    """Name in Table I; unique within a set."""
    width: float
    """Factor of its channels; 1: the network as published."""
    depth: int | None = None
    """Depth, where the network comes in several."""
    params: int
    macs: int
    """Multiply-adds for one image."""
    epochs: int
    lr: float
    """Learning rate of the first epoch."""
    batch_size: int
    recipe: str
    """Training recipe in one line."""
    train_images: int
    clean_accuracy: float
    """Accuracy on the validation part, in [0, 1]."""
    adversarial_part_accuracy: float
    """Accuracy on the adversarial part, in [0, 1]; only correctly classified images are attacked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.name != "", "Target.name", "a name", self.name)
        for name in ("clean_accuracy", "adversarial_part_accuracy"):
            _require(getattr(self, name) <= 1, f"Target.{name}", "a fraction in [0, 1]", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class AttackCell(_Checked):
    """One cell of Table I: one target under one attack at one threshold."""

    target: str
    """Name of the target."""
    attack: str
    """L0 or Linf."""
    threshold: int
    """th: pixels (L0) or 1/255 of the pixel scale (Linf)."""
    algorithm: str
    """de or cma."""
    population: int
    generations: int
    """Maximum number of generations; an attack ends when it succeeds."""
    tried: int
    """Number of images attacked: the drawn images of the adversarial part that the target gets right."""
    successful: int
    """Number of successful attacks; each is one record of the set."""
    epsilon_used: float
    """Largest measured change of a successful image: pixels (L0), fraction of the pixel scale (Linf)."""
    epsilon_mean: float
    """Mean of these changes; both are 0 without successes."""
    evaluations: int
    """Number of individuals scored, as budgets count them."""
    seconds: float
    """Wall time in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.attack in ATTACK_NAMES, "AttackCell.attack", " or ".join(ATTACK_NAMES), self.attack)
        _require(self.algorithm in _ALGORITHMS, "AttackCell.algorithm", " or ".join(_ALGORITHMS), self.algorithm)
        _require(
            self.successful <= self.tried, "AttackCell.successful", f"at most the {self.tried} tried", self.successful
        )
        limit = self.threshold / (1 if self.attack == "L0" else 255) + 1e-6  # measured in float32
        _require(
            self.epsilon_used <= limit, "AttackCell.epsilon_used", f"at most th={self.threshold}", self.epsilon_used
        )
        _require(
            self.epsilon_mean <= self.epsilon_used + 1e-6,
            "AttackCell.epsilon_mean",
            f"at most the largest, {self.epsilon_used}",
            self.epsilon_mean,
        )


@dataclass(frozen=True, kw_only=True)
class Card(_Checked):
    """Everything about a set except its images. DataError for values or sums that are inconsistent."""

    name: str
    data: CardData
    preset: str
    """Name of the preset of settings."""
    seed: int
    """Seed of all random choices."""
    seeds: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Purpose -> seed, for choices with a seed of their own."""
    device: str
    """Type of the device (cpu, cuda) that attacked."""
    precision: str
    """Precision of the attacks' search; success is checked in fp32."""
    threads: int
    targets: tuple[Target, ...]
    """Records refer to targets by their index here."""
    cells: tuple[AttackCell, ...]
    images: int
    """Number of distinct adversarial images."""
    images_l0: int
    """Number of distinct images in the L0 part; an image may belong to both parts."""
    images_linf: int
    records: int
    """Number of successes; an image found in several cells counts in each."""
    sources: int
    """Number of distinct clean images that the adversarial ones were made from."""
    versions: Mapping[str, str] = field(hash=False)
    """Package (python, evonas, torch, numpy) -> version."""
    created_by: str
    """Program and version that built the set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.name != "", "Card.name", "a name", self.name)
        names = [target.name for target in self.targets]
        _require(bool(names) and len(set(names)) == len(names), "Card.targets", "targets of different names", names)
        cells = Counter((cell.target, cell.attack, cell.threshold) for cell in self.cells)
        repeated = [key for key, count in cells.items() if count > 1]
        _require(not repeated, "Card.cells", "one cell per target, attack and threshold", repeated[:1])
        unknown = sorted({cell.target for cell in self.cells} - set(names))
        _require(not unknown, "Card.cells", f"targets {', '.join(names)}", unknown[:1])
        tried = max((cell.tried for cell in self.cells), default=0)
        _require(
            tried <= self.data.adversarial_images, "AttackCell.tried", f"{self.data.adversarial_images} at most", tried
        )
        successful = sum(cell.successful for cell in self.cells)
        _require(self.records == successful, "Card.records", f"the cells' sum {successful}", self.records)
        parts = (self.images_l0, self.images_linf)
        fewest, most = max(parts), min(sum(parts), self.records)
        _require(fewest <= self.images <= most, "Card.images", f"{fewest} to {most}, as its parts have", self.images)
        most = min(self.records, self.data.adversarial_images)
        _require(self.sources <= most, "Card.sources", f"{most} at most", self.sources)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for the set and for each part in which one image moves the error by more than 0.5%.

        Files hold these lines, and `from_json` compares them: they are part of the format.
        """
        parts = (("the set", self.images), ("the L0 part", self.images_l0), ("the Linf part", self.images_linf))
        return tuple(
            f"{part} has {count} images, so one image moves its error by {1 / count:.2%}, more than 0.5%: "
            f"differences of a few images between networks mean little; {SMALL_PART} images or more avoid this"
            if count
            else f"{part} has no images: nothing is measured on it"
            for part, count in parts
            if count < SMALL_PART
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, with the format first and the warnings last."""
        return {"format": CARD_FORMAT, **asdict(self), "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The card from the values of `to_json`. DataError for a field that is missing, unknown or out of range."""
        _require(isinstance(value, Mapping), "the card", "a JSON object", type(value).__name__)
        assert isinstance(value, Mapping)
        found = dict(value)
        version = found.pop("format", None)
        _require(version == CARD_FORMAT, "format", repr(CARD_FORMAT), version)
        warnings = found.pop("warnings", None)
        card = _built(cls, found, "Card")
        assert isinstance(card, cls)
        _require(warnings == list(card.warnings), "warnings", "those of its counts", warnings)
        return card


def _hints(cls: Any) -> dict[str, Any]:
    """Name -> annotation of a record's fields."""
    hints = get_type_hints(cls)
    return {each.name: hints[each.name] for each in fields(cls)}


def _require(holds: bool, where: str, expected: str, got: object) -> None:
    if not holds:
        text = repr(got)
        raise DataError(f"expected {where} to be {expected}, got {text if len(text) <= 80 else text[:80] + '...'}")


def _typed(value: Any, hint: Any, where: str) -> Any:
    """`value` as a plain value of the annotated type, or a DataError. Numbers must be finite and >= 0."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _typed(value, arguments[0], where)
    if origin is tuple:
        _require(isinstance(value, tuple | list), where, "a list", value)
        return tuple(_typed(each, arguments[0], f"{where}[{place}]") for place, each in enumerate(value))
    if origin is Mapping:
        _require(isinstance(value, Mapping), where, "an object", value)
        return {_typed(key, str, where): _typed(each, arguments[1], f"{where}[{key!r}]") for key, each in value.items()}
    if is_dataclass(hint):
        return value if isinstance(value, hint) else _built(hint, value, where)  # type: ignore[arg-type]
    if hint is str:
        line = isinstance(value, str) and len(value) <= 1000 and value.isprintable()
        _require(line, where, "one line of text", value)
        return value
    numeric = not isinstance(value, bool) and isinstance(value, Integral if hint is int else Real)
    try:
        number = hint(value) if numeric else -1
    except OverflowError:  # an integer beyond the range of floats
        number = -1
    expected = "an integer in [0, 2^63)" if hint is int else "a finite number >= 0"
    _require(0 <= number <= (2**63 - 1 if hint is int else sys.float_info.max), where, expected, value)
    return number


def _built(cls: Any, value: Any, where: str) -> Any:
    """A record from a mapping with exactly its field names."""
    _require(isinstance(value, Mapping), where, "an object", value)
    names = set(_hints(cls))
    _require(not names - set(value), where, "complete", f"no {', '.join(sorted(names - set(value)))}")
    unknown = [name for name in value if name not in names]
    _require(not unknown, where, "of known fields", unknown[:1])
    return cls(**{str(name): each for name, each in value.items()})
