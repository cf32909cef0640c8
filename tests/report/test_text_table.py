"""Tables as Markdown and for narrow terminals."""

from pathlib import Path

from evonas.report import TextTable, folded
from evonas.report.text_table import diverged_note, write_page


def test_markdown() -> None:
    table = TextTable("Title", ("A", "B"), (("1", "2"), ("3", "4")), ("A note.",))
    assert table.markdown() == "**Title**\n\n| A | B |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n\nA note.\n"


def test_a_wide_table_is_folded_into_narrow_ones() -> None:
    table = TextTable("T", ("Name", "a a", "b", "c"), (("long name", "1.00", "22.00", "3"),), ("note",))
    assert folded(table, 200, 1) == [TextTable("T", ("Name", "a\na", "b", "c"), table.lines, table.notes)]
    parts = folded(table, 29, 1)  # 1 + (9 + 3) + (4 + 3) + (5 + 3) = 28
    assert [part.header for part in parts] == [("Name", "a\na", "b"), ("Name", "c")]
    assert [part.lines for part in parts] == [(("long name", "1.00", "22.00"),), (("long name", "3"),)]
    assert [part.notes for part in parts] == [(), ("note",)]
    assert [part.header for part in folded(table, 1, 1)] == [("Name", "a\na"), ("Name", "b"), ("Name", "c")]


def test_a_table_of_kept_columns_alone_stays_whole() -> None:
    table = TextTable("T", ("Name", "a"), (("x", "1"),), ("note",))
    assert folded(table, 1, 2) == [table]


def test_failed_networks_are_named_or_not_mentioned() -> None:
    assert diverged_note(["a", "b"]) == ("Left out, because training or scoring diverged: a, b.",)
    assert diverged_note([]) == ()


def test_a_page_has_its_notes_below_the_tables(tmp_path: Path) -> None:
    table = TextTable("T", ("A",), (("1",),))
    write_page(tmp_path / "tables.md", [table, table], ["first", "second"])
    assert (tmp_path / "tables.md").read_text() == f"{table.markdown()}\n{table.markdown()}\n- first\n- second\n"
