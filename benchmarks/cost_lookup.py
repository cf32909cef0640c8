"""Parameters and MACs of a genome by lookup, against building the network and counting it.

Claim: for every search space at least 100 times as fast as building alone, with equal counts.

    python benchmarks/cost_lookup.py
    python benchmarks/cost_lookup.py --genomes 200
"""

import argparse
import statistics
import time
from typing import Any

from evonas.costs import count_macs, count_params
from evonas.seeding import generator
from evonas.spaces import SPACES


def measure(space: Any, n: int, rounds: int, seed: int) -> dict[str, float]:
    """Median milliseconds a genome of looking up, of building, and of building and counting n genomes, in turns.

    Every round has new genomes, so that nothing is answered from what was looked up before.
    """
    times: dict[str, list[float]] = {"lookup": [], "building": [], "building and counting": []}
    rng = generator(seed, space.name)
    for _ in range(rounds):
        genomes = space.sample(n, rng)
        started = time.perf_counter()
        costs = [space.cost(genome) for genome in genomes]
        looked_up = time.perf_counter()
        networks = [space.build(genome) for genome in genomes]
        built = time.perf_counter()
        counts = [(count_params(network), count_macs(network)) for network in networks]
        counted = time.perf_counter()
        assert counts == costs
        times["lookup"].append(looked_up - started)
        times["building"].append(built - looked_up)
        times["building and counting"].append(counted - looked_up)
    return {kind: 1000 * statistics.median(values) / n for kind, values in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genomes", type=int, default=50, help="new random genomes of a round")
    parser.add_argument("--rounds", type=int, default=5, help="each looks all genomes up, then builds them")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    slow = False
    print(f"milliseconds a genome, median of {args.rounds} rounds of {args.genomes}; counts are compared for each")
    for name, make in sorted(SPACES.items()):
        medians = measure(make(), args.genomes, args.rounds, args.seed)
        for kind, value in medians.items():
            print(f"  {name:8} {kind:22} {value:10.4f}   {value / medians['lookup']:8.0f} x the lookup")
        slow |= medians["building"] < 100 * medians["lookup"]
    print("fails: building is less than 100 times as slow" if slow else "holds: at least 100 times as fast as building")
    return int(slow)


if __name__ == "__main__":
    raise SystemExit(main())
