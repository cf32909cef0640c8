"""Error of a candidate on the validation part."""

from dataclasses import dataclass
from typing import ClassVar

from evonas.data import batches
from evonas.errors import ConfigurationError
from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.objectives.scoring import error_under

__all__ = ["CleanError"]


@dataclass(frozen=True, kw_only=True)
class CleanError:
    """Error on the validation part, a fraction in [0, 1] to be minimised (RoCo-NAS, III-D: err_natural).

    Scored in float32, whatever precision the network was trained in.
    """

    name: ClassVar[str] = "clean_error"
    stage: ClassVar[str] = "rungs"
    batch_size: int = 500

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigurationError(f"expected batch_size >= 1, got {self.batch_size}")

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        return (Column(self.name, reference=1.0),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        return {self.name: error_under(candidate.network, batches(candidate.data.validation, self.batch_size))}
