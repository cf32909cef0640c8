"""The page of a finished study, its tables, pictures and rows, into docs/results/, with versions, days and machine.

    evonas study roco --preset small --seeds 3
    python benchmarks/results.py roco studies/roco-small
    python benchmarks/results.py capacity studies/capacity-small --from studies/roco-small

Nothing is measured here: tables and pictures are drawn anew from the runs, as `evonas study --tables` does. A study of
which a run is missing or has failed is refused. Run it on the machine that made the runs: the page names it.
"""

import argparse
import datetime
import shutil
from pathlib import Path

from measured import ROOT, processor

from evonas.errors import ConfigurationError, EvonasError
from evonas.files import exists, read_json, replace_file
from evonas.studies import STUDIES
from evonas.studies.page import write_study
from evonas.studies.recipes import OWN, StudyRecipe
from evonas.studies.study import Studied, shared

KEPT = ("*.csv", "*.png")
"""Files that a page of the docs needs beside itself."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=sorted(STUDIES))
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument("--from", dest="source", type=Path, help="folder of its runs, where they are another study's")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--recipe", default="", help="of the study, where it was given")
    parser.add_argument("--recipe-epsilon", type=float, help="the same")
    args = parser.parse_args()
    try:
        recipe = StudyRecipe(args.recipe, args.recipe_epsilon)
        studied = finished(args.study, args.folder, args.source, recipe)
        print(published(studied, args.docs / studied.name))
    except EvonasError as error:
        parser.error(str(error))


def finished(name: str, folder: Path, source: Path | None, recipe: StudyRecipe = OWN) -> Studied:
    """The study in a folder, all of its runs finished."""
    study = STUDIES[name]
    preset, seeds = shared(STUDIES[study.shares] if source else study, source or folder, recipe)
    studied = Studied(study, preset, seeds, folder.absolute(), source.absolute() if source else None, recipe)
    if left := [cell.folder for cell in studied.cells if studied.states[cell.folder].status != "finished"]:
        raise ConfigurationError(f"expected a study whose runs are finished, got {', '.join(left)} that are not")
    return studied


def published(studied: Studied, to: Path) -> Path:
    """Write the page and all that it shows into a folder; what an earlier one left there goes."""
    page = write_study(studied)
    if to.exists():
        shutil.rmtree(to)
    to.mkdir(parents=True)
    for pattern in KEPT:
        for file in studied.root.glob(pattern):
            shutil.copy(file, to)
    text = page.read_text().rstrip() + "\n" + made(studied)
    replace_file(to / page.name, lambda file: file.write(text.encode()))
    return to / page.name


def made(studied: Studied) -> str:
    """Command, versions, days and machine."""
    folders = [studied.runs / cell.folder / "config.json" for cell in studied.cells]
    configs = [read_json(path) for path in folders if exists(path)]
    versions = sorted({", ".join(f"{name} {of}" for name, of in each["versions"].items()) for each in configs})
    ended = [studied.states[cell.folder].ended for cell in studied.cells]
    first, last = (datetime.date.fromtimestamp(each) for each in (min(ended), max(ended)))
    days = f"{first}" if first == last else f"{first} to {last}"
    recipe = studied.recipe
    begun = f" --from studies/{studied.study.shares}-{studied.preset}{recipe.suffix}" if studied.source else ""
    begun += f" --recipe {recipe.name}" if recipe.name else ""
    begun += "" if recipe.epsilon is None else f" --recipe-epsilon {recipe.epsilon!r}"
    asked = f"evonas study {studied.study.name} --preset {studied.preset} --seeds {studied.seeds}{begun}"
    return f"""
## How it was made

`{asked}`, runs that ended on {days}, with {"; ".join(versions)}; on {processor()}. Written by
`benchmarks/results.py`.
"""


if __name__ == "__main__":
    main()
