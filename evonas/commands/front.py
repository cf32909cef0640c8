"""Put the rows of several runs on one front."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from evonas.commands.opened import Folders, joint_runs, print_table, say
from evonas.errors import ConfigurationError
from evonas.files import check_writable, exists, storage_errors
from evonas.plugins import load_plugins

if TYPE_CHECKING:
    from evonas.report import JointFront

__all__ = ["Front"]


@dataclass(frozen=True)
class Front:
    """Put the rows of several runs on one front, whatever their methods and spaces."""

    example: ClassVar[str] = (
        "evonas front runs/roco-digits-quick-seed0 runs/tam-digits-quick-seed0 --objectives clean_error,params"
    )

    runs: Folders
    """Folders of the runs."""
    objectives: Annotated[str | None, tyro.conf.arg(metavar="NAME,NAME,...")] = None
    """Columns that every run has, measured alike; by default what all of them were searched for, or clean_error,params
    where that differs."""
    out: Path | None = None
    """Folder for front.csv, population.csv and front.png; none of the runs."""
    by: Literal["method", "run"] = "method"
    """Owner of a colour in the picture; `run` keeps two runs of one method apart."""
    any_data: bool = False
    """Take runs on different data, too; errors then do not compare."""
    plugin: tuple[str, ...] = ()
    """Python files that runs were begun with."""

    def __call__(self) -> None:
        from evonas.report import joint_front, shared_objectives, write_joint
        from evonas.runs.folder import RunFolder

        load_plugins(self.plugin)
        out = None if self.out is None else self.out.resolve()
        paths = [path for path in self.runs if path.resolve() != out]  # `runs/*` may hold an earlier joint front
        if out is not None:
            with storage_errors(f"read {out}"):
                if exists(RunFolder(out).config) or exists(RunFolder(out).journal):
                    raise ConfigurationError(f"expected a folder of its own for --out, {self.out} holds a run")
            check_writable(out / "front.csv")
        runs, damages = joint_runs(paths)
        for damage in damages:
            say(damage)
        if self.objectives is not None:
            objectives = tuple(name for name in self.objectives.split(",") if name)
        else:
            objectives = shared_objectives(runs) if runs else ()
        joint = joint_front(runs, objectives, self.any_data)
        _print_joint(joint, self.by)
        if self.out is not None:
            write_joint(self.out, joint, self.by)
            say(f"front: {self.out / 'front.csv'}, picture: {self.out / 'front.png'}")


def _print_joint(joint: JointFront, by: Literal["method", "run"]) -> None:
    from evonas.report import TextTable, chance_notes, marked

    names = list(dict.fromkeys((*joint.objectives, "params", "macs")))
    lines = tuple(
        (str(row["run"]), str(row["method"]), str(row["arch_id"]), *marked(row, names, joint.chance))
        for row in joint.front.to_dict("records")
    )
    print_table(
        TextTable(
            f"{len(joint.front)} of {len(joint.table)} networks on the joint front, {joint.data}",
            ("run", "method", "arch_id", *(name.replace("_", " ") for name in names)),
            lines,
            (
                *chance_notes(lines, joint.chance),
                *(f"{name}: {first} of {count} on the front" for name, (first, count) in joint.counted(by).items()),
                *(f"{name}: {words}" for name, words in joint.about.items()),
            ),
        ),
        kept=3,
    )
