"""The journal survives everything that can happen to a file, and says so."""

import contextlib
import itertools
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.errors import EvonasError, RunInUseError, RunMismatchError, StorageError
from evonas.files import seal, unseal
from evonas.search import Entry, Journal, read_journal
from evonas.types import EvaluationResult, arch_id

IDENTITY = {"space": {"name": "tiny", "genes": 4}, "seed": 0, "objectives": ["clean_error", "macs"]}


def entry(number: int, **changes: Any) -> Entry:
    genome = (number, 0, 1, 2)
    result = EvaluationResult(genome, {"clean_error": 0.1 / (number + 1), "macs": number}, seed=number, seconds=0.125)
    return Entry(replace(result, **changes), generation=number // 2, proposal=number)


ENTRIES = [entry(0), entry(1), entry(2, objectives={}, status="failed", reason="the loss was nan"), entry(3), entry(4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of `ENTRIES`."""
    path = tmp_path / "run" / "journal.jsonl"
    write(path, ENTRIES)
    return path


def write(path: Path, entries: list[Entry]) -> None:
    with Journal(path, IDENTITY, sync=False) as journal:
        for item in entries:
            journal.append(item)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@contextlib.contextmanager
def as_stranger(folder: Path) -> Iterator[None]:
    """Run without the right to write into `folder`; who has every right gives it up for a while."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_one_line_an_evaluation(path: Path) -> None:
    header, *rest = [json.loads(line) for line in lines(path)]
    assert (header["format"], header["identity"]) == ("evonas-journal-1", IDENTITY)
    checksum = rest[1].pop("checksum")
    assert len(checksum) == 16
    assert len({line["run"] for line in rest}) == 1
    assert rest[1] == {
        "line": 2,
        "run": rest[0]["run"],
        "generation": 0,
        "proposal": 1,
        "key": arch_id((1, 0, 1, 2)),
        "genome": [1, 0, 1, 2],
        "objectives": {"clean_error": 0.05, "macs": 1},
        "status": "ok",
        "reason": "",
        "seed": 1,
        "seconds": 0.125,
    }
    assert [line["line"] for line in rest] == [1, 2, 3, 4, 5]


def test_a_line_is_there_when_append_returns(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl", IDENTITY) as journal:
        for count, item in enumerate(ENTRIES, start=1):
            journal.append(item)
            assert read_journal(tmp_path / "journal.jsonl")[1] == ENTRIES[:count]


def test_reopening_gives_the_same_entries(path: Path) -> None:
    before = path.read_bytes()
    with Journal(path, IDENTITY) as journal:
        assert list(journal) == ENTRIES
        assert len(journal) == 5
        assert journal.get(arch_id((2, 0, 1, 2))) == ENTRIES[2]
        assert journal.get("unknown") is None
        assert journal.damage == ""
        assert type(journal.entries[ENTRIES[0].key].result.objectives["macs"]) is int
    assert path.read_bytes() == before
    assert read_journal(path) == (IDENTITY, ENTRIES)


@pytest.mark.lengthy
@given(
    st.lists(
        st.builds(
            EvaluationResult,
            st.lists(st.integers(0, 2**40), min_size=1, max_size=3).map(tuple),
            st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=2),
            st.sampled_from(["ok", "failed"]),
            st.text(),
            st.integers(0, 2**63 - 1),
            st.integers(0, 10**9).map(lambda ms: round(ms / 1000, 3)),
        ),
        max_size=4,
        unique_by=lambda result: result.genome,
    )
)
def test_every_result_comes_back(tmp_path_factory: pytest.TempPathFactory, results: list[EvaluationResult]) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    entries = [Entry(result, 0, number) for number, result in enumerate(results)]
    write(path, entries)
    assert read_journal(path)[1] == entries


def test_the_last_line_of_a_key_counts(path: Path) -> None:
    again = entry(2, seconds=4.0)
    with Journal(path, IDENTITY) as journal:
        journal.append(again)
        assert len(journal) == 5
    assert len(lines(path)) == 7
    assert read_journal(path)[1] == [again if item.key == again.key else item for item in ENTRIES]


def test_every_line_stays_in_its_place(path: Path) -> None:
    """What a later line replaced is part of the record."""
    again = entry(2, seconds=4.0)
    with Journal(path, IDENTITY) as journal:
        assert journal.lines == ENTRIES
        journal.append(again)
        assert journal.lines == [*ENTRIES, again]
    with Journal(path, IDENTITY) as journal:
        assert journal.lines == [*ENTRIES, again]
        journal.append(entry(7))
    assert [json.loads(line)["line"] for line in lines(path)[1:]] == list(range(1, 8))


def test_a_line_says_when_its_genome_was_bred_where_that_is_known(path: Path) -> None:
    before = lines(path)
    moment = replace(entry(7), seen=3, proposed=9)
    with Journal(path, IDENTITY) as journal:
        journal.append(moment)
    *others, last = lines(path)
    assert others == before
    assert not any({"seen", "proposed"} & json.loads(line).keys() for line in others)
    assert (json.loads(last)["seen"], json.loads(last)["proposed"]) == (3, 9)
    with Journal(path, IDENTITY) as journal:
        assert journal.lines == [*ENTRIES, moment]
        assert (ENTRIES[0].seen, ENTRIES[0].proposed) == (None, None)


def test_in_memory_it_needs_no_file() -> None:
    journal = Journal()
    for item in ENTRIES:
        journal.append(item)
    journal.close()
    assert list(journal) == ENTRIES


def test_closed_it_can_be_read_but_not_written(path: Path) -> None:
    journal = Journal(path, IDENTITY)
    journal.close()
    journal.close()
    assert list(journal) == ENTRIES
    with pytest.raises(StorageError, match="is closed; open the journal again"):
        journal.append(entry(9))
    assert len(journal) == 5


@pytest.mark.parametrize("lost", [2, 40, 10_000])
def test_a_torn_last_line_is_cut_off(path: Path, lost: int) -> None:
    *whole, last = lines(path)
    torn = b"".join(whole) + last[: max(1, len(last) - lost)]
    path.write_bytes(torn)
    assert read_journal(path)[1] == ENTRIES[:4]
    assert path.read_bytes() == torn  # reading changes nothing
    with Journal(path, IDENTITY) as journal:
        assert list(journal) == ENTRIES[:4]
        assert "damaged at line 6: 1 torn or altered line(s) left out, 4 evaluations kept" in journal.damage
        assert "journal.jsonl.damaged-1" in journal.damage
        journal.append(ENTRIES[4])
    assert lines(path) == [*whole, last]
    assert (path.parent / "journal.jsonl.damaged-1").read_bytes() == torn
    with Journal(path, IDENTITY) as journal:
        assert journal.damage == ""


def test_a_journal_cut_anywhere_keeps_its_whole_lines(path: Path, tmp_path: Path) -> None:
    content = path.read_bytes()
    header, *ends = itertools.accumulate(map(len, lines(path)))
    for length in [*range(header, len(content), 7), *(end - 1 for end in ends)]:
        cut = tmp_path / f"cut-{length}.jsonl"
        cut.write_bytes(content[:length])
        with Journal(cut, IDENTITY, sync=False) as journal:
            whole = sum(end <= length + 1 for end in ends)  # a line that lacks its end alone is whole
            assert list(journal) == ENTRIES[:whole]
            assert (journal.damage == "") == content[:length].endswith(b"\n")


@pytest.mark.parametrize("length", [20, 26, 40, 100])
def test_a_torn_first_line_is_begun_again(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with Journal(path, IDENTITY) as journal:
        assert list(journal) == []
        assert journal.damage
        journal.append(ENTRIES[0])
    assert read_journal(path) == (IDENTITY, ENTRIES[:1])


@pytest.mark.parametrize("position", range(0, 60, 7))
def test_an_altered_first_line_is_written_again_for_the_same_run_alone(path: Path, position: int) -> None:
    whole = path.read_bytes()
    altered = bytearray(whole)
    altered[position] ^= 1
    path.write_bytes(altered)
    with pytest.raises(RunMismatchError, match="its first line is damaged"):
        Journal(path, {**IDENTITY, "another": "run"})
    assert path.read_bytes() == altered
    with Journal(path, IDENTITY) as journal:
        assert list(journal) == ENTRIES
        assert "damaged at line 1: 1 torn or altered line(s) left out, 5 evaluations kept" in journal.damage
    assert path.read_bytes() == whole
    assert (path.parent / "journal.jsonl.damaged-1").read_bytes() == altered


def test_damage_in_the_first_line_and_behind_it(path: Path) -> None:
    content = lines(path)
    path.write_bytes(b"?" + content[0][1:] + content[1] + content[2] + b"?" + b"".join(content[4:]))
    with Journal(path, IDENTITY) as journal:
        assert list(journal) == [*ENTRIES[:2], ENTRIES[4]]
        assert "damaged at line 1: 2 torn or altered line(s) left out, 3 evaluations kept" in journal.damage
    assert lines(path)[:3] == content[:3]
    assert numbers(path) == [1, 2, 3]


@pytest.mark.parametrize("line", [1, 2, 3, 4, 5])
def test_a_flipped_byte_costs_its_own_line_alone(path: Path, line: int) -> None:
    content = lines(path)
    others = [*ENTRIES[: line - 1], *ENTRIES[line:]]
    for position in range(0, len(content[line]) - 1, 9):
        altered = bytearray(content[line])
        altered[position] ^= 1
        path.write_bytes(b"".join([*content[:line], bytes(altered), *content[line + 1 :]]))
        assert read_journal(path)[1] == others
    damaged = path.read_bytes()
    with Journal(path, IDENTITY) as journal:
        assert list(journal) == others
        assert f"damaged at line {line + 1}: 1 torn or altered line(s) left out, 4 evaluations kept" in journal.damage
        journal.append(ENTRIES[line - 1])
    assert numbers(path) == [1, 2, 3, 4, 5]
    assert (path.parent / "journal.jsonl.damaged-1").read_bytes() == damaged
    with Journal(path, IDENTITY) as journal:
        assert journal.damage == ""
        assert list(journal) == [*others, ENTRIES[line - 1]]


def numbers(path: Path) -> list[int]:
    """Numbers of the lines behind the first one."""
    return [json.loads(line)["line"] for line in lines(path)[1:]]


@pytest.mark.parametrize("number", ["0.051", "1e-9"])
def test_a_number_changed_by_hand_is_found_out(path: Path, number: str) -> None:
    path.write_bytes(path.read_bytes().replace(b'"clean_error":0.05,', b'"clean_error":%s,' % number.encode()))
    assert read_journal(path)[1] == [ENTRIES[0], *ENTRIES[2:]]


@pytest.mark.parametrize(
    "order",
    [(0, 1, 3, 4, 5), (0, 2, 1, 3), (0, 1, 1, 2), (0, 1, 0, 2), (0, 2), (1, 0, 2), (3, 2, 1), (0, 5, 4, 3, 2, 1)],
)
def test_lines_removed_moved_or_doubled_are_put_in_order(path: Path, order: tuple[int, ...]) -> None:
    content = lines(path)
    path.write_bytes(b"".join(content[i] for i in order))
    if 0 not in order:
        with pytest.raises(RunMismatchError, match="its first line is damaged"):
            Journal(path, {**IDENTITY, "another": "run"})
    expected = [ENTRIES[i - 1] for i in sorted({*order} - {0})]
    with Journal(path, IDENTITY) as journal:
        assert list(journal) == expected
        assert f"{len(expected)} evaluations kept" in journal.damage
    assert lines(path)[0] == content[0]
    assert numbers(path) == list(range(1, len(expected) + 1))
    with Journal(path, IDENTITY) as journal:
        assert (list(journal), journal.damage) == (expected, "")


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n\n", b"\n \n"])
def test_other_line_ends_and_blank_lines_cost_nothing(path: Path, end: bytes) -> None:
    whole = path.read_bytes()
    damaged = whole.replace(b"\n", end)
    path.write_bytes(damaged)
    assert read_journal(path) == (IDENTITY, ENTRIES)
    with Journal(path, IDENTITY) as journal:
        assert list(journal) == ENTRIES
        assert "0 torn or altered line(s) left out, 5 evaluations kept" in journal.damage
    assert path.read_bytes() == whole
    assert (path.parent / "journal.jsonl.damaged-1").read_bytes() == damaged


def test_whole_lines_of_another_run_are_left_out(path: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "other.jsonl", {**IDENTITY, "seed": 1}) as journal:
        journal.append(entry(9))
    content = lines(path)
    path.write_bytes(b"".join([*content[:3], lines(tmp_path / "other.jsonl")[1], *content[3:]]))
    with Journal(path, IDENTITY) as journal:
        assert list(journal) == ENTRIES
    assert lines(path) == content


def test_what_follows_a_lost_line_of_an_asynchronous_search_is_kept_aside(path: Path, tmp_path: Path) -> None:
    path = tmp_path / "asynchronous.jsonl"
    moments = [replace(item, seen=place, proposed=place + 1) for place, item in enumerate(ENTRIES)]
    write(path, moments)
    content = lines(path)
    path.write_bytes(b"".join([*content[:2], b"\n", *content[3:]]))
    assert read_journal(path)[1] == [moments[0], *moments[2:]]
    with Journal(path, IDENTITY) as journal:
        assert list(journal) == moments[:1]
        assert list(journal.spare.values()) == moments[2:]
        assert "4 evaluations kept" in journal.damage
    assert lines(path) == content[:2]


def test_every_damage_leaves_its_own_copy(path: Path) -> None:
    for count in (1, 2):
        with open(path, "ab") as file:
            file.write(b"torn %d" % count)
        with Journal(path, IDENTITY) as journal:
            assert list(journal) == ENTRIES
    names = sorted(name for name in os.listdir(path.parent) if "damaged" in name)
    assert names == ["journal.jsonl.damaged-1", "journal.jsonl.damaged-2"]
    assert (path.parent / names[1]).read_bytes().endswith(b"torn 2")


@pytest.mark.parametrize(
    "content",
    [
        b"genome,error\n1 0,0.5\n",
        b"\x89PNG\r\n\x1a\n",
        b'{"format":"another"}\n',
        b"\n",
        seal({"format": "another", "identity": IDENTITY}),
        seal({"format": "evonas-journal-2", "identity": IDENTITY}) + b'{"a line of":"a later version"}\n',
    ],
    ids=["csv", "png", "json", "blank", "sealed", "later-format"],
)
def test_a_foreign_file_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"expected a journal of evonas in .*got"):
        Journal(path, IDENTITY)
    with pytest.raises(StorageError, match=r"expected a journal of evonas in .*got"):
        read_journal(path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["journal.jsonl"]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 1}, "seed is 0 there, 1 here"),
        ({"space": {"name": "tiny", "genes": 5}}, "space.genes is 4 there, 5 here"),
        ({"objectives": ("clean_error", "params")}, "objectives is ['clean_error', 'macs'] there"),
        ({"threads": 2}, "threads is nothing there, 2 here"),
        ({"space": None, "seed": 2}, "space is {'name': 'tiny', 'genes': 4} there, None here; seed is 0 there, 2 here"),
    ],
)
def test_another_identity_is_refused_with_the_difference(path: Path, changes: dict[str, Any], difference: str) -> None:
    before = path.read_bytes()
    with pytest.raises(RunMismatchError) as caught:
        Journal(path, {**IDENTITY, **changes})
    assert f"{path} belongs to another run: {difference}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    Journal(path, IDENTITY).close()  # the refusal gave its lock back


def test_a_missing_part_of_the_identity_is_a_difference(path: Path) -> None:
    with pytest.raises(RunMismatchError, match="seed is 0 there, nothing here"):
        Journal(path, {name: value for name, value in IDENTITY.items() if name != "seed"})


def test_tuples_and_lists_are_the_same_identity(path: Path) -> None:
    with Journal(path, {**IDENTITY, "objectives": ("clean_error", "macs")}) as journal:
        assert len(journal) == 5


def test_a_damaged_journal_of_another_run_is_not_lost(path: Path) -> None:
    """Whatever is cut off it stays readable in the copy."""
    with open(path, "ab") as file:
        file.write(b"torn")
    damaged = path.read_bytes()
    with pytest.raises(RunMismatchError, match="seed is 0 there, 1 here"):
        Journal(path, {**IDENTITY, "seed": 1})
    kept = [other.read_bytes() for other in path.parent.iterdir()]
    assert damaged in kept
    assert read_journal(path)[1] == ENTRIES


@pytest.mark.lengthy
def test_a_second_process_is_refused_until_the_first_is_gone(path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from evonas.search import Journal, read_journal\n"
        "journal = Journal(Path(sys.argv[1]), read_journal(Path(sys.argv[1]))[0])\n"
        "print('open', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with Journal(path, IDENTITY):
        second = subprocess.run(command, capture_output=True, text=True)
        assert second.returncode == 1
        assert f"RunInUseError: {path} is being written by another process" in second.stderr
    before = path.read_bytes()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "open\n"
            with pytest.raises(RunInUseError):
                Journal(path, IDENTITY)
            assert read_journal(path)[1] == ENTRIES  # reading needs no lock
        finally:
            holder.kill()
    assert path.read_bytes() == before
    Journal(path, IDENTITY).close()  # a killed process leaves no lock behind


@pytest.mark.lengthy
def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = (
        "import resource, sys; from evonas.errors import StorageError\n"
        "from evonas.search import Entry, Journal; from evonas.types import EvaluationResult\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "journal = Journal(sys.argv[1], {'seed': 0})\n"
        "for number in range(99):\n"
        "    try:\n"
        "        journal.append(Entry(EvaluationResult((number,), {'macs': number}), 0, number))\n"
        "    except StorageError as error:\n"
        "        print(number, len(journal), error)\n"
        "        sys.exit(2)\n"
    )
    child = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert child.returncode == 2, child.stderr
    number, count, message = child.stdout.split(maxsplit=2)
    assert message.startswith(f"could not write {path}: File too large; ")
    assert "(everything recorded so far is kept)" in message
    assert 1 <= int(number) == int(count) < 99
    assert path.read_bytes().endswith(b"\n")  # no torn line stays
    with Journal(path, {"seed": 0}) as journal:
        assert journal.damage == ""
        assert [item.result.genome for item in journal] == [(n,) for n in range(int(number))]
        journal.append(Entry(EvaluationResult((int(number),), {"macs": 0}), 0, int(number)))
    assert len(read_journal(path)[1]) == int(number) + 1


@pytest.mark.lengthy
def test_a_disk_full_from_the_start_is_said(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = (
        "import resource, sys; from evonas.search import Journal\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30, 30))\n"
        "Journal(sys.argv[1], {'seed': 0})\n"
    )
    child = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert f"StorageError: could not write {path}: File too large" in child.stderr
    write(path, ENTRIES)  # what is left there is no obstacle
    assert read_journal(path)[1] == ENTRIES


def test_an_unwritable_place_is_said(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not open"):
        Journal(tmp_path / "file" / "journal.jsonl")
    with pytest.raises(StorageError, match=r"could not open .*: Is a directory"):
        Journal(path.parent)
    (tmp_path / "closed").mkdir()
    with (
        as_stranger(tmp_path / "closed"),
        pytest.raises(StorageError, match="Permission denied; allow it or choose another folder"),
    ):
        Journal(tmp_path / "closed" / "journal.jsonl")
    assert list((tmp_path / "closed").iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b'{"form', b"genome,error\n"])
def test_reading_what_is_no_journal_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "journal.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError):
        read_journal(path)
    assert path.exists() == (content is not None)


def test_a_value_that_json_lacks_leaves_no_trace(path: Path) -> None:
    before = path.read_bytes()
    with Journal(path, IDENTITY) as journal:
        with pytest.raises((ValueError, EvonasError)):
            journal.append(entry(7, objectives={"clean_error": math.nan}))
        assert len(journal) == 5
        journal.append(entry(8))
    assert path.read_bytes().startswith(before)
    assert read_journal(path)[1] == [*ENTRIES, entry(8)]


def test_lines_are_sealed(path: Path) -> None:
    assert all(unseal(line) is not None for line in lines(path))


def test_a_difference_within_a_list_of_parts_is_shown(tmp_path: Path) -> None:
    def identity(step: float) -> dict[str, Any]:
        parts = [{"kind": "loss"}, {"kind": "bound", "epsilon": {"start": 0.03, "step": step}}]
        return {"cells": {"": {"parts": parts}}}

    Journal(tmp_path / "journal.jsonl", identity=identity(0.1)).close()
    with pytest.raises(EvonasError, match=r"cells\.parts\.1\.epsilon\.step is 0\.1 there, 0\.2 here"):
        Journal(tmp_path / "journal.jsonl", identity=identity(0.2))


def test_a_sorted_journal_is_that_of_one_slot(path: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed" / "journal.jsonl"
    with Journal(mixed, IDENTITY, sync=False) as journal:
        for at in (1, 0, 2, 4, 3):
            journal.append(ENTRIES[at])
        journal.sort()
        assert mixed.read_bytes() == path.read_bytes()
        assert journal.lines == ENTRIES
        assert [each.name for each in mixed.parent.iterdir()] == ["journal.jsonl"]
        with pytest.raises(RunInUseError):  # the new file is locked as the old one was
            Journal(mixed, IDENTITY)
        journal.append(entry(5))
    assert read_journal(mixed)[1] == [*ENTRIES, entry(5)]


def test_a_sorted_journal_keeps_the_first_line_that_it_had(tmp_path: Path) -> None:
    found = tmp_path / "journal.jsonl"
    with Journal(found, dict(reversed(IDENTITY.items())), sync=False) as journal:
        journal.append(ENTRIES[1])
    first = lines(found)[0]
    with Journal(found, IDENTITY, sync=False) as journal:
        journal.append(ENTRIES[0])
        journal.sort()
    assert lines(found)[0] == first
    assert read_journal(found)[1] == ENTRIES[:2]


def test_a_journal_with_repeated_keys_keeps_its_order(tmp_path: Path) -> None:
    again = replace(ENTRIES[3], generation=0, proposal=0)
    found = tmp_path / "journal.jsonl"
    with Journal(found, IDENTITY, sync=False) as journal:
        for each in (ENTRIES[4], ENTRIES[3], again):
            journal.append(each)
        before = found.read_bytes()
        journal.sort()
        assert found.read_bytes() == before
    assert {each.key: each for each in read_journal(found)[1]}[again.key] == again


def test_a_journal_that_cannot_be_sorted_stays_as_it_is(tmp_path: Path) -> None:
    found = tmp_path / "run" / "journal.jsonl"
    with Journal(found, IDENTITY, sync=False) as journal:
        for each in ENTRIES[::-1]:
            journal.append(each)
        before = found.read_bytes()
        with as_stranger(found.parent), pytest.raises(StorageError):
            journal.sort()
        assert found.read_bytes() == before
        journal.append(entry(5))
    assert len(read_journal(found)[1]) == 6


def test_a_disk_that_takes_a_part_of_a_sorted_journal_loses_nothing(tmp_path: Path) -> None:
    found = tmp_path / "journal.jsonl"
    with Journal(found, IDENTITY, sync=False) as journal:
        for each in ENTRIES[::-1]:
            journal.append(each)
        before = found.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
        try:
            with pytest.raises(StorageError):
                journal.sort()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert found.read_bytes() == before
        assert [each.name for each in tmp_path.iterdir()] == ["journal.jsonl"]
