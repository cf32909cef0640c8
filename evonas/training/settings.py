"""Settings of trainings; no torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from evonas.errors import ConfigurationError, nearest
from evonas.ranges import BATCH, COUNT, PARAMS, PENALTY, RATE, Range, check_ranges

__all__ = ["PRECISIONS", "OneShotConfig", "TrainingConfig", "TrainingPrecision", "check_precision"]

PRECISIONS = ("auto", "bf16", "fp32", "tf32")


TrainingPrecision = Literal["fp32", "bf16", "tf32"]


def check_precision(precision: str, known: Sequence[str] = PRECISIONS) -> None:
    """ConfigurationError unless it is one of the known ones."""
    if precision not in known:
        hint = f"; {nearest(precision, known)}".rstrip("; ")
        raise ConfigurationError(f"expected a precision of {', '.join(known)}, got {precision!r}{hint}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Training of a candidate; the defaults are the paper's (RoCo-NAS, IV-A; NSGA-Net's search)."""

    epochs: Annotated[int, COUNT] = 25
    """Passes over the train part (RoCo-NAS, Table II)."""
    batch_size: Annotated[int, BATCH] = 128
    """Images of a step."""
    lr: Annotated[float, RATE] = 0.025
    """Initial learning rate; cosine decay, epoch by epoch, unless --milestones, --lr-decay or --cyclic is given."""
    momentum: Annotated[float, Range(least=0, below=1)] = 0.9
    """Momentum of SGD."""
    weight_decay: Annotated[float, PENALTY] = 3e-4
    """L2 penalty of the weights."""
    milestones: Annotated[tuple[int, ...], COUNT] = ()
    """Epochs after which the learning rate falls to a tenth, instead of the cosine (TAM-NAS, IV-A)."""
    lr_decay: Annotated[float, Range(above=0, most=1)] = 1.0
    """Factor on the learning rate after every epoch, instead of the cosine (DARTS on ImageNet: 0.97); 1: none."""
    cyclic: bool = False
    """The learning rate rises on a line to --lr half way and falls back to 0, instead of the cosine; every epoch has
    the rate of its middle (Wong et al., 2020)."""
    average: Literal["none", "ema", "swa"] = "none"
    """Weights that a training delivers: its last ones, their exponential moving average (ema), or the mean of its last
    epochs' (swa)."""
    average_decay: Annotated[float, Range(least=0, below=1)] = 0.999
    """Decay of ema, a step; 0.995 in Gowal et al. (2020)."""
    average_from: Annotated[float, Range(least=0, below=1)] = 0.75
    """Share of the epochs after which swa begins (Izmailov et al., 2018)."""
    grad_clip: Annotated[float, Range(above=0)] = 5.0
    """Largest L2 norm of the gradient; inf: no limit."""
    precision: str = "auto"
    """auto, fp32, bf16 (autocast with channels_last) or tf32 (CUDA). auto takes bf16 where the hardware has it."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if list(self.milestones) != sorted({*self.milestones}):
            raise ConfigurationError(f"expected ascending milestones, got {self.milestones}")
        if self.lr_decay < 1 and self.milestones:
            raise ConfigurationError(f"expected lr_decay 1 with milestones, got {self.lr_decay} and {self.milestones}")
        if self.cyclic and (self.milestones or self.lr_decay < 1):
            raise ConfigurationError("expected one schedule of the learning rate, got cyclic and another one")
        averaged = self.epochs - self.first_averaged
        if self.average == "swa" and averaged < 2:
            raise ConfigurationError(
                f"expected two epochs or more that swa averages, got {averaged} of {self.epochs}, after a share of "
                f"{self.average_from:g} (average_from); train for more epochs, average a larger share, or take ema"
            )
        check_precision(self.precision)

    @property
    def first_averaged(self) -> int:
        """First epoch whose weights swa averages, counted from 0."""
        return int(self.average_from * self.epochs)

    def identity(self) -> dict[str, Any]:
        """The settings as plain values; those that came after version 0.1.0 only where they are used."""
        unused: dict[str, Any] = {"milestones": (), "lr_decay": 1.0, "cyclic": False, "average": "none"}
        found = {name: value for name, value in asdict(self).items() if name not in unused or value != unused[name]}
        for name, kind in {"average_decay": "ema", "average_from": "swa"}.items():
            if self.average != kind:
                del found[name]
        return found

    def unused(self, *others: str) -> dict[str, str]:
        """Options that change nothing -> what would bring them into use.

        Args:
            others: averages that later trainings deliver by these settings.
        """
        needs = {"average_decay": "ema", "average_from": "swa"}
        return {name: f"--average {kind}" for name, kind in needs.items() if kind not in (self.average, *others)}


@dataclass(frozen=True, kw_only=True)
class OneShotConfig:
    """Settings of the training of a supernet; the defaults are those of TAM-NAS (III-C and IV-A)."""

    block_epochs: Annotated[int, Range(least=0, most=10**6)] = 500
    """Epochs of the first phase: random blocks, all ratios the largest."""
    joint_epochs: Annotated[int, Range(least=0, most=10**6)] = 500
    """Epochs of the second phase: random blocks and ratios."""
    resample_epochs: Annotated[int, COUNT] = 20
    """Epochs of training for each random architecture."""
    sampling: Literal["epochs", "batches", "fair"] = "epochs"
    """epochs: a new architecture every `resample_epochs`; batches: one for every batch (SPOS); fair: such a one, with
    every block of a layer once before one comes again, its ratios in turn (FairNAS), whatever the windows."""
    supernet_batch_size: Annotated[int, BATCH] = 512
    """Images of a step."""
    supernet_lr: Annotated[float, RATE] = 0.1
    """Initial learning rate of each phase."""
    supernet_momentum: Annotated[float, Range(least=0, below=1)] = 0.9
    """Momentum of SGD."""
    supernet_weight_decay: Annotated[float, PENALTY] = 5e-4
    """L2 penalty of the weights."""
    block_milestones: Annotated[tuple[int, ...], COUNT] = (200, 400, 450)
    """Epochs of the first phase after which the learning rate falls to a tenth."""
    joint_milestones: Annotated[tuple[int, ...], COUNT] = (100, 200, 300)
    """The same for the second phase, counted from its start: 600, 700 and 800 in the paper."""
    block_window: Annotated[tuple[float, float], PARAMS] = (1.823e6, 2.375e6)
    """Smallest and largest number of parameters in the first phase, for the full space; scaled for smaller ones."""
    joint_window: Annotated[tuple[float, float], PARAMS] = (1.61e6, 2.37e6)
    """The same for the second phase."""
    first_ratios: Annotated[int, COUNT] = 2
    """Number of ratios at the start of the second phase, from the largest: 2.0 and 1.8; later one more at a time."""
    first_ratio_epochs: Annotated[int, COUNT] = 40
    """Epochs until the next ratio; each further one comes after `resample_epochs`."""
    supernet_precision: str = "auto"
    """auto, fp32, bf16 or tf32 (CUDA)."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.epochs == 0:
            raise ConfigurationError("expected block_epochs and joint_epochs >= 0 and one of them > 0, got 0 and 0")
        for name in ("block_window", "joint_window"):
            window = getattr(self, name)
            if len(window) != 2 or not window[0] < window[1]:
                raise ConfigurationError(f"expected a {name} of (smallest, largest) number of parameters, got {window}")
        for name in ("block_milestones", "joint_milestones"):
            milestones = getattr(self, name)
            if list(milestones) != sorted({*milestones}):
                raise ConfigurationError(f"expected ascending {name} > 0, got {milestones}")
        check_precision(self.supernet_precision)

    @property
    def epochs(self) -> int:
        return self.block_epochs + self.joint_epochs

    def ratios(self, epoch: int) -> int:
        """Number of ratios in use in an epoch, from the largest."""
        within = epoch - self.block_epochs
        if within < 0:
            return 1
        added = (within - self.first_ratio_epochs) // self.resample_epochs + 1
        return self.first_ratios + max(0, added)

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch."""
        joint = epoch >= self.block_epochs
        within, milestones = (
            (epoch - self.block_epochs, self.joint_milestones) if joint else (epoch, self.block_milestones)
        )
        return self.supernet_lr * 0.1 ** sum(within >= milestone for milestone in milestones)
