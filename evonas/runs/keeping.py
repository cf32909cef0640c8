"""Weights of a search's networks in its folder: written before a line of the journal, removed after the front moves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evonas.evaluation import Prepare
from evonas.evaluation.keeping import KeepWeights, Leaders
from evonas.files import exists, replace_file, storage_errors
from evonas.parts import digest
from evonas.report import Searched, objective_values
from evonas.runs.folder import RunFolder
from evonas.runs.recording import Searching
from evonas.search import Entry, Journal, non_dominated
from evonas.ship import Provenance

__all__ = ["KeptWeights", "keep_weights", "search_provenance"]

NAMED = 5
"""Networks without weights that are named on the screen."""


def keep_weights(asked: str, searching: Searching, identity: Mapping[str, Any]) -> KeepWeights | None:
    """The weights that evaluations bring with their results.

    Args:
        asked: none, front or all.
        identity: of the run.
    """
    if asked == "none":
        return None
    provenance = search_provenance(identity, searching.evaluator.prepare)
    if asked == "all":
        return KeepWeights(provenance)
    return KeepWeights(provenance, searching.objectives, searching.maximize)


def search_provenance(identity: Mapping[str, Any], prepare: Prepare) -> Provenance:
    """Origin of the weights that a search scored its networks with.

    Args:
        identity: of the run.
        prepare: gave candidates their weights.
    """
    return Provenance(
        weights="search",
        identity=digest(identity),
        seed=identity["seed"],
        data=prepare.data.name,
        fingerprint=prepare.data.fingerprint,
        epochs=prepare.epochs,
    )


class KeptWeights:
    """Files of weights in a run's folder.

    Args:
        asked: networks that are kept: none, front or all.
        journal: of the run; a network's weights are on disk before its line.
    """

    def __init__(self, folder: RunFolder, asked: str, journal: Journal, searched: Searched) -> None:
        self._folder, self._asked, self._journal, self._searched = folder, asked, journal, searched
        self._leaders = Leaders(searched.objectives, searched.maximize)
        for entry in journal:
            self._lead(entry)
        journal.before_line = self._write

    def sweep(self) -> None:
        """Remove the files of networks that are not on the front, where only that is kept."""
        if self._asked != "front":
            return
        front = {entry.key for entry in self._front()}
        for path in self._files():
            if path.stem not in front:
                with storage_errors(f"remove {path}"):
                    path.unlink(missing_ok=True)

    def missing(self) -> str:
        """A line on networks of the front without weights; empty where all have some, or none are kept."""
        front = self._front() if self._asked != "none" else []
        kept = {path.stem for path in self._files()}
        without = [entry.key for entry in front if entry.key not in kept]
        if not without:
            return ""
        named = ", ".join(without[:NAMED]) + (f" and {len(without) - NAMED} more" if len(without) > NAMED else "")
        return (
            f"no weights were kept of {len(without)} of {len(front)} networks on the front, {named}: they were "
            "evaluated before; load_network trains them again with train_again=True"
        )

    def _write(self, entry: Entry) -> None:
        """Take the weights from a new entry, and keep them where they are asked for."""
        weights, leads = entry.result.take_weights(), self._lead(entry)
        if weights and (self._asked == "all" or (self._asked == "front" and leads)):
            replace_file(self._folder.weights(entry.key), lambda file: file.write(weights))

    def _lead(self, entry: Entry) -> bool:
        return entry.result.ok and self._leaders.add(entry.result.objectives)

    def _front(self) -> list[Entry]:
        entries = list(self._journal)
        return [entries[place] for place in non_dominated(objective_values(entries, self._searched))]

    def _files(self) -> list[Path]:
        """Files that a run of evonas has written."""
        folder = self._folder.weights("").parent
        with storage_errors(f"read {folder}"):
            return sorted(folder.glob(f"{'[0-9a-f]' * 16}.safetensors")) if exists(folder) else []
