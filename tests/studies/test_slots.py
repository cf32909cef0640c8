"""Several runs at once: each slot has its share of the processors, and nothing outlives the first process."""

import multiprocessing
import os
from pathlib import Path

import pytest
from toy_studies import studied

from evonas.errors import ConfigurationError
from evonas.studies import slots
from evonas.studies.grid import record
from evonas.studies.slots import run_on_slots

HERE = os.sched_getaffinity(0)


def test_shares_are_disjoint_and_hold_every_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 1, 7, 2, 9})
    shares = slots._shares(2)
    assert shares == [[1, 4, 9], [2, 7]]
    assert slots._shares(5) == [[1], [2], [4], [7], [9]]


def test_more_slots_than_processors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"at most {len(HERE)} slots, one a processor, got {len(HERE) + 1}"):
        run_on_slots(tmp_path, (), {}, len(HERE) + 1)


def test_a_process_is_kept_to_its_share_within() -> None:
    one = min(HERE)
    with slots._kept_to([one]):
        assert os.sched_getaffinity(0) == {one}
    assert os.sched_getaffinity(0) == HERE


@pytest.mark.lengthy
@pytest.mark.skipif(len(HERE) < 2, reason="one processor")
def test_all_slots_end_where_nothing_is_left(tmp_path: Path) -> None:
    found = studied("roco", tmp_path)
    for cell in found.cells:
        record(tmp_path, cell, "finished", 1.0, 1.0)
    run_on_slots(tmp_path, found.cells, {}, 2)
    assert multiprocessing.active_children() == []
    assert os.sched_getaffinity(0) == HERE
