"""Options of every run: frozen dataclasses in groups, one flat list of flags, one flat object in config.json."""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

from evonas.data.loader import own_file
from evonas.errors import ConfigurationError
from evonas.files import expanded
from evonas.parts import as_plain, fits
from evonas.ranges import ANY, COUNT, IMAGES, Range, check_ranges
from evonas.runs.execution import ExecutionOptions
from evonas.runs.needs import options_of

__all__ = ["AuditOptions", "DataOptions", "RunOptions", "as_json", "changed", "flat", "from_json"]

Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Images of a run, and how they are divided."""

    data: str = "auto"
    """auto (CIFAR-10 where it is, else digits), digits, cifar10, cifar100, svhn, mnist, fashion_mnist or npz:PATH."""
    data_root: Path | None = None
    """Folder of the data sets, where missing ones are downloaded to; else the variable EVONAS_DATA, else ./data."""
    ood_data: str = "auto"
    """Out-of-distribution images: a data set's name, noise, or auto (SVHN where it is, else what is there)."""
    ood_ratio: Annotated[tuple[int, int], COUNT] = (1, 5)
    """AUPR: out-of-distribution images to own ones, `1 5` where guessing gives 1/6."""
    train_limit: Annotated[int | None, IMAGES] = None
    """Size of a class-balanced subset to train on."""
    val_limit: Annotated[int | None, IMAGES] = None
    """Size of a class-balanced subset to rank on."""
    split_seed: Annotated[int | None, ANY] = None
    """Seed of the data's parts, the run's own by default; runs that share it can share an adversarial set."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every run; a method adds its own."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: minutes on two cores. paper: the paper's own settings, work for a GPU."""
    data: DataOptions = field(default_factory=DataOptions)
    seed: Annotated[int, ANY] = 0
    """Seed of everything random."""
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)
    score_batch_size: Annotated[int | None, Range(least=1, most=2**16)] = None
    """Images of a pass when networks are scored for errors or AUPR; by default 200 to 500, on a GPU of 64 GiB or more
    512, however many evaluations share it. Another number rounds differently: a run goes on with its own."""
    out: Path | None = None
    """Folder of the run; runs/METHOD-DATA-PRESET-seedN by default."""
    keep_weights: Literal["none", "front", "all"] = "front"
    """Networks whose weights stay in the run's folder, `weights/ARCH.safetensors`: those on the front, all, or none.
    It may change when a run is continued."""
    retry_failed: bool = False
    """Evaluate again what is recorded as failed."""
    track: Literal["", "tensorboard"] = ""
    """A tracker: tensorboard writes events into the run's folder `tensorboard`; pip install 'evonas[track]'."""
    plugin: tuple[str, ...] = ()
    """Python files whose SPACES, OBJECTIVES, RECIPES, ATTACKS or MEASUREMENTS join evonas's own; they are executed."""

    example: ClassVar[str] = ""
    """A command to show at the end of the help."""
    short: ClassVar[tuple[str, ...]] = ()
    """Options that --help shows; --help-all shows all."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Flag of version 0.1.0 -> what it is called now."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Training the front to the end after a search, and measuring it on test images."""

    audit: tuple[str, ...] = ("clean", "pgd20")
    """Measurements, names of `evonas.audit.MEASUREMENTS`."""
    audit_top: Annotated[int | None, COUNT] = None
    """Networks of the front, the lightest; all by default."""
    audit_epochs: Annotated[int | None, COUNT] = None
    """Passes over the train part; those of the search by default."""
    audit_images: Annotated[int | None, IMAGES] = None
    """Size of a class-balanced subset of the test images; all by default."""

    def __post_init__(self) -> None:
        check_ranges(self)


def as_json(options: Any) -> dict[str, Any]:
    """Options as one flat object of plain values; paths that another folder would miss are absolute."""
    found = {option.name: _plain(option.value) for option in options_of(options)}
    own = own_file(str(found.get("data")))
    if own is not None:
        found["data"] = f"npz:{_plain(own)}"
    for name, none in (("adversarial_set", "auto"), ("table", "")):
        if found.get(name, none) != none:
            found[name] = _plain(Path(found[name]))
    return as_plain(found)


def from_json(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Options from what `as_json` gave; what is missing has its default, what is unknown is ignored.

    Nested objects, as version 0.1.0 wrote them, are read as well.
    """
    made: Options = changed(kind(), flat(values))
    return made


def changed(usual: Any, values: Mapping[str, Any]) -> Any:
    """The same options with other values; groups keep what is usual where they stand."""
    hints, changes = _hints(usual.__class__), dict[str, Any]()
    shown = {option.name for option in options_of(usual)}
    for each in fields(usual):
        if is_dataclass(hints[each.name]):
            changes[each.name] = changed(getattr(usual, each.name), values)
        elif each.name in values and each.name in shown:
            read = _read(hints[each.name], values[each.name])
            if not fits(str(read) if isinstance(read, Path) else read, hints[each.name]):
                hint = getattr(hints[each.name], "__name__", hints[each.name])
                raise ConfigurationError(
                    f"expected {each.name} in the settings of config.json to be {hint}, got {read!r}; restore it"
                )
            changes[each.name] = read
    return replace(usual, **changes)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(None, each) for each in value)
    if isinstance(value, str) and float in (hint, *get_args(hint)):
        with contextlib.suppress(ValueError):
            return float(value)  # infinity, see `as_plain`
    if isinstance(value, float) and tuple[float, ...] in get_args(hint):
        return (value,)  # one number, as version 0.1.0 had it
    return Path(value) if isinstance(value, str) and hint == Path | None else value


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves of nested objects."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value) if isinstance(value, Mapping) else {name: value}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(expanded(value).absolute())
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
