"""Make the fixtures: run folders, finished and half finished, as the importable evonas writes them.

    PYTHONPATH=CHECKOUT python tests/golden/make.py            # all kinds
    PYTHONPATH=CHECKOUT python tests/golden/make.py darts tam  # these anew, which need the others' folders

The fixtures in the repository were made by evonas 0.1.0 at commit 115caa3, before runs, audit and methods were rebuilt,
with torch 2.15.0. They stand for what users have on disk, so they are made again only for a new kind of run, and then
by the version that first wrote it.

Everything is written by command lines that run undisturbed; half-finished states are copies of the folder while the
process is stopped by SIGSTOP, once a file has so many lines, which is what SIGKILL would have left then. Pictures have
a single pixel, checkpoints are compressed, what a half-finished folder has in common with the finished one is named in
cases.json instead of stored twice, and absolute paths become @FIXTURES@.

identities.json was made at the same commit, on digits with --device cpu --threads 1 and every precision fp32, from the
settings of each preset. Its keys are METHOD/PRESET, and under each:

- `identity`: what the journal's first line and config.json hold. roco and baseline: `prepare_roco(...).plan.identity`
  with the set of the fixtures. tam: `plan_tam` with a supernet of no weights, without `supernet.fingerprint`. Gradient
  methods: `plan_gradient` with one genome of zeros, without `search.first`. imagenet: `ImagenetPlan.identity`, with the
  images of the fixtures.
- `trainings`: identity and digest, which records on disk are keyed by, of the trainings after the search, and of the
  digest of the scores that go with each. roco: `Retraining` and `Scoring`. Cells: `CellRetraining` of the searched
  space and `CellScoring` with noise as out-of-distribution images, for DSRNA `RobustnessScoring`, too. tam:
  `Finalising` from scratch and fine-tuned, with the fingerprint of a supernet of no weights, and of each hand-made
  network, under `PGDGrid`.
"""

import argparse
import json
import lzma
import platform
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
from golden_runner import FIXTURES, Answer, Runner, restore, started
from PIL import Image

HERE = "--device cpu --threads 1 --precision fp32"
DATA = "--data digits --train-limit 80 --val-limit 40"


@dataclass(frozen=True, kw_only=True)
class State:
    """What a process leaves of a run that is killed once a file in the run's folder has so many lines."""

    file: str
    """A name, or a pattern."""
    lines: int
    """0: once it exists."""
    stage: str
    """Of the run's command lines, the one that was killed and goes on."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A run: its command lines, and its half-finished states in the order in which they are reached."""

    stages: dict[str, str]
    """Name -> command line; the last one finishes the run. Later ones add to what earlier ones do."""
    states: dict[str, State]
    needs: tuple[str, ...] = ()
    """Other kinds whose finished folders it reads."""
    searched: bool = True
    """Whether it has a journal, so that `evonas show` and others read it."""
    adds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Stage -> folders that only it writes."""


ROCO = (
    f"roco {DATA} {HERE} --channels 4 --nodes 3 --epochs 4 --batch-size 8 --lr 0.05 --population 4 --generations 1 "
    "--designs pair"
)
BASELINE = f"{ROCO} --objectives clean_error,macs --seed 1 --split-seed 0 --out @FIXTURES@/baseline"
RETRAIN = (
    "--retrain --retrain-networks fb379bcea2123cc1,56d00f18701e31b6,5bec16592497db7e --top 2 --retrain-channels 4 "
    "--retrain-epochs 1 --retrain-batch-size 8 --test-limit 40 "
    "--suite pgd,fgsm,bim --adversarial-set @FIXTURES@/set/tiny.safetensors"
)
TAM = (
    f"tam {DATA} --device cpu --threads 1 --supernet-precision fp32 --finalise-precision fp32 --width 0.05 --depth 0.1 "
    "--supernet-steps 1 --block-epochs 1 --joint-epochs 1 --resample-epochs 1 --sampling epochs "
    "--first-ratio-epochs 1 --supernet-batch-size 40 --block-milestones '' --joint-milestones '' "
    "--recalibration-batches 1 --recalibration-batch-size 40 --population 4 --generations 1 --tournament 3 "
    "--attack-steps 2 --out @FIXTURES@/tam"
)
FINALISE = (
    "--finalise both --finalise-top 1 --finalise-epochs 1 --finalise-batch-size 40 --finalise-milestones '' "
    "--finalise-m 1 --finalise-n 1 --test-epsilons 8 --test-steps 2 --test-limit 20"
)
CELLS = (
    f"{DATA} {HERE} --search-precision fp32 --search-layers 3 --search-batch-size 20 "
    "--search-epochs 2 --portion 0.25 --nodes 2 --alpha-lr 0.05 --eval-channels 4 --eval-layers 3 --epochs 2 "
    "--batch-size 8 --lr 0.05 "
    "--objectives clean_error,pgd_error,params --attack-steps 1"
)
NARROW, WIDE = (f"{CELLS} --search-channels {channels}" for channels in (2, 4))  # PC-DARTS searches in a quarter
AGAIN = (
    "--retrain --retrain-channels 4 --retrain-layers 3 --retrain-epochs 2 --retrain-batch-size 20 "
    "--retrain-precision fp32 --auxiliary 0 --cutout 8 --test-limit 20 --test-steps 2"
)
JACOBIAN = f"dsrna --metric jacobian --base darts {NARROW} --metric-images 2 --baselines darts-adv"
ROBUST = "--robust-attacks fgsm,pgd10 --radius-images 2"


def cells(command: str, last: str = "search.csv", lines: int = 2) -> Kind:
    """A search of one pair of cells, killed in the search."""
    return Kind(
        stages={"search": command},
        states={"search": State(file=last, lines=lines, stage="search")},
    )


KINDS = {
    "set": Kind(
        stages={
            "build": f"build-set --data digits --train-limit 80 {HERE} --targets LeNet,ResNet --widths 0.5,0.25 "
            "--depths 0,8 --target-epochs 8,5 --target-batch-size 8 --target-lr 0.05 --thresholds 40 "
            "--attacked-images 60 --attack-population 10 --attack-generations 3 --out @FIXTURES@/set/tiny.safetensors"
        },
        states={"build": State(file="tiny.parts/ledger.jsonl", lines=4, stage="build")},  # after all of LeNet
        searched=False,
    ),
    "baseline": Kind(
        stages={
            "search": BASELINE,
            "retrain": f"{BASELINE} {RETRAIN} --against @FIXTURES@/roco",
        },
        states={
            "search": State(file="journal.jsonl", lines=7, stage="search"),
            "retrain": State(file="retrained/rows.jsonl", lines=2, stage="retrain"),
        },
        needs=("set", "roco"),
        adds={"retrain": ("retrained",)},
    ),
    "roco": Kind(
        stages={
            "search": f"{ROCO} --adversarial-set @FIXTURES@/set/tiny.safetensors --out @FIXTURES@/roco",
            "retrain": f"{ROCO} {RETRAIN} --against @FIXTURES@/baseline --out @FIXTURES@/roco",
        },
        states={
            "search": State(file="journal.jsonl", lines=7, stage="search"),
            "retrain": State(file="retrained/rows.jsonl", lines=2, stage="retrain"),
        },
        needs=("set", "baseline"),
        adds={"retrain": ("retrained",)},
    ),
    "tam": Kind(
        stages={"search": f"{TAM} --finalise ''", "finalise": f"{TAM} {FINALISE}"},
        states={
            "supernet": State(file="supernet.csv", lines=2, stage="search"),
            "search": State(file="journal.jsonl", lines=6, stage="search"),
            "finalise": State(file="finalised/rows.jsonl", lines=2, stage="finalise"),
        },
        adds={"finalise": ("finalised",)},
    ),
    "darts": Kind(
        stages={
            "search": f"darts {NARROW} --repeats 2 --out @FIXTURES@/darts",
            "retrain": f"darts {NARROW} --repeats 2 {AGAIN} --ood-data noise --out @FIXTURES@/darts",
        },
        states={
            "search": State(file="search-r2.csv", lines=2, stage="search"),
            "journal": State(file="journal.jsonl", lines=2, stage="search"),
            "retrain": State(file="retrained/*.training.pt", lines=0, stage="retrain"),
        },
        adds={"retrain": ("retrained",)},
    ),
    "pcdarts": cells(f"darts --method pcdarts {WIDE} --out @FIXTURES@/pcdarts"),
    "pdarts": cells(f"darts --method pdarts {NARROW} --out @FIXTURES@/pdarts", lines=4),
    "e2rnas-1": Kind(
        stages={"search": f"e2rnas --version 1 {NARROW} --sweep-L 0,9 --out @FIXTURES@/e2rnas-1"},
        states={
            "search": State(file="search-L9.csv", lines=2, stage="search"),
            "journal": State(file="journal.jsonl", lines=2, stage="search"),
        },
    ),
    "e2rnas-2": cells(f"e2rnas --version 2 {NARROW} --ood-data noise --out @FIXTURES@/e2rnas-2"),
    "dsrna-bound": cells(f"dsrna --metric bound {WIDE} --metric-images 2 --out @FIXTURES@/dsrna-bound"),
    "dsrna-jacobian": Kind(
        stages={
            "search": f"{JACOBIAN} --out @FIXTURES@/dsrna-jacobian",
            "retrain": f"{JACOBIAN} {AGAIN} {ROBUST} --ood-data noise --out @FIXTURES@/dsrna-jacobian",
        },
        states={
            "search": State(file="search-darts-adv.csv", lines=2, stage="search"),
            "journal": State(file="journal.jsonl", lines=2, stage="search"),
            "retrain": State(file="retrained/rows.jsonl", lines=5, stage="retrain"),  # one of two is measured
        },
        adds={"retrain": ("retrained", "robust")},
    ),
    "imagenet": Kind(
        stages={
            "train": f"imagenet --cells DARTS_V2 --data-root @FIXTURES@/images --channels 4 --layers 2 --epochs 2 "
            f"--batch-size 2 --lr 0.05 --lr-decay 0.97 --drop-path 0.1 --auxiliary-weight 0 --test-limit 2 {HERE} "
            "--out @FIXTURES@/imagenet"
        },
        states={"train": State(file="training.csv", lines=2, stage="train")},
        needs=("images",),
        searched=False,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="all, unless given")
    chosen = parser.parse_args().kinds or list(KINDS)
    with tempfile.TemporaryDirectory(prefix="golden") as name:
        root = Path(name)
        make_images(root / "images")
        for kind in KINDS:
            if kind not in chosen:
                restore(kind, "finished", root)
        for later in (False, True):  # what comes after a search may read another kind's search
            for kind in chosen:
                for number, stage in enumerate(KINDS[kind].stages):
                    if (number > 0) == later:
                        print(kind, stage, flush=True)
                        make(kind, stage, root)
        for kind in chosen:
            store(root / kind, FIXTURES / kind / "finished", root)
        runner = Runner(root)
        searched = [str(root / kind) for kind in KINDS if KINDS[kind].searched]
        front = ["front", *searched, "--objectives", "clean_error,params", "--out", str(root / "joint")]
        check("front", runner(front))
        store(root / "joint", FIXTURES / "joint" / "finished", root)
        write_cases(chosen, runner.rounding())
        runner.close()


def make(kind: str, stage: str, root: Path) -> None:
    """Run a stage of a kind to its end in ROOT/KIND, and store the states that it goes through."""
    process = started(root)
    assert process.stdin is not None
    process.stdin.write(json.dumps(argv(KINDS[kind].stages[stage], root)) + "\n")
    process.stdin.flush()
    for name, state in KINDS[kind].states.items():
        if state.stage == stage:
            while process.poll() is None and not any(number >= state.lines for number in counts(root / kind, state)):
                time.sleep(0.001)
            process.send_signal(signal.SIGSTOP)
            if process.poll() is not None or (state.lines and counts(root / kind, state) != [state.lines]):
                raise SystemExit(f"{kind} {stage}: {state.file} has {counts(root / kind, state)} lines, try again")
            store(root / kind, FIXTURES / kind / name, root)
            process.send_signal(signal.SIGCONT)
    answer, _ = process.communicate()
    check(f"{kind} {stage}", Answer(**json.loads(answer)))


def counts(folder: Path, state: State) -> list[int]:
    """Lines of the files that a state is known by."""
    return [path.read_bytes().count(b"\n") for path in folder.glob(state.file)]


def check(what: str, answer: Answer) -> None:
    if answer.code != 0:
        raise SystemExit(f"{what} ended with {answer.code}:\n{answer.out}{answer.err}")


def argv(command: str, root: Path | str) -> list[str]:
    return [word.replace("@FIXTURES@", str(root)) for word in shlex.split(command)]


def make_images(folder: Path) -> None:
    """A folder of images as ImageNet's: two classes, three images each to train on, two each to score."""
    for part, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(("bee", "cat")):
            (folder / "imagenet" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng([count, label, number]).integers(256, size=(24, 28, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "imagenet" / part / name / f"{number}.png")
    shutil.copytree(folder, FIXTURES / "images" / "finished", dirs_exist_ok=True)


def store(run: Path, fixture: Path, root: Path) -> None:
    """Copy a run's folder into the fixtures, without this machine's paths."""
    shutil.rmtree(fixture, ignore_errors=True)
    for path in files(run):
        target = fixture / path.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        if path.suffix == ".pt":
            target.with_name(f"{path.name}.xz").write_bytes(lzma.compress(content, preset=9))
        else:
            target.write_bytes(content.replace(str(root).encode(), b"@FIXTURES@"))
        if b"@FIXTURES@" in content or (path.suffix == ".pt" and str(root).encode() in content):
            raise SystemExit(f"{path} has a path of this machine that cannot be replaced")


def share(kind: str, state: str) -> Iterator[str]:
    """Remove the checkpoints and weights of a state that the finished folder has, too, and name them."""
    folder, finished = FIXTURES / kind / state, FIXTURES / kind / "finished"
    for path in files(folder):
        twin = finished / path.relative_to(folder)
        if path.suffix in (".xz", ".safetensors") and twin.exists() and twin.read_bytes() == path.read_bytes():
            path.unlink()
            yield str(path.relative_to(folder))


def files(folder: Path) -> Iterator[Path]:
    """All files but those that a killed process had not finished."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))


def write_cases(chosen: list[str], rounding: str) -> None:
    """cases.json: the command lines, and what the test must know about each folder."""
    path = FIXTURES / "cases.json"
    made = {"rounding": rounding, "python": platform.python_version()}
    made |= {name: metadata.version(name) for name in ("evonas", "torch", "numpy", "pillow", "pymoo", "scikit-learn")}
    before = json.loads(path.read_text())["kinds"] if path.exists() else {}
    kinds = {}
    for name, kind in KINDS.items():
        if name in chosen:
            states = {
                state: {"stage": about.stage, "shared": [*share(name, state)]} for state, about in kind.states.items()
            }
            stages = {stage: shlex.split(command) for stage, command in kind.stages.items()}
            about = {"needs": kind.needs, "searched": kind.searched, "adds": kind.adds}
            kinds[name] = {**about, "stages": stages, "states": states}
        elif name in before:
            kinds[name] = before[name]
    path.write_text(json.dumps({"made_with": made, "kinds": kinds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
