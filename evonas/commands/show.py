"""Print the front of a run, or everything about one of its networks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from evonas.commands.opened import Folder, opened, print_json, print_table

if TYPE_CHECKING:
    from evonas.runs.portrait import Portrait
    from evonas.runs.result import Result

__all__ = ["Show"]

NARROW = 72
"""Columns of a terminal below which a layer has two lines."""


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
        from evonas.runs.screen import screen_width

        network = portrait(found, self.arch)
        if self.json:
            print_json({"run": str(found.path), "damage": found.folder.damage, **network.plain()})
        else:
            print("\n".join(line for part in _parts(network, screen_width()) for line in (*part, ""))[:-1])


def _parts(network: Portrait, width: int) -> Iterator[list[str]]:
    """Lines of each part of the page, at most `width` characters long."""
    from evonas.report import duration, said

    front = "on the front" if network.rank == 0 else f"front number {network.rank}, 0 is the first"
    born = f"rank {network.rank} ({front}), generation {network.generation}, seed {network.seed}"
    yield [
        *_wrapped(f"{network.arch_id} of {network.method} on {network.data}", width),
        *_wrapped(born, width),
        *_wrapped(f"trained in {duration(network.train_seconds)}, {network.kin.origin}", width),
        *_listed("parents:  ", network.kin.parents, width),
        *_listed("children: ", network.kin.children, width),
    ]
    yield [*_values(network, width)]
    for row in network.audit:
        yield _listed(f"audit, {row.words}: ", [*said(row.values)] or [row.reason or row.status], width)
    if not network.layers:
        without = "no drawing and no layers: the search space is in no table here; name its file with --plugin"
        yield _wrapped(without, width)
        return
    wide = max(map(len, network.drawing), default=0)
    drawn = wide <= width
    yield [*network.drawing] if drawn else _wrapped(f"the drawing is left out: it is {wide} columns wide", width)
    yield [*_layers(network, width)]


def _values(network: Portrait, width: int) -> Iterator[str]:
    """Every measured value, rounded and exact, and its meaning."""
    from evonas.report import shown

    wide = max(map(len, network.values), default=0)
    for name, value in network.values.items():
        line = f"{name:<{wide}}  {shown(name, value):>7}  {_exact(value):<9}  {network.meanings[name]}".rstrip()
        yield from _wrapped(line, width, wide + 22 if width >= NARROW else 2)


def _exact(value: float) -> str:
    """A natural value, a float with six digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _listed(head: str, words: Iterable[str], width: int) -> list[str]:
    """The words after a head; nothing where there are none."""
    text = ", ".join(words)
    return _wrapped(f"{head}{text}", width, min(len(head), 10)) if text else []


def _layers(network: Portrait, width: int) -> Iterator[str]:
    """A line for each layer, two where the terminal is narrow, and their sums, which are the recorded costs."""
    rows: list[tuple[str, ...]] = [("layer", "kind", "output", "params", "macs")]
    for layer in network.layers:
        shape = "x".join(map(str, layer.shape)) or "-"
        rows.append((layer.name or "(network)", layer.kind, shape, f"{layer.params:,}", f"{layer.macs:,}"))
    params, macs = network.totals
    rows.append(("all layers", "", "", f"{params:,}", f"{macs:,}"))
    yield from _broad(rows, width) if width >= NARROW else _narrow(rows, width)
    recorded = network.values.get("params", params), network.values.get("macs", macs)
    if recorded != (params, macs):
        counted = f"recorded: {recorded[0]:,} params, {recorded[1]:,} macs, which differ"
        yield from _wrapped(f"{counted}; evonas verify counts all networks", width)


def _broad(rows: Sequence[tuple[str, ...]], width: int) -> Iterator[str]:
    wide = [max(len(row[at]) for row in rows) for at in range(5)]
    spare = width - 8 - sum(wide[2:])
    names = min(wide[0], spare - min(wide[1], spare // 2))
    kinds = min(wide[1], spare - names)
    for row in rows:
        name, kind = _cut(row[0], names), row[1][:kinds]
        yield f"{name:<{names}}  {kind:<{kinds}}  {row[2]:>{wide[2]}}  {row[3]:>{wide[3]}}  {row[4]:>{wide[4]}}"


def _narrow(rows: Sequence[tuple[str, ...]], width: int) -> Iterator[str]:
    wide = [max(len(row[at]) for row in rows) for at in (2, 3, 4)]
    for name, kind, *numbers in rows:
        yield from _wrapped(f"{name} {kind}".rstrip(), width, 2)
        yield "  ".join(f"{number:>{most}}" for number, most in zip(numbers, wide, strict=True)).rjust(width)


def _cut(name: str, width: int) -> str:
    """The end of a path that is too long: there layers differ."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"
