"""Percent and millions: how values are shown. Everything else in the engine keeps natural values."""

__all__ = ["axis_label", "axis_scale", "duration", "shown"]


def _unit(name: str) -> tuple[float, str]:
    """(factor, unit) of a column."""
    if name in ("params", "macs", "flops", "paper_flops"):
        return 1e-6, "M"
    if name.endswith(("error", "error_L0", "error_Linf", "aupr")):
        return 100.0, "%"
    return 1.0, ""


def shown(name: str, value: float) -> str:
    """A value of a column as people read it: `12.4%`, `40.93M`."""
    factor, unit = _unit(name)
    scaled = value * factor
    return f"{scaled:.1f}{unit}" if unit == "%" else f"{scaled:.4g}{unit}"


def axis_scale(name: str) -> float:
    """What a column's values are multiplied with on an axis."""
    return _unit(name)[0]


def axis_label(name: str) -> str:
    """A column's name and unit on an axis."""
    unit = {"%": "%", "M": "millions", "": ""}[_unit(name)[1]]
    words = name.replace("_", " ").replace("macs", "MACs").replace("flops", "FLOPs").replace("params", "parameters")
    return f"{words} ({unit})" if unit else words


def duration(seconds: float) -> str:
    """`0:42`, `3:07`, `2:03:09`."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
