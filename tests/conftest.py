"""What the tests share: a space that can be listed, a table of its objectives, adversarial sets, a finished run."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

from evonas.types import EvaluationResult, Genome

if TYPE_CHECKING:
    from evonas.adversarial_sets import AdversarialSet
    from evonas.data import Dataset

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; other counts round differently
CACHE = tempfile.TemporaryDirectory(prefix="evonas-tests-")
os.environ["EVONAS_CACHE"] = CACHE.name
settings.register_profile("evonas", deadline=None)  # a busy machine is no defect
settings.load_profile("evonas")


RAY_FILES = {
    "tests/adversarial_sets/test_set_jobs.py",
    "tests/contracts/test_executor_contract.py",
    "tests/executors/test_resident.py",
    "tests/search/test_driver_killed.py",
    "tests/search/test_faults.py",
    "tests/search/test_ray_cluster.py",
    "tests/test_doctor.py",
}
"""These start Ray, which counts the processors of the whole machine."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file runs in one process, so that its fixtures are made once; files that start Ray run one after the other."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class Files(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "ray" if file in RAY_FILES else file

    return Files(config, log)


@pytest.fixture(autouse=True)
def torch_as_at_the_start() -> Iterator[None]:
    """One thread and seed 0 for every test, whatever the one before has left; torch is not imported for it."""
    _restart_torch()
    yield
    _restart_torch()


def _restart_torch() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
        sys.modules["torch"].manual_seed(0)


@dataclass(frozen=True)
class TinySpace:
    """Genes 0 to 2. The first two may be swapped without changing the network; all zero, or two 2s at the end, is no
    network: of 81 genomes 54 are canonical, 47 of them feasible."""

    genes: int = 4

    name: ClassVar[str] = "tiny"

    @property
    def n_genes(self) -> int:
        return self.genes

    @property
    def upper(self) -> Genome:
        return np.full(self.genes, 2, dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.integers(3, size=(n, self.genes), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        take = rng.integers(2, size=self.genes, dtype=np.int64) == 1
        return np.where(take, a, b), np.where(take, b, a)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        child = genome.copy()
        gene = rng.integers(self.genes)
        child[gene] = (child[gene] + 1 + rng.integers(2)) % 3
        return child

    def canonical(self, genome: Genome) -> Genome:
        genes = np.asarray(genome, dtype=np.int64)
        return np.concatenate([np.sort(genes[:2]), genes[2:]])

    def violation(self, genome: Genome) -> float:
        genes = self.canonical(genome)
        return 1.0 if not genes.any() or tuple(genes[-2:]) == (2, 2) else 0.0

    def networks(self) -> Iterator[Genome]:
        """Every canonical genome that is feasible."""
        for genes in product(range(3), repeat=self.genes):
            genome = np.array(genes, dtype=np.int64)
            if self.violation(genome) <= 0 and np.array_equal(self.canonical(genome), genome):
                yield genome


def objectives_of(genome: Any) -> dict[str, float]:
    """Larger genes cost more, err less and are harder to fool, each gene at a rate of its own."""
    genes = np.sort(np.asarray(genome)[:2]).tolist() + np.asarray(genome)[2:].tolist()
    return {
        "clean_error": sum((2 - gene) / (place + 3) for place, gene in enumerate(genes)) / 4,
        "macs": sum(gene * (7 + 5 * place) for place, gene in enumerate(genes)),
        "certified_radius": sum(gene % 2 / (place + 1) for place, gene in enumerate(genes)),
    }


@pytest.fixture(scope="session")
def tiny_space() -> TinySpace:
    return TinySpace()


def tabulated(genome: Genome, seed: int) -> EvaluationResult:
    """An evaluation that only looks up; it travels to other processes."""
    return EvaluationResult(tuple(genome.tolist()), objectives_of(genome), seed=seed, seconds=0.25)


@pytest.fixture(scope="session")
def table() -> Any:
    """The evaluator (genome, seed) -> EvaluationResult over `objectives_of`."""
    return tabulated


@pytest.fixture(scope="session")
def ray_here() -> Iterator[Any]:
    """Ray on this machine with two CPUs, connected; its workers find the test modules."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # without it, Ray warns
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield ray
        ray.shutdown()


@pytest.fixture(scope="session")
def roco_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `tiny_runs.ROCO`. Tests copy it before they change it; see `copied_run`."""
    from tiny_runs import ROCO, run

    out = tmp_path_factory.mktemp("shared") / "run"
    run(replace(ROCO, out=out))
    return out


@pytest.fixture
def copied_run(roco_run: Path, tmp_path: Path) -> Path:
    """A copy of `roco_run` to be changed."""
    return Path(shutil.copytree(roco_run, tmp_path / "copied"))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all the rest of a tiny run."""
    for name in ("plot_front", "plot_history"):
        monkeypatch.setattr(f"evonas.runs.folder.{name}", lambda *arguments: None)


@pytest.fixture(scope="session")
def make_set() -> Callable[[Dataset, Mapping[str, Sequence[int]]], AdversarialSet]:
    """(data, part -> indices into its adversarial part) -> a set of these images, the last bit of each value turned.

    An index in both parts is one image in both. It says about itself that LeNet was fooled so at th 1.
    """
    return _made


@pytest.fixture(scope="session")
def digits_set() -> AdversarialSet:
    """Twelve digits: eight of L0 and eight of Linf, four of them in both."""
    from evonas.data import load_data

    return _made(load_data("digits"), {"L0": range(8), "Linf": range(4, 12)})


def _made(data: Dataset, parts: Mapping[str, Sequence[int]]) -> AdversarialSet:
    from cards import card, target

    from evonas.adversarial_sets import AdversarialSet, CardData, Piece, assemble

    clean, labels = data.adversarial.images, data.adversarial.labels
    changed = clean ^ np.uint8(1)
    pieces = tuple(
        Piece(target=0, attack=name, threshold=1, images=changed[index], labels=labels[index], sources=index)
        for name, index in ((name, np.array(chosen, dtype=np.int64)) for name, chosen in parts.items())
    )
    about = CardData(
        name=data.name,
        n_classes=data.n_classes,
        image_size=data.image_size,
        mean=data.mean,
        deviation=data.deviation,
        train_images=len(data.train),
        adversarial_images=len(clean),
        train_fingerprint=data.train.fingerprint,
        adversarial_fingerprint=data.adversarial.fingerprint,
        split_seed=0,
    )
    contents, lenet = assemble(pieces, clean), target("LeNet", width=1.0, train_images=len(data.train))
    return AdversarialSet(*contents, card=card(contents, about, (lenet,), pieces, "by-hand"))
