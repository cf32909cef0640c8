"""Conditions on the rows of a table as a user writes them: read by Python's grammar, and never run as code."""

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

from evonas.errors import ConfigurationError, check_name

__all__ = ["Condition", "read_condition"]

LONGEST, DEEPEST = 1000, 60
"""Characters of a condition, and levels of parts inside it."""

UNITS = {"%": 0.01, "k": 1e3, "M": 1e6}
TEXT = r"""('[^']*'|"[^"]*")"""
WITH_UNIT = r"(?<![\w.])((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(%|[kM])(?!\w)"
WITH_POINT = r"(?<!\w)([^\W\d]\w*\d)\.(?=\d)"
"""The beginning of a name such as fgsm_0.1_error."""
POINT = "\N{MIDDLE DOT}"
"""In place of the point inside such a name, which Python's grammar has not."""

Kind = Literal["number", "text", "condition"]
Row = Mapping[str, Any]
"""Column -> number or text; None and NaN for what was not measured."""

ARITHMETIC: Mapping[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
COMPARISONS: Mapping[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
HINTS: Mapping[type[Any], str] = {
    ast.BitAnd: "write `and`",
    ast.BitOr: "write `or`",
    ast.Invert: "write `not`",
    ast.Pow: "write the number out",
}
ALLOWED = "a condition has comparisons, and, or, not, in, + - * /, numbers, text in quotes and names of columns"


@dataclass(frozen=True)
class Condition:
    """A condition that was checked; made by `read_condition`. Its answer is yes, no, or unknown, which is not yes."""

    tree: ast.expr

    def holds(self, row: Row) -> bool:
        """Whether a row surely satisfies it: a value that is missing satisfies nothing, nor its contrary."""
        return _value(self.tree, row) is True

    @cached_property
    def text(self) -> str:
        return _text(self.tree)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of columns in it, each once."""
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, ast.Name | ast.Attribute)]
        inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
        return tuple(dict.fromkeys(_text(node) for node in nodes if id(node) not in inner))

    @cached_property
    def parts(self) -> tuple["Condition", ...]:
        """Conditions that all have to hold, as small as they can be."""
        return tuple(map(Condition, _parts(self.tree)))

    def shortfall(self, row: Row) -> float:
        """Distance of a row from satisfying it: relative differences to bounds, summed; 0 where it holds."""
        return _shortfall(self.tree, row)


def read_condition(text: str, numbers: Collection[str], words: Collection[str] = ()) -> Condition:
    """A condition on columns, such as `macs < 8e6 and pgd_error <= 45%` or `method in ("roco-nas", "tam-nas")`.

    Numbers may be fractions (8/255), and have the units of tables: 45% is 0.45, 8M is 8e6, 50k is 5e4.

    Args:
        numbers: columns that hold numbers; a name may have one dot, such as audit.pgd20.
        words: columns that hold text.
    Raises:
        ConfigurationError, UnknownNameError: it is no such condition; one line.
    """
    if len(text) > LONGEST:
        raise ConfigurationError(f"expected a condition of at most {LONGEST} characters, got {len(text)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(re.sub(f"{TEXT}|{WITH_UNIT}|{WITH_POINT}", _plain, text).strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError, Warning) as error:
        cause = error.msg if isinstance(error, SyntaxError) else str(error).split("\n")[0]
        hint = "; == compares" if re.search(r"[^<>=!]=(?!=)", text) else ""
        example = "expected a condition such as 'macs < 8e6 and params < 5e4'"
        raise ConfigurationError(f"{example}, got {_short(text)}: {cause or 'it nests too deep'}{hint}") from None
    if _depth(tree) > DEEPEST:
        raise ConfigurationError(f"expected a condition of at most {DEEPEST} levels, got {_short(text)}")
    kind = _kind(tree, numbers, words)
    if kind != "condition":
        raise ConfigurationError(f"expected a condition, got {_short(text)}, which is a {kind}; compare it, as with <")
    return Condition(tree)


def _plain(found: re.Match[str]) -> str:
    quoted, number, unit, name = found.groups()
    return f"{name}{POINT}" if name else str(quoted or f"{float(number) * UNITS[unit]:.15g}")


def _text(node: ast.AST) -> str:
    """A part as it may be written."""
    return ast.unparse(node).replace(POINT, ".")


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _depth(tree: ast.AST) -> int:
    """Levels of a tree, counted without recursion."""
    level, depth = [tree], 0
    while level:
        level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
    return depth


def _refuse(node: ast.AST) -> ConfigurationError:
    operation: Any = getattr(node, "op", None)
    hint = HINTS.get(type(operation), ALLOWED)
    return ConfigurationError(f"expected a plain condition, got {_short(_text(node))} in it; {hint}")


def _kind(node: ast.expr, numbers: Collection[str], words: Collection[str]) -> Kind:
    """Kind of a part; ConfigurationError for anything that is not allowed. Every part is looked at."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return "text"
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        if not abs(node.value) <= 1e308:
            raise ConfigurationError("expected numbers of at most 1e308 in a condition, got a larger one")
        return "number"
    if isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
        name = _text(node)
        check_name([*numbers, *words], name, "column")
        return "number" if name in numbers else "text"
    if isinstance(node, ast.BoolOp):
        return _all(node.values, "condition", numbers, words)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return _all([node.operand], "condition", numbers, words)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        return _all([node.operand], "number", numbers, words)
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        return _all([node.left, node.right], "number", numbers, words)
    if isinstance(node, ast.Compare):
        for left, operation, right in _comparisons(node):
            kind = _kind(left, numbers, words)
            listed = isinstance(operation, ast.In | ast.NotIn)
            if kind == "condition" or (type(operation) not in COMPARISONS and not listed):
                raise _refuse(node)
            if kind == "text" and not listed and not isinstance(operation, ast.Eq | ast.NotEq):
                raise ConfigurationError(f"expected ==, != or in with text, got {_short(_text(node))}")
            _all(_elements(right) if listed else [right], kind, numbers, words)
        return "condition"
    raise _refuse(node)


def _all(nodes: Sequence[ast.expr], kind: Kind, numbers: Collection[str], words: Collection[str]) -> Kind:
    for node in nodes:
        found = _kind(node, numbers, words)
        if found != kind:
            raise ConfigurationError(f"expected a {kind}, got {_short(_text(node))}, which is a {found}")
    return kind


def _comparisons(node: ast.Compare) -> Iterator[tuple[ast.expr, ast.cmpop, ast.expr]]:
    """`a < b < c` as `a < b`, `b < c`."""
    for (left, right), operation in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
        yield left, operation, right


def _elements(node: ast.expr) -> Sequence[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]


def _value(node: ast.expr, row: Row) -> Any:
    """Value of a part that was checked; None where it is unknown."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name | ast.Attribute):
        return _known(row.get(_text(node)))
    if isinstance(node, ast.BoolOp):
        return _joined([_value(each, row) for each in node.values], isinstance(node.op, ast.Or))
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, row)
        if value is None or isinstance(node.op, ast.UAdd):
            return value
        return not value if isinstance(node.op, ast.Not) else -value
    if isinstance(node, ast.BinOp):
        return _computed(ARITHMETIC[type(node.op)], _value(node.left, row), _value(node.right, row))
    assert isinstance(node, ast.Compare)
    return _joined([_compared(*each, row) for each in _comparisons(node)], either=False)


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _joined(values: Sequence[bool | None], either: bool) -> bool | None:
    """`or`, or `and`, of answers that may be unknown (Kleene's logic)."""
    if either in values:
        return either
    return None if None in values else not either


def _computed(operation: Callable[[float, float], float], left: float | None, right: float | None) -> float | None:
    if left is None or right is None:
        return None
    try:
        found = operation(float(left), float(right))
    except ZeroDivisionError:
        return None
    return found if math.isfinite(found) else None


def _compared(left: ast.expr, operation: ast.cmpop, right: ast.expr, row: Row) -> bool | None:
    one = _value(left, row)
    if isinstance(operation, ast.In | ast.NotIn):
        others = [_value(each, row) for each in _elements(right)]
        known = [None if one is None or other is None else one == other for other in others]
        found = _joined(known, either=True)
        return found if found is None or isinstance(operation, ast.In) else not found
    other = _value(right, row)
    return None if one is None or other is None else COMPARISONS[type(operation)](one, other)


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        for each in node.values:
            yield from _parts(each)
    elif isinstance(node, ast.Compare):
        for left, operation, right in _comparisons(node):
            yield ast.Compare(left, [operation], [right])
    else:
        yield node


def _shortfall(node: ast.expr, row: Row) -> float:
    if _value(node, row) is True:
        return 0.0
    if isinstance(node, ast.BoolOp):
        distances = [_shortfall(each, row) for each in node.values]
        return min(distances) if isinstance(node.op, ast.Or) else sum(distances)
    if isinstance(node, ast.Compare):
        return sum(_distance(*each, row) for each in _comparisons(node))
    return 1.0


def _distance(left: ast.expr, operation: ast.cmpop, right: ast.expr, row: Row) -> float:
    """Relative difference of two numbers that do not compare so, in [0, 2]; 1 for anything else."""
    if _compared(left, operation, right, row) is True:
        return 0.0
    if type(operation) not in COMPARISONS:
        return 1.0
    one, other = _value(left, row), _value(right, row)
    if one is None or other is None:
        return math.inf
    if isinstance(one, str) or one == other:
        return 1.0 if isinstance(one, str) else 0.0
    return abs(float(one) - float(other)) / max(abs(float(one)), abs(float(other)))
