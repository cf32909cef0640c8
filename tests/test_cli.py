"""Commands on what is there: show, verify, export, set. Those that begin something are tested by their methods."""

import json
import signal
from pathlib import Path

import pytest
from tiny_runs import EVALUATIONS, contents, rows

from evonas.adversarial_sets import AdversarialSet, save_adversarial_set
from evonas.cli import main
from evonas.commands import COMMANDS
from evonas.files import seal
from evonas.methods import METHODS
from evonas.report import shown
from evonas.runs import RunFolder

pytestmark = pytest.mark.lengthy


def test_show_prints_the_front_and_what_was_measured(
    roco_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    before = contents(roco_run)
    assert main(["show", str(roco_run)]) == 0
    said = capsys.readouterr().out
    front = rows(roco_run / "front.csv")
    assert f"roco-nas on digits: {len(front)} on the front" in said
    for row in front:
        (line,) = (line for line in said.splitlines() if row["arch_id"] in line)
        assert f"{100 * float(row['clean_error']):.1f}%" in line
    others = {row["arch_id"] for row in rows(roco_run / "population.csv")} - {row["arch_id"] for row in front}
    assert not any(arch in said for arch in others)
    assert contents(roco_run) == before


def test_show_breaks_no_word_in_a_narrow_terminal(
    roco_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too narrow for all columns: the table is folded into parts, each with the networks' names."""
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["show", str(roco_run)]) == 0
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines() if line[0] in "┏┃┡│└") <= 40  # notes are not in the table
    words = said.replace("┃", " ").replace("│", " ").split()
    front = rows(roco_run / "front.csv")
    parts = words.count("arch_id")
    assert parts >= 2
    for row in front:
        assert words.count(row["arch_id"]) == parts
        assert shown("macs", float(row["macs"])) in words
        assert shown("params", float(row["params"])) in words
    for word in ("macs", "params", "generation"):
        assert words.count(word) == 1


def test_verify_counts_every_network_and_evaluates_the_named_ones_again(
    roco_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(roco_run)
    last = rows(roco_run / "population.csv")[-1]["arch_id"]
    assert main(["verify", str(roco_run), "--retrain", f"best,{last}"]) == 0
    said = capsys.readouterr().out
    assert f"{EVALUATIONS} networks counted anew, 0 failed ones left out: all counts are equal" in said
    best = rows(roco_run / "front.csv")[0]["arch_id"]
    for arch in (best, last):
        for column in ("clean_error", "macs", "params"):
            assert f"{arch} {column}: recorded " in said
    assert "DIFFERENT" not in said
    assert contents(roco_run) == before
    assert main(["verify", str(roco_run), "--retrain", "nothing"]) == 2
    assert "expected the arch_id of a row" in capsys.readouterr().err


def test_verify_finds_a_recorded_value_that_is_wrong(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, *lines = (copied_run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    record = json.loads(lines[0])
    del record["checksum"]
    record["objectives"] = {**record["objectives"], "clean_error": 0.123, "params": 1}
    (copied_run / "journal.jsonl").write_bytes(header + seal(record) + b"".join(lines[1:]))
    assert main(["verify", str(copied_run), "--retrain", record["key"]]) == 2
    said = capsys.readouterr()
    assert "1 counts differ" in said.out
    assert f"{record['key']} clean_error: recorded 0.123" in said.out
    assert said.out.count("DIFFERENT") == 2
    assert "were not found again" in said.err


def test_export_writes_the_tables_of_the_journal_anew(roco_run: Path, copied_run: Path) -> None:
    for name in ("population.csv", "front.png"):
        (copied_run / name).unlink()
    (copied_run / "history.csv").write_text("damaged")
    assert main(["export", str(copied_run)]) == 0
    for name in ("population.csv", "front.csv", "history.csv"):
        assert (copied_run / name).read_bytes() == (roco_run / name).read_bytes()
    assert (copied_run / "front.png").read_bytes().startswith(b"\x89PNG")


def test_front_finds_out_before_its_table_whether_it_can_write(
    roco_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["front", str(roco_run), "--out", str(tmp_path / "file" / "joint")]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "Not a directory; choose another folder" in said.err


def test_readers_say_where_a_journal_is_damaged(
    copied_run: Path, roco_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["show", str(roco_run)], ["front", str(roco_run)]):
        assert main(words) == 0
        assert "damaged" not in capsys.readouterr().out
    journal = copied_run / "journal.jsonl"
    header, first, *others = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(header + first.replace(b"seed", b"seeD") + b"".join(others))
    before = journal.read_bytes()
    for words in (["show"], ["front", str(roco_run)], ["export"], ["verify"]):
        assert main([words[0], str(copied_run), *words[1:]]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"{journal} is damaged: 1 torn or altered line(s) are left out; the command that began the run" in said
    assert journal.read_bytes() == before
    journal.write_bytes(b"x" + before)
    assert main(["show", str(copied_run)]) == 2
    assert "the command that began the run mends its own journal" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["latency", "best", "--runs", "1", "--warm-up", "1"],
        ["audit", "best", "--measure", "clean", "--executor", "local"],
    ],
)
def test_json_stays_json_beside_a_damaged_journal(
    words: list[str], copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = copied_run / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b"seed", b"seeD")
    journal.write_bytes(b"".join(lines))
    assert main([words[0], str(copied_run), *words[1:], "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert "1 torn or altered line(s)" in found["damage"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("words", "watched"), [(["latency"], False), (["report"], False), (["report", "--watch"], True)]
)
def test_a_signal_in_a_command_is_one_line(
    words: list[str],
    watched: bool,
    number: signal.Signals,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(number)
    for place in ("latency.Latency.__call__", "report.Report._follow"):
        monkeypatch.setattr(f"evonas.commands.{place}", lambda self: signal.raise_signal(number))
    code = main([words[0], str(tmp_path), *words[1:]])
    line = "stopped: everything finished is kept; the same command goes on from there\n"
    assert (code, capsys.readouterr().err) == ((0, "") if watched else (128 + number, line))
    assert signal.getsignal(number) == before


def test_only_export_waits_for_the_writer(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder(copied_run).locked():
        assert main(["show", str(copied_run)]) == 0
        assert main(["verify", str(copied_run)]) == 0
        assert main(["export", str(copied_run)]) == 2
    assert "is being written by another process" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["show"], ["export"], ["verify"]])
def test_a_folder_that_holds_no_run_is_one_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, str(tmp_path)]) == 2
    assert main([*words, str(tmp_path / "nothing")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(f"{tmp_path}" in error and "expected a run folder" in error for error in errors)
    assert not list(tmp_path.iterdir())


def test_the_card_of_a_set_and_a_page_of_its_images(
    digits_set: AdversarialSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_adversarial_set(tmp_path / "mine", digits_set)
    file, page = tmp_path / "mine.safetensors", tmp_path / "page.png"
    assert main(["set", str(file), "--picture", str(page)]) == 0
    said = capsys.readouterr().out
    assert digits_set.fingerprint in said
    assert digits_set.card.name in said
    assert page.read_bytes().startswith(b"\x89PNG")
    file.write_bytes(file.read_bytes()[:-3])
    assert main(["set", str(file)]) == 2


def test_no_command_has_the_name_of_a_method() -> None:
    assert not COMMANDS.keys() & METHODS.keys()
