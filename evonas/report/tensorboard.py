"""A run for TensorBoard: event files that are written once each, from the journal alone."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas.errors import ConfigurationError
from evonas.files import replace_file, storage_errors
from evonas.report.plots import plot_front
from evonas.report.table import HistoryRow, Searched, front, history, population_table

if TYPE_CHECKING:
    from evonas.search import Entry

__all__ = ["require_tensorboard", "write_tensorboard"]

EVENTS = "events.out.tfevents"


def require_tensorboard() -> None:
    """ConfigurationError where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigurationError(
            "expected tensorboard for --track tensorboard, it is not installed; pip install 'evonas[track]'"
        )


def write_tensorboard(folder: Path, entries: Sequence[Entry], searched: Searched, generations: int) -> None:
    """Write the event files that are missing, each whole or not at all.

    One file for each finished generation: hypervolume, size of the front, the best value of every searched column, and
    the picture of the front, all at the end of that generation. One for each evaluation in `evaluations/ARCH`: genes as
    hyperparameters, measured columns as metrics. A file's name holds a digest of what it shows, so nothing is written
    twice, and what has changed is written anew.

    Args:
        generations: number of the last finished generation.
    Raises:
        StorageError: the folder cannot be written.
    """
    for row in history(entries, searched):
        reached = [entry for entry in entries if entry.generation <= row.generation]
        if row.generation <= generations:
            file = f"{EVENTS}.{row.generation:010d}"  # TensorBoard reads files in the order of their names
            shown = [_shown(entry) for entry in reached]
            if _missing(folder, file, shown):
                _write(folder, file, shown, row.generation, _of_generation(row, reached, searched))
    for entry in entries:
        place, shown = folder / "evaluations" / entry.key, [_shown(entry)]
        if entry.generation <= generations and _missing(place, EVENTS, shown):
            _write(place, EVENTS, shown, entry.generation, _of_evaluation(entry, searched))


def _shown(entry: Entry) -> list[Any]:
    return [entry.key, entry.generation, entry.result.status, dict(entry.result.objectives)]


def _name(file: str, shown: Sequence[Any]) -> str:
    return f"{file}.{hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:8]}"


def _missing(folder: Path, file: str, shown: Sequence[Any]) -> bool:
    with storage_errors(f"read {folder}"):
        return not (folder / _name(file, shown)).is_file()


def _write(folder: Path, file: str, shown: Sequence[Any], step: int, summaries: Sequence[Any]) -> None:
    """Write one file of events, all of one step, in place of an earlier one of the same thing."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    now = time.time()
    events = [Event(wall_time=now, file_version="brain.Event:2")]
    events += [Event(wall_time=now, step=step, summary=summary) for summary in summaries]

    def write(out: Any) -> None:
        records = RecordWriter(out)
        for event in events:
            records.write(event.SerializeToString())

    with storage_errors(f"write {folder}"):
        for earlier in folder.glob(f"{file}.*"):
            earlier.unlink()
    replace_file(folder / _name(file, shown), write)


def _of_generation(row: HistoryRow, reached: Sequence[Entry], searched: Searched) -> list[Any]:
    """Summaries of everything that was known at the end of a generation."""
    from torch.utils.tensorboard.summary import scalar

    table = population_table(reached, searched)
    values: dict[str, float] = {
        "search/hypervolume": row.hypervolume,
        "search/front_size": len(front(table)),
        "search/evaluations": row.evaluations,
    }
    ok = [entry.result.objectives for entry in reached if entry.result.ok]
    for name in searched.objectives if ok else ():
        best = max if name in searched.maximize else min
        values[f"best/{name}"] = best(each[name] for each in ok)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "front.png"
        plot_front(picture, table, searched)
        drawn = _image("front", picture.read_bytes())
    return [*(scalar(name, value) for name, value in values.items()), drawn]


def _image(tag: str, png: bytes) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def _of_evaluation(entry: Entry, searched: Searched) -> list[Any]:
    """Summaries of one evaluation: genes, measured columns, and whether it failed.

    The description of the experiment is the same in each, because TensorBoard reads one of them.
    """
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
    from torch.utils.tensorboard.summary import hparams, scalar

    result = entry.result
    genes = {f"gene_{number:02d}": gene for number, gene in enumerate(result.genome)}
    columns = dict.fromkeys((*searched.objectives, *searched.columns, "params", "macs"))
    summaries = [*hparams({**genes, "arch_id": entry.key}, columns)]
    if not result.ok:
        failed = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_FAILURE)
        data = plugin_data_pb2.HParamsPluginData(session_end_info=failed, version=metadata.PLUGIN_DATA_VERSION)
        value = summaries[-1].value[0]
        assert value.tag == metadata.SESSION_END_INFO_TAG
        value.metadata.plugin_data.content = data.SerializeToString()
    return [*summaries, *(scalar(name, value) for name, value in result.objectives.items())]
