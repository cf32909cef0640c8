"""Ranges of numbers, stated where a number is declared and checked in one place."""

import math
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from evonas.errors import ConfigurationError

__all__ = [
    "ANY",
    "BATCH",
    "CHANNELS",
    "COUNT",
    "IMAGES",
    "LAYERS",
    "LONG",
    "MILLIONS",
    "MILLISECONDS",
    "PARAMS",
    "PENALTY",
    "RADIUS",
    "RATE",
    "SHARE",
    "STEP",
    "THREADS",
    "Range",
    "check_radius",
    "check_ranges",
]


@dataclass(frozen=True, kw_only=True)
class Range:
    """Marks a field that is a number, or holds numbers: `epochs: Annotated[int, Range(least=1, most=1000)] = 25`.

    Not-a-number is in no range.
    """

    least: float = -math.inf
    """Smallest number."""
    above: float = -math.inf
    """Instead: it is larger than this."""
    most: float = math.inf
    """Largest number; infinity itself is allowed where this is infinity."""
    below: float = math.inf
    """Instead: it is smaller than this."""
    pixels: bool = False
    """It is on the scale of pixels in [0, 1]."""

    def __contains__(self, value: Any) -> bool:
        return self._reached(value) and bool(value < self.below if self._open_above else value <= self.most)

    def check(self, name: str, value: Any) -> None:
        """ConfigurationError, in one line, for a number outside."""
        if value in self:
            return
        low, high = max(self.least, self.above), min(self.most, self.below)
        if high <= 1:
            wanted = f"in {'(' if self._open_below else '['}{low:g}, {high:g}{')' if self._open_above else ']'}"
        elif self._reached(value):
            wanted = f"{'<' if self._open_above else '<='} {f'{high:,}' if isinstance(high, int) else f'{high:g}'}"
        else:
            wanted = f"{'>' if self._open_below else '>='} {low:g}"
        scale = ""
        if self.pixels and value > 1:
            scale = f": it is on the [0, 1] scale{f'; {value:g}/255?' if value <= 255 else ''}"
        raise ConfigurationError(f"expected {name} {wanted}, got {value}{scale}")

    @property
    def _open_below(self) -> bool:
        return self.above > -math.inf

    @property
    def _open_above(self) -> bool:
        return self.below < math.inf

    def _reached(self, value: Any) -> bool:
        return bool(value > self.above if self._open_below else value >= self.least)


ANY = Range()
"""Every number, such as a seed."""

# Memory is used up long before these numbers.
COUNT = Range(least=1, most=10**6)
"""Epochs, steps, generations."""
IMAGES = Range(least=1, most=10**9)
"""Images, of which a data set may have fewer."""
BATCH = Range(least=2, most=2**16)
"""Images of a training step: batch statistics need two."""
CHANNELS = Range(least=1, most=4096)
LAYERS = Range(least=1, most=1000)
RATE = Range(above=0, most=1e30)
"""Learning rates, within the arithmetic of 32 bits."""
PENALTY = Range(least=0, most=1000)
"""Penalties of weights, and weights of losses."""
SHARE = Range(least=0, most=1)
MILLIONS = Range(least=0, most=10**6)
"""Parameters or FLOPs in millions."""
MILLISECONDS = Range(above=0, most=10**6)
"""Latencies."""
PARAMS = Range(least=0, most=10**12)
"""Parameters of a network."""
THREADS = Range(least=1, most=1024)
"""Threads and processes."""
RADIUS = Range(least=0, most=1, pixels=True)
"""Radii of attacks and certificates."""
LONG = Range(least=0, most=1000)
"""Radii in L2, which grow with the number of pixels."""
STEP = Range(above=0, most=1, pixels=True)
"""Lengths of their steps."""


def check_ranges(part: Any) -> None:
    """ConfigurationError for the first field of a dataclass outside its `Range`, or not whole where it is to be.

    Fields that are a Literal must be one of its values.
    """
    for name, words in _literals(part.__class__).items():
        if getattr(part, name) not in words:
            known = ", ".join(str(word) for word in words)
            raise ConfigurationError(f"expected {name} of {known}, got {getattr(part, name)!r}")
    for name, (wanted, whole) in _ranges(part.__class__).items():
        value = getattr(part, name)
        for each in value if isinstance(value, tuple | list) else (value,):
            if each is None:
                continue
            if isinstance(each, bool) or not isinstance(each, Integral if whole else Real):
                raise ConfigurationError(f"expected {'a whole' if whole else 'a'} number as {name}, got {each!r}")
            wanted.check(name, each)


def check_radius(epsilon: float, norm: str = "linf") -> None:
    """ConfigurationError for a radius that no ball of this norm around images in [0, 1] has."""
    (RADIUS if norm == "linf" else LONG).check("epsilon", epsilon)


@cache
def _ranges(kind: type) -> dict[str, tuple[Range, bool]]:
    """Field -> its range, and whether it is whole."""
    hints, found = get_type_hints(kind, include_extras=True), {}
    for each in fields(kind):
        hint = hints[each.name]
        extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        for extra in extras:
            if isinstance(extra, Range):
                found[each.name] = extra, float not in _leaves(hint)
    return found


@cache
def _literals(kind: type) -> dict[str, tuple[Any, ...]]:
    """Field -> the values that it may have, of fields that are a Literal."""
    hints = get_type_hints(kind)
    found = {each.name: hints[each.name] for each in fields(kind)}
    return {name: get_args(hint) for name, hint in found.items() if get_origin(hint) is Literal}


def _leaves(hint: Any) -> set[Any]:
    return set().union(*map(_leaves, get_args(hint))) if get_args(hint) else {hint}
