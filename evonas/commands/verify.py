"""Check that the numbers of a run are found again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from evonas.commands.opened import Folder, opened, say
from evonas.errors import ConfigurationError

if TYPE_CHECKING:
    from evonas.runs.result import Result

__all__ = ["Verify"]


@dataclass(frozen=True)
class Verify:
    """Check a run: rebuild every network and count it, and evaluate the named ones again from their seed."""

    example: ClassVar[str] = "evonas verify runs/roco-digits-quick-seed0 --retrain best"

    run: Folder
    """Folder of the run."""
    retrain: tuple[str, ...] = ()
    """arch_ids to evaluate again; `best` is the first row of front.csv. On the CPU they give equal values."""
    data: str = ""
    """npz:PATH, where the file of the run's images is now; its content is compared."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __call__(self) -> None:
        result = opened(self.run, self.plugin, self.data)
        wrong = _recount(result) + sum(_evaluate_again(result, name) for name in self.retrain)
        if wrong:
            raise ConfigurationError(f"{wrong} recorded values were not found again; see the lines above")


def _recount(result: Result) -> int:
    """Prints and counts the entries whose recorded costs are not those of their network."""
    wrong, counted = 0, result.recount()
    for entry in result.entries:
        if entry.key in counted:
            params, macs = counted[entry.key]
            values = entry.result.objectives
            if (params, macs) != (values["params"], values["macs"]):
                wrong += 1
                recorded = f"{values['params']} params, {values['macs']} macs"
                say(f"{entry.key}: recorded {recorded}; counted {params}, {macs}")
    verdict = f"{wrong} counts differ" if wrong else "all counts are equal"
    say(f"{len(counted)} networks counted anew, {len(result.entries) - len(counted)} failed ones left out: {verdict}")
    return wrong


def _evaluate_again(result: Result, name: str) -> int:
    """Prints a network's values, recorded and found again, and counts those that differ."""
    key, wrong = result.entry(name).key, 0
    for column, (recorded, now) in result.evaluate_again(key).items():
        wrong += recorded != now
        say(f"{key} {column}: recorded {recorded!r}, now {now!r}, {'equal' if recorded == now else 'DIFFERENT'}")
    return wrong
