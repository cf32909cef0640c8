"""The front of a search evaluated again by other seeds, from the evaluations that were kept back for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from evonas.runs.search_screen import SearchScreen
from evonas.search import Entry, Event, EvolutionConfig, Journal, score
from evonas.seeding import derive_seed

if TYPE_CHECKING:
    from evonas.runs.recording import Searching
    from evonas.runs.run import Run

__all__ = ["plan", "replicate_front"]


def plan(front: Sequence[Entry], replicates: int, budget: int) -> dict[int, list[Entry]]:
    """Number of a seed, from 2 up -> networks to evaluate by it.

    Every network gets its second seed before one gets its third. Where the budget is too small for all, those that are
    left are spread over the front.
    """
    found: dict[int, list[Entry]] = {}
    for number in range(2, replicates + 1):
        count = min(len(front), budget)
        if count:
            places = np.linspace(0, len(front) - 1, count).round().astype(int)
            found[number] = [front[place] for place in places]
        budget -= count
    return found


def replicate_front(run: Run, searching: Searching, config: EvolutionConfig) -> None:
    """Evaluate the front again, or continue with that, and write the tables with what was found.

    Every seed has its own journal, `replicates/NUMBER.jsonl`. Nothing is stopped early.

    Raises:
        As `Run.search`.
    """
    searched, folder = searching.searched, run.folder
    front = folder.front(searched)
    if not front:
        run.screen.say("replicates: no network is on the front")
        return
    planned = plan(front, config.replicates, config.again)
    total = sum(map(len, planned.values()))
    most = max(map(len, planned.values()))
    fewer = f", {most} of its {len(front)} networks" if most < len(front) else ""
    run.screen.say(f"replicates: {total} further evaluations of the front{fewer}, by {len(planned)} other seed(s)")
    watched = config.objectives[0]
    screen = SearchScreen(run.screen, total, 0, watched, watched in searching.maximize)

    def see(event: Event) -> None:
        run.screen.check()
        screen.see(event)

    with run.screen:
        for number, networks in planned.items():
            with Journal(folder.replicate_journal(number), run.identity) as journal:
                run.screen.say(journal.damage)
                score(
                    [np.array(entry.result.genome, dtype=np.int64) for entry in networks],
                    replace(searching.evaluator, keep=None),
                    config.objectives,
                    derive_seed(config.seed, "replicate", number),
                    run.executor(getattr(searching.evaluator.prepare, "resident", False)),
                    journal,
                    run.options.retry_failed,
                    see,
                    searching.predict,
                )
        folder.export(folder.entries(), searched)
    again = folder.replicates(searched)
    run.screen.say("replicates: all of them failed" if again is None else again.words())
