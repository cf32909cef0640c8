"""Benchmarks of speed one after another; their tables go to docs/measured/cpu.md, with machine, versions and date.

    make measured                                            # all of them: some hours on two cores; leave it alone
    python benchmarks/measured.py startup busy               # these; the other sections of the page stay as they are
    python benchmarks/measured.py --table TABLE.json search_overhead

Every section says what its command printed, when, on which machine and how busy that was: a page may hold sections of
several machines.
What a benchmark that ends with 1 says is kept as well: it is a claim that does not hold on that machine.
The exit code is 1 where one could not be run at all.
"""

import argparse
import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import torch

from evonas.files import replace_file

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "measured" / "cpu.md"
HEAD = """# Measured on CPUs

Written by `make measured` (`benchmarks/measured.py`): what each benchmark printed,
on the machine that its section names.
"""

BENCHMARKS = {
    "startup": "startup.py",
    "stages": "stages.py",
    "busy": "busy.py",
    "passes": "passes.py",
    "cost_lookup": "cost_lookup.py",
    "training": "training.py --data {data} --rounds 3 --error-images 4000",
    "attacks_gradient": "attacks.py gradient --data {data}",
    "attacks_evolution": "attacks.py evolution --data {data} --threads 1 --sure-images 1 --real-images 4 "
    "--precision-images 20 --generations 30 --train-images 4000",
    "certify_bounds": "certify.py bounds --threads 1 --channels 1 13",
    "certify_step": "certify.py step --threads 1 --rounds 3",
    "darts_step": "darts_step.py --threads 1 --steps 1 --compared 0",
    "tam_step": "tam.py step",
    "tam_candidate": "tam.py candidate",
    "search_overhead": "search_overhead.py {table}",
    "executors": "executors.py",
}
"""Name of a section -> the command below benchmarks/; {data} and {table} are filled in."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--data", default="cifar10", help="real images, below EVONAS_DATA")
    parser.add_argument("--table", help="table of trained networks for search_overhead, which is left out without it")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"expected names of {', '.join(BENCHMARKS)}, got {', '.join(unknown)}")
    names = args.names or [name for name in BENCHMARKS if args.table or "{table}" not in BENCHMARKS[name]]
    broken = 0
    for name in names:
        if "{table}" in BENCHMARKS[name] and not args.table:
            parser.error(f"expected --table TABLE.json with {name}, got none")
        command = BENCHMARKS[name].format(data=args.data, table=args.table)
        print(f"== {name}: python benchmarks/{command}", flush=True)
        code, text = measure(name, command, args.page)
        print(text, flush=True)
        broken += code not in (0, 1)
    print(f"{args.page}: {len(names)} sections written, {broken} of commands that could not be run")
    return 1 if broken else 0


def measure(name: str, command: str, page: Path) -> tuple[int, str]:
    """Run one benchmark and write its section; returns its exit code and what it printed."""
    script, *options = shlex.split(command)
    began, load = time.monotonic(), os.getloadavg()[0]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
    ended = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    seconds = time.monotonic() - began
    shown = " ".join([script, *(Path(each).name if "/" in each else each for each in options)])
    verdict = {0: "", 1: " It ended with 1: a claim does not hold here."}.get(
        ended.returncode, f" It could not be run: exit code {ended.returncode}."
    )
    text = "\n".join(line.rstrip() for line in ended.stdout.strip().splitlines())
    section = f"""## {name}

`python benchmarks/{shown}`, {datetime.date.today()}, {seconds:.0f} s, on {machine()}, load average {load:.1f}.{verdict}

```text
{text}
```
"""
    write(page, name, section)
    return ended.returncode, text


def machine() -> str:
    """Processor, cores, vector instructions and versions, in a line."""
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("torch", "numpy", "pymoo", "evonas"))
    return f"{processor()}, Python {platform.python_version()}, {versions}"


def processor() -> str:
    """Processor, cores and vector instructions, in a line."""
    facts = dict[str, str]()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    flags = facts.get("flags", "").split()
    fast = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    model = facts.get("model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    capability = torch.backends.cpu.get_cpu_capability()
    about = f"{', '.join(fast)}; torch uses {capability}"
    return f"{model}, {cores} cores ({about})"


def write(page: Path, name: str, section: str) -> None:
    """Replace the section of this name, or add it; sections stand in the order of BENCHMARKS."""
    text = page.read_text() if page.exists() else HEAD
    head, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    kept = {each.splitlines()[0].removeprefix("## "): each.strip() + "\n" for each in sections}
    kept[name] = section
    ordered = sorted(kept, key=lambda each: [*BENCHMARKS, each].index(each))
    page.parent.mkdir(parents=True, exist_ok=True)
    content = "\n".join([head.strip() + "\n", *(kept[each] for each in ordered)])
    replace_file(page, lambda file: file.write(content.encode()))


if __name__ == "__main__":
    sys.exit(main())
