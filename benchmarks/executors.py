"""Executors keep their workers busy, cost little a task, and the driver's memory is small.

    python benchmarks/executors.py                            # all three, about 8 minutes on 2 cores
    python benchmarks/executors.py --quick                    # to try it, 2 minutes; too short for the claims
    python benchmarks/executors.py efficiency [options]       # 200 tasks that sleep 0.1 to 1 s on 4 workers
    python benchmarks/executors.py overhead [options]         # a task beside bare ray.get
    python benchmarks/executors.py memory [options]           # 100,000 lines in the journal

Needs Ray and one machine, on which it starts a Ray of its own; the tasks sleep, so that fewer cores than workers do.
The exit code is 1 where a claim does not hold. Options of a part: its name and --help.
"""

import sys

import tyro


def efficiency(options: list[str]) -> int:
    from executors_efficiency import EfficiencyArgs, run_efficiency

    return run_efficiency(tyro.cli(EfficiencyArgs, args=options))


def overhead(options: list[str]) -> int:
    from executors_overhead import OverheadArgs, run_overhead

    return run_overhead(tyro.cli(OverheadArgs, args=options))


def memory(options: list[str]) -> int:
    from executors_memory import MemoryArgs, run_memory

    return run_memory(tyro.cli(MemoryArgs, args=options))


PARTS = {"efficiency": efficiency, "overhead": overhead, "memory": memory}
QUICK = {
    "efficiency": ["--generations=1", "--rounds=1"],
    "overhead": ["--tasks=50", "--rounds=2"],
    "memory": ["--lines=5000"],
}


def main() -> int:
    part, *options = sys.argv[1:] or ["all"]
    if part in ("all", "--quick") and not options:
        return max([run(QUICK[name] if part == "--quick" else []) for name, run in PARTS.items()])
    if part not in PARTS:
        print(__doc__)
        return 0 if part in ("-h", "--help") else 2
    return PARTS[part](options)


if __name__ == "__main__":
    raise SystemExit(main())
