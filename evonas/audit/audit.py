"""The audit: networks of any search trained to the end and measured; what is finished is recorded, and never redone."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from evonas.audit.images import CountsErrors
from evonas.audit.intervals import packed, unpacked
from evonas.audit.measurements import Measurement, in_one_pass, joined
from evonas.audit.records import AuditRecords
from evonas.audit.searched import AsSearched
from evonas.audit.training import FinalTraining
from evonas.data import Dataset, Part
from evonas.devices import float32
from evonas.errors import ConfigurationError, DivergedError, EvonasError, StorageError
from evonas.executors import Executor, Job, Work
from evonas.parts import digest
from evonas.seeding import generator
from evonas.types import Genome, Progress, Report, Watch, arch_id

__all__ = ["Audit", "AuditNetwork", "Measured"]


@dataclass(frozen=True, eq=False)
class AuditNetwork:
    """A network, and how it is trained."""

    configuration: str
    """The search that found it, as tables name it."""
    genome: Genome
    """Canonical; empty for a hand-made network."""
    training: FinalTraining | AsSearched
    name: str = ""
    """Name in tables; the arch_id where it is empty."""
    kept: Path | None = None
    """File of its weights, which makes training unnecessary."""

    @cached_property
    def arch_id(self) -> str:
        return arch_id(self.genome) if self.genome.size else self.name

    @property
    def label(self) -> str:
        """What the screen calls it: unique among the networks that an audit trains."""
        return f"{self.arch_id} of {self.configuration}"

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of the trained network."""
        return self.training.cost(self.genome).macs

    @property
    def key(self) -> tuple[str, str]:
        """Equal for networks that are trained and measured once: several searches may have found it."""
        return self.arch_id, self.training.digest


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Measurements of an audit, and the test images they are taken on."""

    measurements: tuple[Measurement, ...]
    """In the order of the tables' columns."""
    test_limit: int | None = None
    """Take a class-balanced subset of this many test images; None: all."""
    batch_size: int = 250
    seed: int | None = None
    """Seed of the choice of test images; None: that of a network's training."""
    per_image: bool = False
    """Record which images a network gets wrong, beside their share."""

    def __post_init__(self) -> None:
        columns = [each.column for each in self.measurements]
        if len(set(columns)) < len(columns):
            raise ConfigurationError(f"expected measurements of different columns, got {', '.join(columns)}")

    def test_part(self, data: Dataset, seed: int) -> Part:
        """The test images that are scored. DataError where the limit is below one image a class.

        Args:
            seed: of the choice, where the measurements have none.
        """
        seed = seed if self.seed is None else self.seed
        return data.test.limited(self.test_limit, data.n_classes, generator("test limit", seed))

    def tested(self, data: Dataset, seed: int) -> Dataset:
        """The data as measurements see it: their validation part are the test images."""
        part = self.test_part(data, seed)
        return replace(data, train=part, validation=part)

    def digest(self, network: AuditNetwork, measurement: Measurement) -> str:
        """Digest of everything a measurement's values follow from, and of what is recorded."""
        found = {
            "training": network.training.digest,
            "measurement": measurement.identity(),
            "test_limit": self.test_limit,
            "batch_size": self.batch_size,
        }
        if self.seed is not None:
            found["seed"] = self.seed
        if self.per_image:
            found["per_image"] = True
        return digest(found)


class Step(NamedTuple):
    """One piece of work: training a network, or measurements of it that are taken together."""

    network: int
    measurements: tuple[int, ...]
    """Empty: training."""
    key: str
    """Name of its job, and on the screen."""
    weights: bytes = b""


@dataclass
class Audit:
    """Trains and measures networks, each step once, and records every step that is finished.

    A network whose training diverges is recorded as failed and not measured; a measurement that diverges fails alone.

    Args:
        records: of the folder that keeps weights and rows.
        retry_failed: do again what is recorded as failed.
    """

    networks: Sequence[AuditNetwork]
    measured: Measured
    records: AuditRecords
    retry_failed: bool = False
    _distinct: list[AuditNetwork] = field(init=False)
    _labels: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[tuple[str, str], AuditNetwork] = {}
        for network in self.networks:
            found.setdefault(network.key, network)
        self._distinct = list(found.values())
        self._labels = Counter(network.label for network in self._distinct)

    def adopt(self) -> None:
        """Take over the weights that are kept elsewhere, as of finished trainings.

        Raises:
            DataError: their file is damaged, or is another network's.
            StorageError: it cannot be read, or weights and records not written.
        """
        for network in self._distinct:
            if network.kept is not None and isinstance(network.training, AsSearched) and self._to_train(network):
                weights = network.training.read(network.genome, network.kept)
                self._record_trained(network, {"weights": weights, "seconds": 0.0})

    def pending(self) -> list[AuditNetwork]:
        """Networks that are not finished, each once, in order."""
        return [network for network in self._distinct if self._to_train(network) or self._to_measure(network)]

    def work(self) -> dict[str, float]:
        """Key of every job that is left -> its predicted work."""
        found: dict[str, float] = {}
        for network in self._distinct:
            for places in [*([()] if self._to_train(network) else []), *self._to_measure(network)]:
                found[self._key(network, places)] = self._predicted(network, places)
        return found

    def after_training(self, network: AuditNetwork) -> list[str]:
        """Keys of the jobs that wait for a network's training, and never begin if it fails."""
        return [self._key(network, places) for places in self._missing(network)]

    def run(
        self,
        executor: Executor,
        watch: Watch,
        lost: Callable[[Job, str], None],
        told: Callable[[Job, AuditNetwork, Mapping[str, Any]], None],
    ) -> None:
        """Do what is left, on all of the executor's slots; closes the executor.

        Args:
            watch: gets what workers report; may raise to stop: what is finished is kept.
            lost: called with one more job than `work` has and the reason where recorded weights are lost.
            told: called with every new record and its job.
        Raises:
            StorageError: records, weights or checkpoints cannot be written.
        """
        pending = self.pending()
        executor.start(_Worker(tuple(pending), self.measured).make_work, watch)
        try:
            waiting = sum(self._begin(executor, number, network, lost) for number, network in enumerate(pending))
            while waiting:
                job, outcome = executor.next_finished()
                waiting -= 1
                step: Step = job.payload
                network = pending[step.network]
                if outcome.ok and "refused" in outcome.value:
                    raise StorageError(outcome.value["refused"])
                if step.measurements:
                    failed = [{"failure": outcome.failure}] * len(step.measurements)
                    values = outcome.value["measured"] if outcome.ok else failed
                    for place, value in zip(step.measurements, values, strict=True):
                        told(job, network, self._record_measured(network, self.measured.measurements[place], value))
                    continue
                value = outcome.value if outcome.ok else {"failure": outcome.failure}
                told(job, network, self._record_trained(network, value))
                if "failure" not in value:
                    waiting += self._submit_measurements(executor, step.network, network, value["weights"])
        finally:
            executor.close()

    def rows(self) -> list[dict[str, Any]]:
        """Records of the networks, in their order; any failure gives a network the status `failed`."""
        return [self._row(network) for network in self.networks]

    def forget_checkpoints(self) -> None:
        """Remove the checkpoints of networks that are trained."""
        for network in self._distinct:
            trained = self._find("trained", network, network.training.digest)
            kept = network.training.checkpoint(self.records.folder, network.genome)
            if kept is not None and trained is not None and trained["status"] == "ok":
                kept.unlink(missing_ok=True)

    def _begin(self, executor: Executor, number: int, network: AuditNetwork, lost: Callable[[Job, str], None]) -> int:
        """Submit what can begin; returns the number of jobs."""
        if self._to_train(network):
            executor.submit(self._job(number, network, ()))
            return 1
        trained = self._find("trained", network, network.training.digest) or {}
        kept = self.records.weights(network.arch_id, network.training.digest, trained["sha256"])
        if kept is None:
            path = self.records.weights_path(network.arch_id, network.training.digest)
            job = self._job(number, network, ())
            lost(job, f"{path} is gone or damaged: {network.arch_id} is trained again")
            executor.submit(job)
            return 1
        return self._submit_measurements(executor, number, network, kept)

    def _submit_measurements(self, executor: Executor, number: int, network: AuditNetwork, weights: bytes) -> int:
        steps = self._to_measure(network)
        for places in steps:
            executor.submit(self._job(number, network, places, weights))
        return len(steps)

    def _job(self, number: int, network: AuditNetwork, places: tuple[int, ...], weights: bytes = b"") -> Job:
        key = self._key(network, places)
        kept = None if places else network.training.checkpoint(self.records.folder, network.genome)
        return Job(key, Step(number, places, key, weights), self._predicted(network, places), kept)

    def _key(self, network: AuditNetwork, places: tuple[int, ...]) -> str:
        """Name of a job: training, or the measurements at some places."""
        twice = f" {network.training.digest[:8]}" if self._labels[network.label] > 1 else ""
        what = "+".join(self.measured.measurements[place].column for place in places) or "training"
        return f"{network.label}{twice}, {what}"

    @staticmethod
    def _predicted(network: AuditNetwork, places: tuple[int, ...]) -> float:
        return float(network.macs) * (1 if places else network.training.epochs or 1)

    def _to_train(self, network: AuditNetwork) -> bool:
        return self._open(self._find("trained", network, network.training.digest))

    def _to_measure(self, network: AuditNetwork) -> list[tuple[int, ...]]:
        """Places of measurements that are not recorded, job by job; none of a network whose training failed."""
        trained = self._find("trained", network, network.training.digest)
        if trained is not None and trained["status"] == "failed" and not self.retry_failed:
            return []
        return self._missing(network)

    def _missing(self, network: AuditNetwork) -> list[tuple[int, ...]]:
        found = [self._find_measured(network, each) for each in self.measured.measurements]
        missing = [place for place, record in enumerate(found) if self._open(record)]
        together = in_one_pass([self.measured.measurements[place] for place in missing])
        return [tuple(missing[each] for each in step) for step in together]

    def _open(self, record: Mapping[str, Any] | None) -> bool:
        return record is None or (record["status"] == "failed" and self.retry_failed)

    def _find(self, kind: str, network: AuditNetwork, identity: str) -> dict[str, Any] | None:
        return self.records.find(kind, network.arch_id, identity)

    def _find_measured(self, network: AuditNetwork, measurement: Measurement) -> dict[str, Any] | None:
        return self._find("measured", network, self.measured.digest(network, measurement))

    def _record_trained(self, network: AuditNetwork, value: Mapping[str, Any]) -> dict[str, Any]:
        arch, training = network.arch_id, network.training.digest
        if "failure" in value:
            return self.records.add("trained", arch, training, status="failed", reason=value["failure"])
        sha256 = self.records.keep_weights(arch, training, value["weights"])
        seconds = round(value["seconds"], 3)
        return self.records.add("trained", arch, training, status="ok", seconds=seconds, sha256=sha256)

    def _record_measured(
        self, network: AuditNetwork, measurement: Measurement, value: Mapping[str, Any]
    ) -> dict[str, Any]:
        arch, identity = network.arch_id, self.measured.digest(network, measurement)
        if "failure" in value:
            return self.records.add("measured", arch, identity, status="failed", reason=value["failure"])
        beside = {"wrong": value["wrong"]} if "wrong" in value else {}
        return self.records.add("measured", arch, identity, status="ok", values=value["values"], **beside)

    def _row(self, network: AuditNetwork) -> dict[str, Any]:
        training = network.training
        trained = self._find("trained", network, training.digest)
        found = [self._find_measured(network, each) for each in self.measured.measurements]
        records = [record for record in (trained, *found) if record is not None]
        failed = [record for record in records if record["status"] == "failed"]
        cost = training.cost(network.genome)
        values = {name: value for record in found if record for name, value in record.get("values", {}).items()}
        wrong = {name: each for record in found if record for name, each in record.get("wrong", {}).items()}
        return {
            "configuration": network.configuration,
            "arch_id": network.arch_id,
            "status": "failed" if failed else "ok",
            **values,
            "params": cost.params,
            "macs": cost.macs,
            **training.settings(),
            "train_seconds": (trained or {}).get("seconds"),
            "seed": training.seed,
            "data": training.data.name,
            "genome": " ".join(map(str, network.genome.tolist())),
            "reason": failed[0]["reason"] if failed else "",
            **({"wrong": {name: unpacked(each) for name, each in wrong.items()}} if self.measured.per_image else {}),
        }


@dataclass(frozen=True)
class _Worker:
    """Work of a worker: set up once, then one step after another."""

    networks: tuple[AuditNetwork, ...]
    measured: Measured

    def make_work(self, report: Report) -> Work:
        tested: dict[tuple[str, int], Dataset] = {}

        @float32()
        def work(step: Step, checkpoint: Path | None = None) -> dict[str, Any]:
            network = self.networks[step.network]

            def report_of(progress: Progress) -> None:
                report(replace(progress, key=step.key))

            training, genome = network.training, network.genome
            try:
                if not step.measurements:
                    weights, seconds = training.train(genome, report_of, checkpoint)
                    return {"weights": weights, "seconds": seconds}
                images = training.data.fingerprint, training.seed if self.measured.seed is None else self.measured.seed
                if images not in tested:
                    tested[images] = self.measured.tested(training.data, training.seed)
                return {"measured": self._measured(step, tested[images], report_of)}
            except DivergedError as error:
                return {"failure": str(error)}
            except EvonasError as error:  # a disk that is full is no fault of the network
                return {"refused": str(error)}

        return work

    def _measured(self, step: Step, tested: Dataset, report: Report) -> list[dict[str, Any]]:
        """Values of each measurement, or why there are none."""
        network, chosen = self.networks[step.network], [self.measured.measurements[each] for each in step.measurements]
        candidate = network.training.candidate(network.genome, step.weights)
        measure, wrong = joined(chosen), {}
        try:
            if self.measured.per_image and isinstance(measure, CountsErrors):
                found = measure.wrong(candidate, tested, self.measured.batch_size, report)
                wrong, values = {name: packed(each.numpy()) for name, each in found.items()}, measure.values(found)
            else:
                values = measure(candidate, tested, self.measured.batch_size, report)
        except DivergedError as error:
            if len(chosen) == 1:
                return [{"failure": str(error)}]
            alone = [step._replace(measurements=(place,)) for place in step.measurements]
            return [value for each in alone for value in self._measured(each, tested, report)]  # some may be finite
        beside = {"wrong": wrong} if wrong else {}
        if len(chosen) == 1:
            return [{"values": values, **beside}]
        names = [each.column for each in chosen]
        return [{"values": {name: values[name]}, **({"wrong": {name: wrong[name]}} if wrong else {})} for name in names]


def lightest(networks: Sequence[AuditNetwork]) -> Iterator[AuditNetwork]:
    """Networks by the MACs that they are trained with, then by arch_id."""
    yield from sorted(networks, key=lambda network: (network.macs, network.arch_id))
