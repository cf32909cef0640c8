"""`evonas`: begin searches, build adversarial sets, look at runs, compare and check them, and check the machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import tyro

from evonas._version import __version__
from evonas.doctor import Examination, run_doctor
from evonas.errors import ConfigurationError, nearest
from evonas.files import exists, storage_errors
from evonas.methods import METHODS, method_module
from evonas.runs.command_line import command, flags_of, guarded, one_line, refuse_unknown
from evonas.runs.needs import flag, options_of
from evonas.runs.plugins import load_plugins

if TYPE_CHECKING:
    from evonas.report import JointFront, JointRun, TextTable
    from evonas.runs.result import Result

__all__ = ["COMMANDS", "AdversarialSetCard", "Doctor", "Export", "Front", "Show", "Verify", "main"]

Folder = Annotated[Path, tyro.conf.Positional]
Folders = Annotated[tuple[Path, ...], tyro.conf.Positional]
File = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class Show:
    """Print the front of a run."""

    run: Folder
    """Folder of the run."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __call__(self) -> None:
        from evonas.report import front, front_text, population_table

        opened = _opened(self.run, self.plugin)
        table = front(population_table(opened.entries, opened.searched))
        _print_table(front_text(table, opened.searched, len(table), ("generation",)), kept=1)


@dataclass(frozen=True)
class Front:
    """Put the rows of several runs on one front, whatever their methods and spaces."""

    runs: Folders
    """Folders of the runs."""
    objectives: Annotated[str, tyro.conf.arg(metavar="NAME,NAME,...")] = "clean_error,params"
    """Columns that every run has, measured alike."""
    out: Path | None = None
    """Folder for front.csv, population.csv and front.png; none of the runs."""
    any_data: bool = False
    """Take runs on different data, too; errors then do not compare."""
    plugin: tuple[str, ...] = ()
    """Python files that runs were begun with."""

    def __call__(self) -> None:
        from evonas.report import joint_front, write_joint
        from evonas.runs.folder import RunFolder

        load_plugins(self.plugin)
        out = None if self.out is None else self.out.resolve()
        paths = [path for path in self.runs if path.resolve() != out]  # `runs/*` may hold an earlier joint front
        if out is not None:
            with storage_errors(f"read {out}"):
                if exists(RunFolder(out).config) or exists(RunFolder(out).journal):
                    raise ConfigurationError(f"expected a folder of its own for --out, {self.out} holds a run")
        if len({path.resolve() for path in paths}) < len(paths):
            raise ConfigurationError(f"expected every run once, got {', '.join(map(str, paths))}")
        alike = len({path.name for path in paths}) < len(paths)
        runs = [_joint_run(path, str(path) if alike else path.resolve().name) for path in paths]
        objectives = [name for name in self.objectives.split(",") if name]
        joint = joint_front(runs, objectives, self.any_data)
        _print_joint(joint)
        if self.out is not None:
            write_joint(self.out, joint)
            print(f"front: {self.out / 'front.csv'}, picture: {self.out / 'front.png'}")


@dataclass(frozen=True)
class Export:
    """Write front.csv, population.csv, history.csv and the pictures of a run anew from its journal."""

    run: Folder
    """Folder of the run."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __call__(self) -> None:
        opened = _opened(self.run, self.plugin)
        folder, searched = opened.folder, opened.searched
        with folder.locked():
            entries = folder.entries()
            folder.export(entries, searched)
        print(f"{len(entries)} evaluations exported to {self.run}")


@dataclass(frozen=True)
class Verify:
    """Check a run: rebuild every network and count it, and evaluate the named ones again from their seed."""

    run: Folder
    """Folder of the run."""
    retrain: tuple[str, ...] = ()
    """arch_ids to evaluate again; `best` is the first row of front.csv. On the CPU they give equal values."""
    data: str = ""
    """npz:PATH, where the file of the run's images is now; its content is compared."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __call__(self) -> None:
        result = _opened(self.run, self.plugin, self.data)
        wrong = _recount(result) + sum(_evaluate_again(result, name) for name in self.retrain)
        if wrong:
            raise ConfigurationError(f"{wrong} recorded values were not found again; see the lines above")


@dataclass(frozen=True)
class AdversarialSetCard:
    """Check an adversarial set, print its card, and draw some of its images."""

    file: File
    """File of the set."""
    picture: Path | None = None
    """PNG file for a page of its images."""

    def __call__(self) -> None:
        import numpy as np

        from evonas.adversarial_sets import ATTACK_NAMES, card_markdown, load_adversarial_set
        from evonas.report import plot_images

        found = load_adversarial_set(self.file)
        print(card_markdown(found.card, found.fingerprint))
        if self.picture is not None:
            rows = found.records[np.linspace(0, len(found.records) - 1, min(40, len(found.records))).astype(int)]
            captions = [
                f"{found.card.targets[target].name}\n{ATTACK_NAMES[attack]} th {threshold}, class {found.labels[image]}"
                for image, target, attack, threshold, _ in rows
            ]
            title = f"{found.card.name}: {len(rows)} of {len(found.records)} records"
            plot_images(self.picture, found.images[rows[:, 0]], captions, title)
            print(f"picture: {self.picture}")


@dataclass(frozen=True, kw_only=True)
class Doctor(Examination):
    """Look at this machine, or at a Ray cluster, and run one tiny evaluation on every executor."""

    def __call__(self) -> None:
        run_doctor(self)


COMMANDS: dict[str, type[Any]] = {
    "doctor": Doctor,
    "export": Export,
    "front": Front,
    "set": AdversarialSetCard,
    "show": Show,
    "verify": Verify,
}
"""Name -> command on what is there; methods are in `evonas.methods.METHODS`."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line `evonas`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        return guarded(lambda: print(f"evonas {__version__}"))
    if words[:1] == ["--print-completion"]:
        return guarded(lambda: print(_completion(words[1:]), end=""))
    if words and words[0] in METHODS:
        method = method_module(words[0])
        return command(method.run, method.PRESETS, words[1:], f"evonas {words[0]}")
    return guarded(lambda: _parse(words)())


def _completion(words: list[str]) -> str:
    """Script that completes the command line in a shell, from the tables of commands and options."""
    from evonas.completion import SHELLS, completion

    if len(words) != 1 or words[0] not in SHELLS:
        raise ConfigurationError(f"expected one of {', '.join(SHELLS)} after --print-completion, got {words}")
    flags = {
        name: [
            *(flag(each.name) for each in options_of(kind) if tyro.conf.Positional not in get_args(each.hint)),
            "help",
        ]
        for name, kind in COMMANDS.items()
    }
    for name in METHODS:
        flags[name] = [*flags_of(next(iter(method_module(name).PRESETS.values()))), "help", "help-all"]
    return completion(words[0], {name: sorted(f"--{each}" for each in given) for name, given in flags.items()})


def _parse(words: list[str]) -> Callable[[], None]:
    names = [*COMMANDS, *METHODS]
    if words and not words[0].startswith("-") and words[0] not in names:
        hint = nearest(words[0], names).strip() or f"known: {', '.join(sorted(names))}"
        raise ConfigurationError(f"unknown command {words[0]!r}; {hint}")
    if words and words[0] in COMMANDS:
        refuse_unknown(words[1:], ["help", *(flag(each.name) for each in fields(COMMANDS[words[0]]))], all_by="--help")
    with one_line():
        chosen: Callable[[], None] = tyro.extras.subcommand_cli_from_dict(
            {**COMMANDS},
            prog="evonas",
            description="Look at a run, several, a set or the machine and check it; to start one: evonas "
            f"{', '.join(f'{name} --help' for name in METHODS)}. "
            "Also: evonas --version; evonas --print-completion bash, or zsh.",
            args=words,
        )
    return chosen


def _opened(path: Path, plugin: tuple[str, ...], data: str = "") -> Result:
    """A stored run; says where lines of its journal are lost."""
    from evonas.methods.stored import open_run

    result = open_run(path, plugin, data)
    if result.folder.damage:
        print(result.folder.damage)
    return result


def _joint_run(path: Path, name: str) -> JointRun:
    from evonas.report import JointRun
    from evonas.runs.folder import RunFolder, stored_searched

    folder = RunFolder(path)
    if folder.damage:
        print(folder.damage)
    config = folder.open_stored()
    identity = config["identity"]
    return JointRun(
        name,
        stored_searched(config),
        str(identity["space"]["name"]),
        identity["data"],
        config.get("measured", {}),
        folder.entries(),
    )


def _print_joint(joint: JointFront) -> None:
    from evonas.report import TextTable, chance_notes, marked

    names = list(dict.fromkeys((*joint.objectives, "params", "macs")))
    lines = tuple(
        (str(row["run"]), str(row["method"]), str(row["arch_id"]), *marked(row, names, joint.chance))
        for row in joint.front.to_dict("records")
    )
    _print_table(
        TextTable(
            f"{len(joint.front)} of {len(joint.table)} networks on the joint front, {joint.data}",
            ("run", "method", "arch_id", *(name.replace("_", " ") for name in names)),
            lines,
            (
                *chance_notes(lines, joint.chance),
                *(f"{method}: {first} of {count} on the front" for method, (first, count) in joint.methods.items()),
                *(f"{name}: {words}" for name, words in joint.about.items()),
            ),
        ),
        kept=3,
    )


def _print_table(table: TextTable, kept: int) -> None:
    """The table in parts that the terminal is wide enough for, each with the first `kept` columns."""
    from rich.console import Console

    from evonas.report import folded
    from evonas.runs.screen import Screen

    screen = Screen(Console())
    screen.tables(folded(table, screen.console.width, kept))


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
                print(f"{entry.key}: recorded {recorded}; counted {params}, {macs}")
    verdict = f"{wrong} counts differ" if wrong else "all counts are equal"
    print(f"{len(counted)} networks counted anew, {len(result.entries) - len(counted)} failed ones left out: {verdict}")
    return wrong


def _evaluate_again(result: Result, name: str) -> int:
    """Prints a network's values, recorded and found again, and counts those that differ."""
    key, wrong = result.entry(name).key, 0
    for column, (recorded, now) in result.evaluate_again(key).items():
        wrong += recorded != now
        print(f"{key} {column}: recorded {recorded!r}, now {now!r}, {'equal' if recorded == now else 'DIFFERENT'}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
