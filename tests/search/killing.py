"""Searches of the space `Ladder` that are killed and continued, which must leave the journal of an undisturbed one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from learnable import Ladder
from searches import same
from test_asynchronous import Killed, Scripted, following, shuffled

from evonas.executors import Executor
from evonas.search import EvolutionConfig, Finished, Journal, evolve


def same_journal_when_killed(
    counts: Sequence[int],
    config: EvolutionConfig,
    folder: Path,
    evaluate: Any,
    executor: Callable[[], Executor] | None = None,
) -> Path:
    """Search once in this process, and once killed after so many fresh evaluations each time; the first's journal."""
    whole, killed = folder / "whole.jsonl", folder / "killed.jsonl"
    _search(None, config, whole, evaluate)
    for count in counts:
        with pytest.raises(Killed):
            _search(count, config, killed, evaluate, executor)
    _search(None, config, killed, evaluate, executor)
    assert killed.read_bytes() == whole.read_bytes()
    return whole


def _search(
    left: int | None,
    config: EvolutionConfig,
    path: Path,
    evaluate: Any,
    executor: Callable[[], Executor] | None = None,
) -> None:
    def see(event: Any) -> None:
        nonlocal left
        if isinstance(event, Finished) and not event.cached and left is not None:
            left -= 1
            if left == 0:
                raise Killed

    with Journal(path, {"seed": config.seed}, sync=False) as journal:
        list(evolve(Ladder(), evaluate, config, None if executor is None else executor(), journal, report=see))


def repeats_its_record(config: EvolutionConfig, folder: Path, evaluate: Any) -> None:
    """Asynchronous, on three slots, results out of order: killed while three run, it goes on as if it had not been."""
    order, whole = [2, 0, 1, 1, 0, 2, 2], folder / "whole.jsonl"
    with Journal(whole, {}, sync=False) as journal:
        states = list(evolve(Ladder(), evaluate, config, Scripted(3, shuffled(order)), journal))
        keys = [entry.key for entry in journal.lines]
    for stop in (5, 20, 33):
        path = folder / f"{stop}.jsonl"
        with Journal(path, {}, sync=False) as journal, pytest.raises(Killed):
            list(evolve(Ladder(), evaluate, config, Scripted(3, shuffled(order), stop_after=stop), journal))
        with Journal(path, {}, sync=False) as journal:
            again = list(evolve(Ladder(), evaluate, config, Scripted(3, following(keys[stop:])), journal))
        assert path.read_bytes() == whole.read_bytes()
        assert same(again, states)
