"""Our attacks against the libraries': times, ratios and success side by side.

    python benchmarks/attacks.py gradient [options]     # PGD-10 against foolbox
    python benchmarks/attacks.py evolution [options]    # pixel and threshold attacks against ART
    python benchmarks/attacks.py                        # both, as they are

Needs the extra `bench`. Options of a part: its name and --help.
"""

import sys

import tyro


def gradient(options: list[str]) -> int:
    from attacks_gradient import GradientArgs, run_gradient

    return run_gradient(tyro.cli(GradientArgs, args=options))


def evolution(options: list[str]) -> int:
    from attacks_evolution import EvolutionArgs, run_evolution

    return run_evolution(tyro.cli(EvolutionArgs, args=options))


PARTS = {"gradient": gradient, "evolution": evolution}


def main() -> int:
    part, *options = sys.argv[1:] or ["all"]
    if part == "all" and not options:
        return max([run([]) for run in PARTS.values()])
    if part not in PARTS:
        print(__doc__)
        return 0 if part in ("-h", "--help") else 2
    return PARTS[part](options)


if __name__ == "__main__":
    raise SystemExit(main())
