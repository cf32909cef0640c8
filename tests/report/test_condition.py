"""Conditions: what they answer, what is refused, and that nothing in them is ever run."""

import math
import random
import sys
from typing import Any

import pytest

from evonas.errors import EvonasError
from evonas.report import read_condition
from evonas.report.condition import Condition

NUMBERS = ("macs", "params", "clean_error", "pgd_error", "audit.pgd20", "audit.fgsm_0.1_error", "seed")
WORDS = ("method", "run")
ROW: dict[str, Any] = {
    "macs": 7e6,
    "params": 60_000,
    "clean_error": 0.25,
    "pgd_error": math.nan,
    "audit.pgd20": 0.5,
    "audit.fgsm_0.1_error": 0.5,
    "seed": 3,
}
ROW |= {"method": "roco-nas", "run": "first"}


def read(text: str) -> Condition:
    return read_condition(text, NUMBERS, WORDS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("macs < 8e6 and params < 5e4", False),
        ("macs < 8e6 or params < 5e4", True),
        ("macs < 8M and params <= 60k", True),
        ("macs < 6.9M", False),
        ("clean_error <= 25%", True),
        ("clean_error < 25 %", False),
        ("clean_error < 64/255", True),
        ("clean_error < 63/255", False),
        ("1e6 < macs < 8e6", True),
        ("1e6 < macs < 7e6", False),
        ("not params > 5e4", False),
        ("macs / params > 116 and macs / params < 117", True),
        ("macs - 1000 * params == -53e6", True),
        ("-macs < +params", True),
        ("seed in (1, 3) and seed not in [4]", True),
        ('method == "roco-nas" and run != "second"', True),
        ("method in ('tam-nas', 'roco-nas')", True),
        ("method in ('tam-nas')", False),
        ("'5%' != method", True),
        ("audit.pgd20 <= 0.5", True),
        ("audit.fgsm_0.1_error <= 50% and not audit.fgsm_0.1_error > .5", True),
        ("audit.fgsm_0.1_error < 0.25", False),
    ],
)
def test_answers_by_hand(text: str, expected: bool) -> None:
    assert read(text).holds(ROW) is expected


@pytest.mark.parametrize("missing", [math.nan, None, "absent"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pgd_error < 1", False),
        ("not pgd_error < 1", False),
        ("pgd_error != pgd_error", False),
        ("pgd_error in (0, 1) or pgd_error not in (0, 1)", False),
        ("pgd_error * 0 == 0", False),
        ("pgd_error < 1 and macs < 8e6", False),
        ("pgd_error < 1 or macs < 8e6", True),
        ("not (pgd_error < 1 and macs > 8e6)", True),
        ("macs / (params - 60000) > 1 or macs / (params - 60000) <= 1", False),
    ],
)
def test_a_missing_value_satisfies_nothing_nor_its_contrary(text: str, expected: bool, missing: Any) -> None:
    row = {name: value for name, value in ROW.items() if name != "pgd_error"}
    if missing != "absent":
        row["pgd_error"] = missing
    assert read(text).holds(row) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mac < 8e6", r"unknown column 'mac'; did you mean macs\?"),
        ("audit.pgd < 8e6", r"unknown column 'audit.pgd'; did you mean audit.pgd20\?"),
        ("macs", "which is a number; compare it"),
        ("macs < 'a'", "expected a number, got"),
        ("method < 'a'", "expected ==, != or in with text"),
        ("macs = 3", "; == compares"),
        ("macs & params", "write `and`"),
        ("(macs < 3) | (params < 3)", "write `or`"),
        ("~(macs < 3)", "write `not`"),
        ("macs < 9**9**9**9", r"got '9 \*\* 9"),
        ("macs < 1e999", "at most 1e308"),
        ("macs < 3j", "got '3j'"),
        ("macs < 0.9 %2", "got '0.9 % 2'"),
        ("macs is 3", "comparisons, and, or, not"),
        ("macs.real < 3", "unknown column 'macs.real'"),
        ("macs.__class__ == 3", "unknown column 'macs.__class__'"),
        ("().__class__ == 3", "comparisons, and, or, not"),
        ("__import__('os').system('true') == 0", "comparisons, and, or, not"),
        ("@macs < 3", "expected a condition such as"),
        ("`macs` < 3", "expected a condition such as"),
        ("(x := 3) < macs", "comparisons, and, or, not"),
        ("[each for each in 'ab'] == 3", "comparisons, and, or, not"),
        ("f'{macs}' == 'a'", "comparisons, and, or, not"),
        ("True", "comparisons, and, or, not"),
        ("macs < 1if 2 else 3", "invalid decimal literal"),
        ("", "expected a condition such as"),
        ("macs\n< 3; import os", "expected a condition such as"),
        ("macs < \0 3", "null bytes"),
        ("\ud800 < 3", "surrogates not allowed"),
        ("(" * 400, "too many nested parentheses"),
        ("-" * 900 + "macs < 1", "at most 60 levels"),
        ("1+" * 400 + "macs < 1", "at most 60 levels"),
        ("macs < " + "1" * 2000, "at most 1000 characters"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(EvonasError, match=message) as refused:
        read(text)
    line = str(refused.value)
    assert line.isprintable()
    assert len(line) < 500


def test_its_parts_and_columns() -> None:
    condition = read("1e6 < macs < 8M and (params < 5e4 or audit.pgd20 < 1) and not seed == 3")
    assert condition.columns == ("macs", "params", "audit.pgd20", "seed")
    assert [part.text for part in condition.parts] == [
        "1000000.0 < macs",
        "macs < 8000000",
        "params < 50000.0 or audit.pgd20 < 1",
        "not seed == 3",
    ]
    condition = read("audit.fgsm_0.1_error < 50%")
    assert (condition.columns, condition.text) == (("audit.fgsm_0.1_error",), "audit.fgsm_0.1_error < 0.5")


def test_distance_from_what_is_asked_for() -> None:
    assert read("macs < 8e6").shortfall(ROW) == 0
    assert read("macs < 3.5e6").shortfall(ROW) == 0.5  # 7 against 3.5 million
    assert read("macs < 3.5e6 and params < 45e3").shortfall(ROW) == 0.5 + 0.25
    assert read("macs < 3.5e6 or params < 45e3").shortfall(ROW) == 0.25
    assert read("method == 'tam-nas'").shortfall(ROW) == 1
    assert read("pgd_error < 1").shortfall(ROW) == math.inf


SEEDS = [
    "macs < 8e6 and params < 5e4",
    'method in ("roco-nas", "tam-nas") or clean_error <= 45%',
    "not (1e6 < macs / params <= 8/255) and audit.pgd20 != .5",
]
PIECES = [*"()[]'\"@`;%~&|.#\\", "**", "__import__('os')", "lambda:", "\n", "\0", ":=", "{}", "e999", "9" * 30]
PIECES += ["\ud800", "if", "not", "in", "is", "f''", "b''", "...", "None", "macs"]


def mutated(rng: random.Random) -> str:
    text = list(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 6)):
        at, kind = rng.randrange(len(text) + 1), rng.randrange(4)
        if kind == 0:
            text[at : at + rng.randint(1, 8)] = []
        elif kind == 1:
            text.insert(at, rng.choice(PIECES))
        elif kind == 2:
            text[at:at] = text[: rng.randint(0, 20)]
        else:
            text.insert(at, chr(rng.randrange(1, 0x2FF)))
    return "".join(text)


RUN = {"exec", "import", "open", "os.system", "os.exec", "subprocess.Popen", "ctypes.dlopen", "socket.connect"}
HAPPENED: list[str] = []
WATCHING: list[bool] = []


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Hook of the interpreter, which sees everything that is run, imported or opened; it stays, and is idle."""
    if WATCHING and event in RUN:
        HAPPENED.append(event)


sys.addaudithook(watch)


def fuzz(times: int) -> tuple[int, int]:
    """Numbers of mutated conditions that were taken, and refused in one line."""
    lines: list[str] = []
    for number in range(times):
        text = mutated(random.Random(number))
        WATCHING.append(True)
        try:
            lines.append("" if read(text).holds(ROW) in (True, False) else "neither")
        except EvonasError as error:
            lines.append(str(error))
        finally:
            WATCHING.clear()
    assert HAPPENED == []
    assert [line for line in lines if not line.isprintable() or len(line) > 500 or line == "neither"] == []
    return lines.count(""), times - lines.count("")


def test_the_watch_sees_what_is_run() -> None:
    WATCHING.append(True)
    eval("1 + 1")
    WATCHING.clear()
    assert HAPPENED == ["exec"]
    HAPPENED.clear()


def test_mutated_conditions_are_answered_or_refused_in_one_line() -> None:
    taken, refused = fuzz(100)
    assert (taken > 0, refused > 50) == (True, True)


@pytest.mark.lengthy
def test_a_thousand_mutated_conditions() -> None:
    taken, refused = fuzz(1000)
    assert (taken > 10, refused > 500) == (True, True)
