"""Means over repeats: only finite numbers count, deviations are the sample's, files are exact."""

import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evonas.report import means_of_repeats, means_text, write_means


def rows_of(*named: tuple[str, dict[str, Any]], columns: list[str]) -> list[tuple[Any, ...]]:
    return list(means_of_repeats(named, columns).itertuples(index=False, name=None))


def test_means_over_repeats_count_finite_numbers_alone() -> None:
    first, second = rows_of(
        ("a", {"x": 1.0}),
        ("a", {"x": 4.0}),
        ("a", {"x": ""}),
        ("a", {"x": "7"}),
        ("a", {}),
        ("b", {"x": 5, "y": math.inf}),
        columns=["x", "y"],
    )
    assert first == ("a", "x", 2, 2.5, pytest.approx(3 / 2**0.5))
    assert second[:4] == ("b", "x", 1, 5.0)
    assert math.isnan(second[4])


def test_searches_and_columns_keep_their_order() -> None:
    """Also where the first row of a search lacks its first column, and where rows of searches alternate."""
    found = rows_of(
        ("z", {"y": 1}), ("a", {"x": 1, "y": 1}), ("z", {"x": 1, "y": 1}), ("none", {"x": None}), columns=["x", "y"]
    )
    assert [row[:3] for row in found] == [("z", "x", 1), ("z", "y", 2), ("a", "x", 1), ("a", "y", 1)]


@pytest.mark.lengthy
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100), min_size=2))
def test_means_are_exactly_rounded(values: list[float]) -> None:
    ((_, _, n, mean, deviation),) = rows_of(*(("a", {"x": value}) for value in values), columns=["x"])
    assert (n, mean, deviation) == (len(values), statistics.fmean(values), statistics.stdev(values))


def test_a_line_for_each_search() -> None:
    means = means_of_repeats(
        [("darts", {"clean_error": 0.11, "params": 2e6}), ("darts", {"clean_error": 0.13}), ("e2", {"x": 5})],
        ["clean_error", "params", "x"],
    )
    assert list(means_text(means)) == ["darts, 2 searches: clean_error 12.0% +- 1.4%, params 2M", "e2, 1 search: x 5"]


def test_the_file_has_every_digit_and_no_deviation_of_one(tmp_path: Path) -> None:
    named: list[tuple[str, dict[str, Any]]] = [
        ("a, b", {"x": 0.1, "params": 7}),
        ("a, b", {"x": 0.2 + 0.3}),
        ("c", {"params": 10**17}),
    ]
    write_means(tmp_path / "repeats.csv", means_of_repeats(named, ["x", "params"]))
    assert (tmp_path / "repeats.csv").read_text().splitlines() == [
        "search,column,searches,mean,deviation",
        '"a, b",x,2,0.3,0.282842712474619',
        '"a, b",params,1,7.0,',
        "c,params,1,1e+17,",
    ]


def test_nothing_measured_is_an_empty_table(tmp_path: Path) -> None:
    means = means_of_repeats([("a", {"x": None})], ["x"])
    assert list(means_text(means)) == []
    write_means(tmp_path / "repeats.csv", means)
    assert (tmp_path / "repeats.csv").read_text() == "search,column,searches,mean,deviation\n"
