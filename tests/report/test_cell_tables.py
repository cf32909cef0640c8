"""E2RNAS's table, with numbers that its papers print."""

import csv
from pathlib import Path
from typing import Any

import pytest

from evonas.report import cell_table, write_retrained


def row(name: str, **more: Any) -> dict[str, Any]:
    return {
        "configuration": name,
        "arch_id": name,
        "status": "ok",
        "clean_error": 0.0259,
        "pgd_error": 0.9343,
        "ood_aupr": 0.3144,
        "paper_flops": 539_060_000,
        "params": 3_349_342,
        "macs": 528_362_496,
        "channels": 36,
        "layers": 20,
        "epochs": 600,
        "train_seconds": 1.5,
        "seed": 0,
        "data": "cifar10",
        "genome": "0 1",
        "reason": "",
        "search_seconds": 0.595 * 24 * 3600,
        **more,
    }


def failed(name: str) -> dict[str, Any]:
    measured = ("clean_error", "pgd_error", "ood_aupr", "paper_flops")
    kept = {key: value for key, value in row(name).items() if key not in measured}
    return {**kept, "status": "failed", "reason": "training diverged"}


def test_a_line_is_as_the_papers_print_it() -> None:
    """DARTS: 2.59, 3.349 and 6.57 in Table 1 of the first version, 539 and 31.44 in Table I of the second."""
    table = cell_table([row("DARTS"), row("DARTS", channels=12, params=416_326, search_seconds=None)], ["a note"])
    assert table.header == (
        "Architecture",
        "Test error %",
        "Params",
        "FLOPs",
        "MACs",
        "PGD acc. %",
        "AUPR %",
        "Search CPU days",
    )
    assert table.lines == (
        ("DARTS-C36", "2.59", "3.349M", "539.1M", "528.4M", "6.57", "31.44", "0.595"),
        ("DARTS-C12", "2.59", "416.3k", "539.1M", "528.4M", "6.57", "31.44", "-"),
    )
    assert "without an auxiliary head" in table.notes[0]
    assert table.notes[1:] == ("a note",)
    assert "cifar10" in table.title


@pytest.mark.parametrize(("device", "unit"), [("cpu", "CPU days"), ("cuda", "GPU days"), ("cuda:1", "GPU days")])
def test_days_are_those_of_the_device(device: str, unit: str) -> None:
    assert cell_table([row("a")], device=device).header[-1] == f"Search {unit}"


def test_there_is_no_column_of_what_was_not_measured() -> None:
    (without,) = [{key: value for key, value in row("a").items() if key != "ood_aupr"}]
    table = cell_table([without])
    assert "AUPR %" not in table.header
    assert table.lines == (("a-C36", "2.59", "3.349M", "539.1M", "528.4M", "6.57", "0.595"),)


def test_latency_is_a_column_where_it_was_measured() -> None:
    table = cell_table([row("a", latency_ms=28.64), row("b", latency_ms=19.42)])
    assert table.header[-2] == "ms"
    assert [line[-2] for line in table.lines] == ["28.6", "19.4"]
    assert "ms" not in cell_table([row("a")]).header


def test_what_diverged_is_named_below() -> None:
    table = cell_table([failed("b"), row("a"), failed("c")])
    assert [line[0] for line in table.lines] == ["a-C36"]
    assert table.notes[-1] == (
        "Left out, because training or scoring diverged: b-C36 (training diverged), c-C36 (training diverged)."
    )
    empty = cell_table([failed("b")])
    assert (empty.lines, empty.header[-1]) == ((), "Search CPU days")


def test_files(tmp_path: Path) -> None:
    rows = [row("a"), failed("b"), row("c", search_seconds=None)]
    write_retrained(tmp_path, rows, [cell_table(rows)])
    with open(tmp_path / "retrained.csv", newline="") as file:
        first, second, third = csv.DictReader(file)
    assert list(first) == [
        "configuration",
        "arch_id",
        "status",
        "clean_error",
        "pgd_error",
        "ood_aupr",
        "paper_flops",
        "layers",
        "search_seconds",
        "params",
        "macs",
        "channels",
        "epochs",
        "train_seconds",
        "seed",
        "data",
        "genome",
        "reason",
    ]
    assert (first["clean_error"], first["paper_flops"], first["params"]) == ("0.0259", "539060000", "3349342")
    assert (second["status"], second["clean_error"], second["reason"]) == ("failed", "", "training diverged")
    assert (third["configuration"], third["search_seconds"]) == ("c", "")
    assert "| a-C36 | 2.59 | 3.349M | 539.1M | 528.4M | 6.57 | 31.44 | 0.595 |" in (tmp_path / "tables.md").read_text()
