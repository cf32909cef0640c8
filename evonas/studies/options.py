"""Options of a study: how large it is, where it stands, and where its runs are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro

from evonas.errors import ConfigurationError, SearchFailedError
from evonas.ranges import Range, check_ranges

if TYPE_CHECKING:
    from evonas.studies.recipes import StudyRecipe
    from evonas.studies.study import Studied, Study

__all__ = ["PRESETS", "StudyOptions", "make_study", "write_tables"]

MOST_SEEDS = 1000
Preset = Literal["quick", "small", "paper"]


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """A paper's whole grid of searches, with seeds."""

    preset: Preset = "quick"
    """quick: minutes on two cores, on digits. small: hours, on a part of the papers' images. paper: their settings."""
    seeds: Annotated[int | None, Range(least=1, most=MOST_SEEDS)] = None
    """Number of seeds, 0, 1, ...; 2 of quick, 3 of small, 5 of paper by default."""
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Folder of a study to measure further, its preset and seeds: of roco for capacity, of tam for guidelines."""
    recipe: str = ""
    """Recipe that all networks are trained to the end by after the searches: standard, pgd_at, trades, trades_awp, ...;
    by default each run's own. A folder given by --from has runs of the same recipe."""
    recipe_epsilon: Annotated[float | None, Range(above=0, most=1, pixels=True)] = None
    """Radius of that recipe's attack, in [0, 1]; by default the recipe's own, with TAM-NAS that of the supernet."""
    out: Path | None = None
    """Folder of the study; studies/NAME-PRESET by default, and studies/NAME-PRESET-RECIPE with --recipe."""
    slots: Annotated[int, Range(least=1, most=1000)] = 1
    """Runs made at once, each with its share of the processors; worth it where one run does not use all of them."""
    data_root: Path | None = None
    """Folder of the data sets; else the variable EVONAS_DATA, else ./data."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def studied(self, study: Study) -> Studied:
        """The study's folder as it is now."""
        from evonas.studies.recipes import StudyRecipe
        from evonas.studies.study import SEEDS, Studied

        recipe = StudyRecipe(self.recipe, self.recipe_epsilon)
        if recipe.name and study.fixed:
            raise ConfigurationError(f"expected no --recipe with the study {study.name}, {study.fixed}")
        source, preset, seeds = self._source(study, recipe)
        recipe.check(study.name, list(study.cells(preset, 1)))
        seeds = SEEDS[preset] if seeds is None else seeds
        studied = Studied(study, preset, seeds, Path(), source, recipe)
        return replace(studied, root=(self.out or Path("studies") / studied.name).expanduser())

    def _source(self, study: Study, recipe: StudyRecipe) -> tuple[Path | None, str, int | None]:
        """Folder of the runs where it is another study's, preset and seeds."""
        from evonas.studies import STUDIES
        from evonas.studies.study import shared

        if self.from_ is None:
            return None, self.preset, self.seeds
        if not study.shares:
            raise ConfigurationError(f"expected no --from with the study {study.name}, all of whose runs are its own")
        source = self.from_.expanduser().absolute()
        preset, seeds = shared(STUDIES[study.shares], source, recipe)
        if self.preset not in (StudyOptions.preset, preset):
            raise ConfigurationError(f"expected --preset {preset}, as the runs in {source} have, got {self.preset}")
        return source, preset, self.seeds or seeds

    @property
    def where(self) -> dict[str, Any]:
        """Options of every run that change no result."""
        where: dict[str, Any] = {"device": self.device}
        return where if self.data_root is None else {**where, "data_root": self.data_root}


PRESETS = {name: StudyOptions(preset=name) for name in get_args(Preset)}


def make_study(study: Study, options: StudyOptions) -> None:
    """Make all of its runs, or continue with that, and write its tables and figures.

    Raises:
        ConfigurationError: a missing library, before anything begins.
        SearchFailedError: a run failed; tables and figures are written of the others.
        StorageError: the folder cannot be read or written.
        Interrupted: a signal came; the same command continues.
    """
    from evonas.files import storage_errors
    from evonas.studies.slots import run_on_slots

    study.check()
    begun = options.studied(study)
    with storage_errors(f"make {begun.root}"):
        begun.root.mkdir(parents=True, exist_ok=True)
    run_on_slots(begun.runs, begun.cells, options.where, options.slots)
    write_tables(study, options)


def write_tables(study: Study, options: StudyOptions) -> None:
    """Write tables and figures from what is finished, and say so.

    Raises:
        SearchFailedError: a run failed.
        StorageError: the folder cannot be read or written.
    """
    from evonas.studies.page import write_study

    studied = options.studied(study)
    page = write_study(studied)
    print(f"study: {len(studied.finished)} of {len(studied.cells)} runs are finished; tables and figures: {page}")
    failed = [name for name, found in studied.states.items() if found.status == "failed"]
    if failed:
        raise SearchFailedError(
            f"{len(failed)} of {len(studied.cells)} runs failed: {', '.join(failed)}; the reasons stand in "
            f"{page}, and the same command tries them again"
        )
