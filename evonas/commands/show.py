"""Print the front of a run, or everything about one of its networks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from evonas.commands.opened import Folder, opened, print_json, print_table

if TYPE_CHECKING:
    from evonas.runs.portrait import Portrait
    from evonas.runs.result import Result

__all__ = ["Show"]

WIDTH = 80


@dataclass(frozen=True)
class Show:
    """Print the front of a run, or one of its networks: drawing, layers, parents, children, all that was measured."""

    example: ClassVar[str] = "evonas show runs/roco-digits-quick-seed0 knee"

    run: Folder
    """Folder of the run."""
    arch: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ARCH")] = ""
    """A network: its arch_id, or the first digits of that; best, the first row of the front; knee, that of the front.
    """
    json: bool = False
    """Print JSON for scripts."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __call__(self) -> None:
        found = opened(self.run, self.plugin, quiet=self.json)
        if self.arch:
            self._network(found)
        else:
            self._front(found)

    def _front(self, found: Result) -> None:
        from evonas.report import front, front_text, population_table
        from evonas.report.choosing import plain_rows

        table = front(population_table(found.entries, found.searched))
        if self.json:
            print_json({"damage": found.folder.damage, "front": plain_rows(table)})
        else:
            print_table(front_text(table, found.searched, len(table), ("generation",)), kept=1)

    def _network(self, found: Result) -> None:
        from evonas.runs.portrait import portrait

        network = portrait(found, self.arch)
        if self.json:
            print_json({"run": str(found.path), "damage": found.folder.damage, **network.plain()})
        else:
            print("\n".join(line for part in _parts(network) for line in (*part, ""))[:-1])


def _parts(network: Portrait) -> Iterator[list[str]]:
    """Lines of each part of the page."""
    from evonas.report import duration, said, shown

    front = "on the front" if network.rank == 0 else f"front number {network.rank}, 0 is the first"
    yield [
        f"{network.arch_id} of {network.method} on {network.data}",
        f"rank {network.rank} ({front}), generation {network.generation}, seed {network.seed}",
        *_wrapped("", [f"trained in {duration(network.train_seconds)}", network.kin.origin]),
        *_wrapped("parents:  ", network.kin.parents),
        *_wrapped("children: ", network.kin.children),
    ]
    wide = max(map(len, network.values), default=0)
    yield [
        line
        for name, value in network.values.items()
        for line in textwrap.wrap(
            f"{name:<{wide}}  {shown(name, value):>7}  {_exact(value):<9}  {network.meanings[name]}".rstrip(),
            WIDTH,
            subsequent_indent=" " * (wide + 22),
        )
    ]
    for row in network.audit:
        measured = [*said(row.values)]
        yield [*_wrapped(f"audit, {row.words}: ", measured or [row.reason or row.status])]
    if not network.layers:
        yield ["no drawing and no layers: the search space is in no table here; name its file with --plugin"]
        return
    yield [*network.drawing]
    yield [*_layers(network)]


def _exact(value: float) -> str:
    """A natural value, a float with six digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _wrapped(head: str, words: Iterator[str] | tuple[str, ...] | list[str]) -> list[str]:
    text = ", ".join(words)
    return textwrap.wrap(f"{head}{text}", WIDTH, subsequent_indent=" " * min(len(head), 10)) if text else []


def _layers(network: Portrait) -> Iterator[str]:
    """A line for each layer, and their sums, which are the recorded costs."""
    head, rows = ("layer", "kind", "output", "params", "macs"), list[tuple[str, ...]]()
    for layer in network.layers:
        shape = "x".join(map(str, layer.shape)) or "-"
        rows.append((layer.name or "(network)", layer.kind, shape, f"{layer.params:,}", f"{layer.macs:,}"))
    params, macs = network.totals
    rows.append(("all layers", "", "", f"{params:,}", f"{macs:,}"))
    wide = [max(len(row[at]) for row in (head, *rows)) for at in range(5)]
    spare = WIDTH - 8 - sum(wide[2:])
    names = min(wide[0], spare - min(wide[1], spare // 2))
    kinds = min(wide[1], spare - names)
    for row in (head, *rows):
        name, kind = _cut(row[0], names), row[1][:kinds]
        yield f"{name:<{names}}  {kind:<{kinds}}  {row[2]:>{wide[2]}}  {row[3]:>{wide[3]}}  {row[4]:>{wide[4]}}"
    recorded = network.values.get("params", params), network.values.get("macs", macs)
    if recorded != (params, macs):
        yield f"recorded: {recorded[0]:,} params, {recorded[1]:,} macs, which differ; evonas verify counts all networks"


def _cut(name: str, width: int) -> str:
    """The end of a path that is too long: there layers differ."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"
