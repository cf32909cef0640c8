"""The checklists of docs/papers/: commands parse, names, files and tests exist, and nothing of a paper is missing."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import evonas
from evonas.cli import _parse
from evonas.commands import COMMANDS
from evonas.methods import METHODS, method_module
from evonas.runs import parse
from evonas.runs.needs import flag, options_of
from evonas.studies import STUDIES

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "papers").glob("*.md"))
HEADER = "| item | command or function | file | test | differs and why |"
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)

STUDIES_OF = {
    "roco-nas": {"": "roco"},
    "tam-nas": {"": "tam"},
    "e2rnas": {"v1 ": "e2rnas-v1", "v2 ": "e2rnas-v2"},
    "dsrna": {"": "dsrna"},
    "darts": {"DARTS ": "darts"},
}
"""Page -> how its items begin -> their study."""

ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")


def numbered(word: str, last: int, roman: bool = False) -> list[str]:
    return [f"{word} {ROMAN[n - 1] if roman else n}" for n in range(1, last + 1)]


PARTS = {
    "roco-nas": {"": [*numbered("Eq.", 3), "Algorithm 1", *numbered("Table", 5, roman=True), *numbered("Fig.", 6)]},
    "tam-nas": {
        "": [
            *numbered("Eq.", 3),
            *numbered("Algorithm", 2),
            *numbered("Table", 10, roman=True),
            *numbered("Fig.", 9),
        ]
    },
    "e2rnas": {
        "v1 ": [*numbered("Eq.", 12), "Algorithm 1", *numbered("Table", 3), *numbered("Fig.", 4)],
        "v2 ": [*numbered("Eq.", 10), "Algorithm 1", *numbered("Table", 6, roman=True), *numbered("Fig.", 2)],
    },
    "dsrna": {"": [*numbered("Eq.", 16), *numbered("Table", 6)]},
}
"""Page -> how its items begin -> equations, algorithms, tables and figures that the paper numbers."""


class Row(NamedTuple):
    """A line of a checklist."""

    item: str
    how: str
    file: str
    test: str
    differs: str


@cache
def rows(page: Path) -> list[Row]:
    tables = re.findall(rf"^{re.escape(HEADER)}\n\|[-| ]+\n((?:\|.*\n)+)", page.read_text(), re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    return [Row(*(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])) for line in lines]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def resolved(name: str) -> object:
    """The object that `room.name.attribute` stands for; an attribute of instances alone counts, too."""
    found: Any = evonas
    for part in name.split("."):
        try:
            found = import_module(f"{found.__name__}.{part}")
        except (AttributeError, ModuleNotFoundError):
            found = getattr(found, "__annotations__", {}).get(part) or getattr(found, part)
    return found


def check_command(words: list[str]) -> None:
    """Raise what the command line would, without running anything."""
    name, *rest = words
    if name in METHODS:
        parse(method_module(name).PRESETS, rest)
    else:
        assert name in COMMANDS, name
        _parse(words)


@cache
def flags() -> frozenset[str]:
    kinds = [*(method_module(name).OPTIONS for name in METHODS), *(COMMANDS[name] for name in COMMANDS)]
    return frozenset(f"--{flag(option.name)}" for kind in kinds for option in options_of(kind))


def check_span(span: str, before: str) -> str:
    """Look up a command, a flag, a script or a name; `.name` continues the name before it. Returns the whole name."""
    if span.startswith("evonas "):
        check_command(shlex.split(span)[1:])
    elif span.startswith("python "):
        assert (ROOT / span.split()[1]).is_file(), span
    elif span.startswith("--"):
        given = shlex.split(span)[0].replace("--no-", "--")
        assert given in flags(), span
    else:
        before = f"{before.rpartition('.')[0]}{span}" if span.startswith(".") else span
        assert resolved(before) is not None, before
    return before


@cache
def sources() -> str:
    return "\n".join(path.read_text() for path in (ROOT / "evonas").rglob("*.py"))


def items(page: Path) -> Iterator[tuple[str, Any]]:
    """(item as the page calls it, item) of the page's studies."""
    for begin, study in STUDIES_OF[page.stem].items():
        for item in STUDIES[study].items:
            yield f"{begin}{item.name}", item


def check_file(page: Path, name: str) -> None:
    """Look up a file of a study by the study's items, another one by what the package writes."""
    last = name.rpartition("/")[2]
    made = {f"{item.stem}.md" for _, item in items(page) if item.tables}
    made |= {f"{item.stem}.png" for _, item in items(page) if item.draw}
    cards = {"set.json", "set.md"}  # beside set.safetensors
    assert last in made | cards or last in sources(), name


def check_test(span: str, before: Path) -> Path:
    """Look up `folder/test_file.py::test_name`; without a folder or a file it stands in those of the one before."""
    file, _, name = span.partition("::")
    path = before if not file else ROOT / file if "/" in file else before.parent / file
    assert path.is_file(), span
    if name:
        assert re.search(rf"^ *def {name}\(", path.read_text(), re.MULTILINE), span
    return path


@every_page
def test_commands_and_names_exist(page: Path) -> None:
    for row in rows(page):
        before = ""
        for span in spans(row.how):
            before = check_span(span, before)
        assert spans(row.how) or row.how == "-", row.item


@every_page
def test_files_are_written_by_something(page: Path) -> None:
    for row in rows(page):
        for name in spans(row.file):
            check_file(page, name)
        assert spans(row.file) or row.file == "-", row.item


@every_page
def test_tests_exist(page: Path) -> None:
    for row in rows(page):
        path = ROOT
        for span in spans(row.test):
            path = check_test(span, path)
        assert spans(row.test) or (row.test, row.how) == ("-", "-"), row.item


@every_page
def test_a_row_says_what_differs_or_that_nothing_does(page: Path) -> None:
    found = rows(page)
    assert len({row.item for row in found}) == len(found)
    for row in found:
        assert row.differs == "-" or len(row.differs.split()) >= 2, row.item
        assert row.how != "-" or row.differs != "-", row.item


@every_page
def test_nothing_of_a_study_or_a_paper_is_missing(page: Path) -> None:
    found = {row.item.partition(":")[0]: row for row in rows(page)}
    named = {f"{begin}{part}" for begin, parts in PARTS.get(page.stem, {}).items() for part in parts}
    assert named <= found.keys(), sorted(named - found.keys())
    for name, item in items(page):
        ending = ".md" if item.tables else ".png" if item.draw else ""
        assert name in found, name
        assert not ending or f"{item.stem}{ending}" in found[name].file, (name, found[name].file)


@pytest.mark.parametrize(
    ("span", "error"),
    [
        ("evonas roco --retrian", "retrian"),
        ("evonas nothing", "nothing"),
        ("--no-such-flag", "no-such-flag"),
        ("spaces.PhaseSpace.no_such", "no_such"),
        ("python benchmarks/none.py", "none.py"),
    ],
)
def test_a_slip_is_found(span: str, error: str) -> None:
    with pytest.raises((AssertionError, AttributeError, ValueError, SystemExit), match=error):
        check_span(span, "")


def test_a_test_or_file_that_is_not_there_is_found() -> None:
    with pytest.raises(AssertionError, match="test_nobody"):
        check_test("tests/test_costs.py::test_nobody", ROOT)
    with pytest.raises(AssertionError, match=r"nothing\.csv"):
        check_file(PAGES[0], "retrained/nothing.csv")
    assert check_test("::test_table_by_hand", ROOT / "tests" / "test_costs.py").name == "test_costs.py"
