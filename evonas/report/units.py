"""Percent, thousands and millions, for people; everything else in the engine keeps natural values."""

from collections.abc import Collection, Iterator, Mapping

__all__ = ["CHECK", "axis_label", "axis_scale", "axis_text", "duration", "is_error", "said", "shown"]

CHECK = "gradient_check"
"""Beginning of columns with shares of images: without a usable gradient, and wrong under each attack of a ladder."""


def _unit(name: str) -> tuple[float, str]:
    """(factor, unit) of a column."""
    if name in ("params", "macs", "flops", "paper_flops"):
        return 1e-6, "M"
    if is_error(name) or name.endswith("aupr") or CHECK in name:
        return 100.0, "%"
    return 1.0, ""


def is_error(name: str) -> bool:
    """Whether a column is a share of images that are classified wrong."""
    return name.endswith(("error", "error_L0", "error_Linf", "error_clean"))


def shown(name: str, value: float, digits: int = 4) -> str:
    """A value of a column with its unit: `12.4%`, `40.93M`, `1.506k`, `470`; counts with so many digits."""
    factor, unit = _unit(name)
    if unit == "M" and abs(value) < 1e6:
        factor, unit = (1e-3, "k") if abs(value) >= 1e3 else (1.0, "")
    scaled = value * factor
    return f"{scaled:.1f}{unit}" if unit == "%" else f"{scaled:.{digits}g}{unit}"


def said(values: Mapping[str, float]) -> Iterator[str]:
    """A name and a value with its unit for every column, in words where the name says little; alarms have the rest."""
    for name, value in values.items():
        if name == CHECK:
            yield f"no usable gradient on {shown(name, value)} of images"
        elif not name.startswith(CHECK):
            yield f"{name} {shown(name, value)}"


def axis_scale(name: str) -> float:
    """Factor from a column's natural values to those on an axis."""
    return _unit(name)[0]


def axis_label(name: str) -> str:
    """Name and unit of a column."""
    unit = {"%": "%", "M": "millions", "": ""}[_unit(name)[1]]
    words = name.replace("_", " ").replace("macs", "MACs").replace("flops", "FLOPs").replace("params", "parameters")
    return f"{words} ({unit})" if unit else words


def axis_text(name: str, about: Mapping[str, str], maximize: Collection[str] = ()) -> str:
    """Name and unit, the better direction of a maximised column, and on a second line what was measured."""
    label = axis_label(name) + (", larger is better" if name in maximize else "")
    return f"{label}\n{about[name]}" if about.get(name) else label


def duration(seconds: float) -> str:
    """`0:42`, `3:07`, `2:03:09`."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
