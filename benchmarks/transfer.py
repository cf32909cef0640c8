"""Does the error on a precomputed set say anything about the error under a white-box attack? Spearman's correlation.

    python experiments/roco_cifar10.py --data cifar10 --adversarial-set SET --out RUN \\
        --objectives clean_error,macs,adversarial_set_error,pgd_error --attack-epsilon 0.00784 --attack-images 500
    python benchmarks/transfer.py RUN

Prints the correlation over all evaluated networks of a run that measured both, a bootstrap interval, and what remains
of it once the clean error is taken out (partial rank correlation): networks that err more on clean images err more on
any images.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import tyro
from scipy.stats import rankdata, spearmanr

from evonas.errors import ConfigurationError
from evonas.runs import RunFolder, guarded

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Args:
    """Correlation of two measured columns of a run."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    first: str = "adversarial_set_error"
    second: str = "pgd_error"
    given: str = "clean_error"
    """Taken out in the partial correlation."""
    resamples: int = 10_000
    seed: int = 0


def partial(first: Values, second: Values, given: Values) -> float:
    """Rank correlation of what a straight line in the ranks of `given` does not explain."""
    ranks = np.stack([rankdata(each) for each in (first, second, given)])
    (xy, xz), yz = np.corrcoef(ranks)[0, 1:], np.corrcoef(ranks)[1, 2]
    return float((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))


def main(args: Args) -> None:
    entries = [entry.result.objectives for entry in RunFolder(args.run).entries() if entry.result.ok]
    names = (args.first, args.second, args.given)
    missing = [name for name in names if any(name not in each for each in entries)]
    if missing or len(entries) < 3:
        raise ConfigurationError(
            f"expected a run with 3 evaluated networks or more that measured {', '.join(names)}, "
            f"{args.run} has {len(entries)}, without {', '.join(missing) or 'nothing'}"
        )
    first, second, given = (np.array([each[name] for each in entries]) for name in names)
    rng = np.random.default_rng(args.seed)
    drawn = (rng.integers(len(first), size=len(first)) for _ in range(args.resamples))
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = [np.corrcoef(rankdata(first[rows]), rankdata(second[rows]))[0, 1] for rows in drawn]
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    found = spearmanr(first, second)
    print(f"{len(first)} networks of {args.run}")
    for name, values in zip(names, (first, second, given), strict=True):
        print(f"  {name}: {values.min():.3f} to {values.max():.3f}, median {np.median(values):.3f}")
    interval = f"95% bootstrap interval {low:.3f} to {high:.3f}"
    print(f"Spearman({args.first}, {args.second}) = {found.statistic:.3f}, {interval}")
    print(f"Spearman({args.given}, {args.second}) = {spearmanr(given, second).statistic:.3f}")
    print(f"with {args.given} taken out: {partial(first, second, given):.3f}")


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(tyro.cli(Args))))
