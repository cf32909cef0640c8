"""Options: frozen dataclasses in groups, one flat list of flags on a command line, one flat object in config.json."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import tyro

from evonas.errors import ConfigurationError
from evonas.runs.execution import ExecutionOptions

__all__ = [
    "AuditOptions",
    "DataOptions",
    "Needs",
    "Option",
    "RunOptions",
    "as_json",
    "documentation",
    "flag",
    "flat",
    "from_json",
    "options_of",
    "refuse_unused",
]

Options = TypeVar("Options")


@dataclass(frozen=True)
class Needs:
    """Marks an option, or a group of them, that only another option brings into use.

    Args:
        option: its field name.
        values: it must have one of these, or hold one of them; none: it must be set.
        but: fields of the marked group that are in use anyway.
        instead: another option that brings it into use as well.
    """

    option: str
    values: tuple[Any, ...] = ()
    but: tuple[str, ...] = ()
    instead: "Needs | None" = None

    def met(self, values: Mapping[str, Any]) -> bool:
        value = values[self.option]
        found = {*value} if isinstance(value, tuple) else {value}
        met = bool(found & {*self.values}) if self.values else bool(value)
        return met or (self.instead is not None and self.instead.met(values))

    def __str__(self) -> str:
        words = f"--{flag(self.option)} {' or '.join(map(str, self.values))}".strip()
        return words if self.instead is None else f"{words}, or {self.instead}"


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Images of a run, and how they are divided."""

    data: str = "auto"
    """auto (CIFAR-10 where it is, else digits), digits, cifar10, cifar100, svhn, mnist, fashion_mnist or npz:PATH."""
    data_root: Path | None = None
    """Folder of the data sets, where missing ones are downloaded to; else the variable EVONAS_DATA, else ./data."""
    ood_data: str = "auto"
    """Out-of-distribution images: a data set's name, noise, or auto (SVHN where it is, else what is there)."""
    train_limit: int | None = None
    """Size of a class-balanced subset to train on."""
    val_limit: int | None = None
    """Size of a class-balanced subset to rank on."""
    split_seed: int | None = None
    """Seed of the data's parts, the run's own by default; runs that share it can share an adversarial set."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every run; a method adds its own."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: minutes on two cores. paper: the paper's own settings, work for a GPU."""
    data: DataOptions = field(default_factory=DataOptions)
    seed: int = 0
    """Seed of everything random."""
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)
    out: Path | None = None
    """Folder of the run; runs/METHOD-DATA-PRESET-seedN by default."""
    retry_failed: bool = False
    """Evaluate again what is recorded as failed."""
    plugin: tuple[str, ...] = ()
    """Python files whose SPACES, OBJECTIVES, RECIPES, ATTACKS or MEASUREMENTS join evonas's own; they are executed."""

    short: ClassVar[tuple[str, ...]] = ()
    """Options that --help shows; --help-all shows all."""


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """Training the front to the end after a search, and measuring it on test images."""

    audit: tuple[str, ...] = ("clean", "pgd20")
    """Measurements, names of `evonas.audit.MEASUREMENTS`."""
    audit_top: int | None = None
    """Networks of the front, the lightest; all by default."""
    audit_epochs: int | None = None
    """Passes over the train part; those of the search by default."""
    audit_images: int | None = None
    """Size of a class-balanced subset of the test images; all by default."""

    def __post_init__(self) -> None:
        for name in ("audit_top", "audit_epochs", "audit_images"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigurationError(f"expected {name} >= 1, got {getattr(self, name)}")


class Option(NamedTuple):
    """One leaf of nested options."""

    name: str
    value: Any
    """None where only the class was given."""
    hint: Any
    """Its type, with what annotates it."""
    owner: type
    """The dataclass that declares it."""
    needs: tuple[Needs, ...]
    """What brings it into use; empty: it always is."""


def options_of(given: Any) -> Iterator[Option]:
    """Leaves of nested options, those of a group where the group stands; hidden ones left out."""
    yield from _leaves(given, ())


def _leaves(given: Any, needs: tuple[Needs, ...]) -> Iterator[Option]:
    kind = given if isinstance(given, type) else type(given)
    hints = get_type_hints(kind, include_extras=True)
    for each in fields(kind):
        hint = hints[each.name]
        extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        plain = get_args(hint)[0] if extras else hint
        if tyro.conf.Suppress in extras:
            continue
        own = (*needs, *(extra for extra in extras if isinstance(extra, Needs)))
        own = tuple(need for need in own if each.name not in need.but)
        if is_dataclass(plain):
            yield from _leaves(plain if given is kind else getattr(given, each.name), own)
        else:
            value = None if given is kind else getattr(given, each.name)
            yield Option(each.name, value, hint, kind, own)


def flag(name: str) -> str:
    """What the command line calls a field, without its dashes."""
    return {"asynchronous": "async"}.get(name, name.replace("_", "-"))


def refuse_unused(options: Any, preset: Any) -> None:
    """ConfigurationError where an option differs from the preset's although nothing here reads it.

    Besides `Needs`, the method `unused` of the options, where they have one, names such options: field -> what would
    bring it into use.
    """
    values = {option.name: option.value for option in options_of(options)}
    usual = {option.name: option.value for option in options_of(preset)}
    unused: dict[str, str] = options.unused() if hasattr(options, "unused") else {}
    for option in options_of(options):
        unmet = [str(need) for need in option.needs if not need.met(values)] + [
            text for name, text in unused.items() if name == option.name
        ]
        if unmet and option.value != usual[option.name]:
            raise ConfigurationError(
                f"expected options that this run uses, --{flag(option.name)} changes nothing without {unmet[0]}; "
                "leave it out, or change that"
            )


def as_json(options: Any) -> dict[str, Any]:
    """Options as one flat object of plain values; paths that another folder would miss are absolute."""
    return {option.name: _plain(option.value) for option in options_of(options)}


def from_json(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Options from what `as_json` gave; what is missing has its default, what is unknown is ignored.

    Nested objects, as version 0.1.0 wrote them, are read as well.
    """
    made: Options = _made(kind, flat(values))
    return made


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    made = {}
    for each in fields(kind):
        if is_dataclass(hints[each.name]):
            made[each.name] = _made(hints[each.name], values)
        elif each.name in values:
            made[each.name] = _read(hints[each.name], values[each.name])
    return kind(**made)


def _read(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read(None, each) for each in value)
    return Path(value) if value is not None and hint == Path | None else value


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves of nested objects."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value) if isinstance(value, Mapping) else {name: value}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


@cache
def documentation(owner: type) -> Mapping[str, str]:
    """Field -> the text below it in the source, of a dataclass and of those that it extends."""
    found: dict[str, str] = {}
    for kind in reversed(owner.__mro__):
        if not is_dataclass(kind):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = following.value.value if _is_text(following) else ""  # type: ignore[attr-defined]
                found[statement.target.id] = " ".join(str(text).split())
    return found


def _is_text(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return False
    return isinstance(statement.value.value, str)
