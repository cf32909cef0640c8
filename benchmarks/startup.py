"""Start-up in processor time: help, version, errors of usage, looking at a run, a search up to its first evaluation.

Claim: --help, --version, completion and errors of usage within 0.5 s, show and front within 1.5 s, the first line of a
search within 1 s and its first evaluation within 4 s.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 9
"""

import argparse
import contextlib
import io
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from evonas.cli import main as evonas

SEARCH = (
    *("roco", "--data=digits", "--device=cpu", "--threads=1", "--executor=local", "--phases=2", "--nodes=3"),
    *("--channels=2", "--designs=", "--train-limit=60", "--val-limit=50", "--epochs=1", "--batch-size=10"),
    *("--precision=fp32", "--population=3", "--generations=0", "--objectives=clean_error,macs"),
)
MEASURED = """
import os, sys, time
import evonas.runs.command_line as command_line
said = command_line.LastingOutput.write
def write(self, text):
    print(f"first line {time.process_time()}", file=sys.stderr)
    command_line.LastingOutput.write = said
    import evonas.evaluation.evaluator as evaluator
    make = evaluator.Evaluator.make_evaluate
    def make_evaluate(self, report):
        make(self, report)
        def evaluate(genome, seed):
            print(f"first evaluation {time.process_time()}", file=sys.stderr, flush=True)
            os._exit(0)
        return evaluate
    evaluator.Evaluator.make_evaluate = make_evaluate
command_line.LastingOutput.write = write
from evonas.cli import main
main(sys.argv[1:])
"""
"""A search that says when it has come to its first line and its first evaluation, and ends there."""


def seconds(words: list[str]) -> tuple[float, str]:
    """Processor seconds of a process and of those that it waited for; what it wrote on standard error."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # compiled modules are kept, as Python usually does
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="the least time of these counts")
    rounds = range(parser.parse_args().rounds)
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        with contextlib.redirect_stdout(io.StringIO()):
            evonas([*SEARCH, "--out", run])
        for limit, words in (
            (0.5, "--help"),
            (0.5, "--version"),
            (0.5, "--print-completion bash"),
            (0.5, "roco --help"),
            (0.5, "dsrna --help-all"),
            (0.5, "rocco"),
            (0.5, "roco --popluation 3"),
            (0.5, "tam --epochs many"),
            (1.5, f"show {run}"),
            (1.5, f"front {run}"),
        ):
            command = [sys.executable, "-m", "evonas.cli", *words.split()]
            least = min(seconds(command)[0] for _ in rounds)
            found[f"evonas {words.replace(run, 'RUN')}"] = least, limit
        marks: dict[str, list[float]] = {"first line": [], "first evaluation": []}
        for number in rounds:
            command = [sys.executable, "-c", MEASURED, *SEARCH, "--out", f"{run}{number}"]
            told = seconds(command)[1]
            for name, times in marks.items():
                times += [float(each) for each in re.findall(rf"{name} ([\d.]+)", told)]
        found |= {f"a search: {name}": (min(marks[name]), limit) for name, limit in zip(marks, (1.0, 4.0), strict=True)}
    print(f"processor seconds, the least of {len(rounds)}")
    for what, (least, limit) in found.items():
        print(f"  {what:32} {least:6.2f}   at most {limit}{'' if least <= limit else '   TOO SLOW'}")
    slow = any(least > limit for least, limit in found.values())
    print("fails: see above" if slow else "holds")
    return int(slow)


if __name__ == "__main__":
    raise SystemExit(main())
