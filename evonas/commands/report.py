"""Write a page that shows runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from evonas.commands.opened import Folders, joint_runs, say
from evonas.errors import ConfigurationError
from evonas.files import check_writable, holder
from evonas.plugins import load_plugins

if TYPE_CHECKING:
    from evonas.report.page_data import ReportedRun

__all__ = ["Report"]

LOOK = 1.0
"""Seconds between two looks at a run that is watched."""
RELOAD = 10
"""Seconds after which a page of a search that goes on loads itself again."""


@dataclass(frozen=True)
class Report:
    """Write one page that shows runs: fronts, limits to choose within, networks, audits; it opens without a network.

    Several runs, of whatever methods, come together on one page.
    """

    example: ClassVar[str] = "evonas report runs/roco-digits-quick-seed0 runs/tam-digits-quick-seed0 --out report.html"

    runs: Folders
    """Folders of the runs."""
    out: Path | None = None
    """File of the page; by default report.html in the folder of the first run."""
    charts: Path | None = None
    """Folder for the same charts as SVG and PNG."""
    watch: bool = False
    """While a search goes on, write the page anew after every generation; it loads itself again."""
    plugin: tuple[str, ...] = ()
    """Python files that runs were begun with."""

    def __call__(self) -> None:
        from evonas.report.html import require_charts

        require_charts()
        if not self.runs:
            raise ConfigurationError("expected at least one run folder, got none")
        load_plugins(self.plugin)
        check_writable(self.target)
        if self.charts is not None:
            check_writable(self.charts / "front.png")
        ending = contextlib.suppress(KeyboardInterrupt) if self.watch else contextlib.nullcontext()
        with ending:  # that is how a watch is ended
            self._follow()

    def _follow(self) -> None:
        """Write the page, and while it is watched, write it anew after every generation."""
        seen: list[int] = []
        while True:
            going = self.watch and any(map(_is_written, self.runs))  # before reading: the last page has everything
            runs = reported_runs(self.runs, quiet=going)  # the last line of a journal may be half there
            generations = [_generation(run) for run in runs]
            if generations != seen or not going:
                self._write(runs, going)
                seen = generations
            if not going:
                return
            time.sleep(LOOK)

    @property
    def target(self) -> Path:
        return self.out or self.runs[0] / "report.html"

    def _write(self, runs: Sequence[ReportedRun], going: bool) -> None:
        from evonas.report.html import write_report

        target = self.target
        made = time.strftime("Made on %Y-%m-%d at %H:%M.")
        write_report(target, runs, f"{made} The search goes on." if going else made, RELOAD if going else 0)
        evaluated = sum(len(run.joint.entries) for run in runs)
        say(f"report: {target}, {evaluated} evaluations, {target.stat().st_size / 1e6:.1f} MB")
        if self.charts is not None:
            from evonas.report.chart_files import write_charts

            write_charts(self.charts, runs)
            say(f"charts: {self.charts}")


def reported_runs(paths: Sequence[Path], quiet: bool = False) -> list[ReportedRun]:
    """Runs as their folders have them, with audits; says where lines of a journal are lost, unless quiet."""
    from evonas.report import read_audit
    from evonas.report.page_data import ReportedRun
    from evonas.runs.folder import RunFolder, stored_space

    runs, damages = joint_runs(paths)
    for damage in () if quiet else damages:
        say(damage)
    found = []
    for path, joint in zip(paths, runs, strict=True):
        config = RunFolder(path).open_stored()
        space = stored_space(config["identity"]["space"])
        found.append(ReportedRun(joint, str(path), space, config, read_audit(path)))
    return found


def _generation(run: ReportedRun) -> int:
    """The last generation of a run; -1 before the first evaluation."""
    return max((entry.generation for entry in run.joint.entries), default=-1)


def _is_written(path: Path) -> bool:
    """Whether a process of this machine writes the run."""
    from evonas.runs.folder import LOCK

    return bool(holder(path / LOCK))
