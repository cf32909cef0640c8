"""Evolutionary attacks: many images evolve at once, each until it fools the model."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from evonas.attacks.attack import check_logits, logits_of, under_attack
from evonas.attacks.inference import Precision, attack_copy, check_precision
from evonas.attacks.score_cache import KEY_BITS, ScoreCache
from evonas.errors import ConfigurationError

__all__ = [
    "EvolutionPlan",
    "EvolutionResult",
    "Optimiser",
    "check_settings",
    "confidence",
    "eight_bit",
    "evolve_images",
    "unchanged",
]

MAX_GENES = 2**24
"""Limit on the genes of all individuals that evolve together; bounds memory, about 64 MB a copy."""
MAX_IMAGES = 64
"""Limit on the images that evolve together."""


@dataclass(frozen=True, eq=False)
class EvolutionResult:
    """The images that an evolutionary attack found, and its cost."""

    images: Tensor
    """(B, C, H, W): the adversarial image where `fooled`, else the clean one."""
    attacked: Tensor
    """(B,) bool: the model was right about the clean image; only these are attacked."""
    fooled: Tensor
    """(B,) bool: attacked, and the model itself (not its fast copy) is wrong about the result."""
    evaluations: Tensor
    """(B,) int64: individuals scored, as budgets count them; without checks of clean images and of best individuals."""
    forwards: int
    """Forward passes in images; fewer than evaluations where equal individuals were scored once."""

    @property
    def success(self) -> float:
        """Fraction of the attacked images that fool the model; NaN if none was attacked."""
        attacked = int(self.attacked.sum())
        return int(self.fooled.sum()) / attacked if attacked else float("nan")


class Optimiser(Protocol):
    """Minimises B problems side by side, one generation at a time."""

    def ask(self) -> Tensor:
        """(B, NP, D) individuals to be scored next."""
        ...

    def tell(self, scores: Tensor) -> None:
        """Update from the (B, NP) scores of the individuals that `ask` returned last."""
        ...

    def keep(self, problems: Tensor) -> None:
        """Drop all problems outside a (B,) mask."""
        ...


@dataclass(frozen=True, kw_only=True)
class EvolutionPlan:
    """Encoding, optimiser and budget of an evolutionary attack."""

    start: Callable[[Tensor], Optimiser]
    """(B, H, W, C) pixels -> an optimiser of B problems."""
    decode: Callable[[Tensor, Tensor], Tensor]
    """(pixels (n, H, W, C), genes (n, D)) -> (n, H, W, C) changed pixels, whole numbers in 0..255."""
    individuals: int
    genes: int
    rounds: int
    """Number of generations scored, including the first population."""
    chunk: int
    """Individuals per forward pass."""
    precision: Precision
    key: Callable[[Tensor], Tensor] | None = None
    """genes (n, D) -> (n,) int64 keys below 2^40, equal only for the same change, so that scores can be reused.
    None: score every individual."""


def check_settings(threshold: int, population: int, generations: int, chunk: int, precision: str) -> None:
    """ConfigurationError unless every setting is in its range."""
    if not isinstance(threshold, int) or isinstance(threshold, bool) or threshold < 0:
        raise ConfigurationError(f"expected a whole threshold >= 0, got {threshold!r}")
    if population < 5 or generations < 1 or chunk < 1:
        raise ConfigurationError(
            f"expected population >= 5, generations >= 1 and chunk >= 1, got {population}, {generations} and {chunk}"
        )
    check_precision(precision)


def eight_bit(images: Tensor) -> Tensor:
    """(B, C, H, W) images of values k / 255 -> (B, H, W, C) float32 pixels k; ConfigurationError for other values."""
    exact = images.permute(0, 2, 3, 1).double() * 255
    pixels = exact.round()
    tolerance = 255 * max(torch.finfo(images.dtype).eps, torch.finfo(torch.float32).eps)
    off = (exact - pixels).abs()
    if bool((off > tolerance).any()):
        raise ConfigurationError(
            f"expected images of 8-bit values k / 255, got a value that is {float(off.max()):.3g} of a level off; "
            "round them: (images * 255).round() / 255"
        )
    return pixels.float().contiguous()


def confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) logit of the true class minus the logsumexp of all other logits, float32, to be minimised.

    This is log(p / (1 - p)) for the softmax probability p of the true class, which defines the attack. It orders
    individuals as p does, but close values stay different where p is close to 1. NaN counts as the worst value.
    """
    scores = logits.float()
    true = scores.gather(1, labels[:, None]).squeeze(1)
    rest = scores.scatter(1, labels[:, None], -torch.inf).logsumexp(dim=1)
    return (true - rest).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)


def unchanged(images: Tensor, labels: Tensor) -> EvolutionResult:
    """The result of an attack of strength 0; the model is not called."""
    none = torch.zeros_like(labels, dtype=torch.bool)
    return EvolutionResult(images.clone(), none, none.clone(), torch.zeros_like(labels), 0)


@torch.no_grad()
def evolve_images(
    model: nn.Module, images: Tensor, pixels: Tensor, labels: Tensor, plan: EvolutionPlan
) -> EvolutionResult:
    """Evolve every image that the model gets right until its best individual fools the model or the budget is spent.

    A fast copy of the model scores the individuals. The model itself checks every new best individual, so that
    neither folding nor bf16 can cause a false success.

    Args:
        images, labels: as `check_inputs` requires.
        pixels: `eight_bit(images)`.
    Raises:
        ConfigurationError, DivergedError: `check_logits` refuses the logits of the clean images.
    """
    result = unchanged(images, labels)
    if not len(images):
        return result
    with under_attack(model):
        for part in torch.split(torch.arange(len(images), device=images.device), plan.chunk):
            logits = logits_of(model, images[part])
            check_logits(logits, labels[part])
            result.attacked[part] = logits.argmax(dim=1) == labels[part]
        if not bool(result.attacked.any()):
            return result
        network = attack_copy(model, plan.precision, fast_relu=True)
        together = max(1, min(MAX_IMAGES, MAX_GENES // (plan.individuals * plan.genes)))
        forwards = 0
        for rows in torch.split(result.attacked.nonzero().squeeze(1), together):
            scorer = _Scorer(network, pixels[rows], labels[rows], plan)
            _evolve_together(model, scorer, plan, rows, images, result)
            forwards += scorer.forwards
    return replace(result, forwards=forwards)


def _evolve_together(
    model: nn.Module, scorer: "_Scorer", plan: EvolutionPlan, rows: Tensor, images: Tensor, result: EvolutionResult
) -> None:
    """Fill in `result` for the images `rows`."""
    optimiser = plan.start(scorer.pixels)
    best = torch.full_like(rows, torch.inf, dtype=torch.float32)
    for _ in range(plan.rounds):
        individuals = optimiser.ask()
        scores = scorer(individuals)
        optimiser.tell(scores)
        result.evaluations[rows] += plan.individuals
        lowest, place = scores.min(dim=1)
        improved = (lowest < best).nonzero().squeeze(1)
        best = torch.minimum(best, lowest)
        if not len(improved):
            continue
        changed = plan.decode(scorer.pixels[improved], individuals[improved, place[improved]])
        trial = _as_images(changed, scorer.pixels[improved], images[rows[improved]])
        wrong = logits_of(model, trial).argmax(dim=1) != scorer.labels[improved]
        if not bool(wrong.any()):
            continue
        fooled = improved[wrong]
        result.images[rows[fooled]] = trial[wrong]
        result.fooled[rows[fooled]] = True
        pending = torch.ones_like(rows, dtype=torch.bool).index_fill_(0, fooled, False)
        if not bool(pending.any()):
            return
        rows, best = rows[pending], best[pending]
        optimiser.keep(pending)
        scorer.keep(pending)


def _as_images(changed: Tensor, pixels: Tensor, clean: Tensor) -> Tensor:
    """(n, H, W, C) pixels as (n, C, H, W) images of the dtype of `clean`; unchanged pixels keep its exact values."""
    same = (changed == pixels).permute(0, 3, 1, 2)
    return torch.where(same, clean, (changed / 255).permute(0, 3, 1, 2).to(clean.dtype))


class _Scorer:
    """Scores individuals of all images in chunks; scores of repeated keys come from a cache."""

    def __init__(self, network: nn.Module, pixels: Tensor, labels: Tensor, plan: EvolutionPlan) -> None:
        self.network = network
        self.pixels = pixels  # (B, H, W, C)
        self.labels = labels  # (B,)
        self.plan = plan
        self.cache = ScoreCache(len(pixels), pixels.device) if plan.key is not None else None
        self.forwards = 0

    def __call__(self, individuals: Tensor) -> Tensor:
        """(B, NP, D) -> (B, NP) scores."""
        genes = individuals.flatten(0, 1)
        owner = torch.arange(len(individuals), device=genes.device).repeat_interleave(individuals.shape[1])
        if self.cache is None or self.plan.key is None:
            return self._score(genes, owner).view(individuals.shape[:2])
        pairs, which = torch.unique(owner << KEY_BITS | self.plan.key(genes), return_inverse=True)
        first = torch.zeros_like(pairs).scatter_(0, which, torch.arange(len(genes), device=genes.device))
        owner, keys = pairs >> KEY_BITS, pairs & (1 << KEY_BITS) - 1
        scores, cached = self.cache.get(owner, keys)
        new = (~cached).nonzero().squeeze(1)
        if len(new):
            scores[new] = self._score(genes[first[new]], owner[new])
            self.cache.put(owner[new], keys[new], scores[new])
        return scores[which].view(individuals.shape[:2])

    def _score(self, genes: Tensor, owner: Tensor) -> Tensor:
        self.forwards += len(genes)
        scores = []
        for part, image in zip(*(torch.split(each, self.plan.chunk) for each in (genes, owner)), strict=True):
            changed = self.plan.decode(self.pixels[image], part)
            logits = self.network(changed.div_(255).permute(0, 3, 1, 2))
            scores.append(confidence(logits, self.labels[image]))
        return torch.cat(scores)

    def keep(self, problems: Tensor) -> None:
        self.pixels, self.labels = self.pixels[problems], self.labels[problems]
        if self.cache is not None:
            self.cache.keep(problems)
