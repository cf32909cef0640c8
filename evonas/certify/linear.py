"""Linear bounds: functions of a network's values are bounded from below by affine functions of its images.

Operations that are not affine lie between planes (CNN-Cert, Boopathy et al., 2019; CROWN, Zhang et al., 2018). From the
logits back to the images each operation is replaced by the plane that bounds from the right side. Dependencies between
values are kept through the layers; the ball around the images is used once, at the end.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from evonas.certify.affine import Affine
from evonas.certify.ball import Ball
from evonas.certify.graph import Box, Graph, Patch, Planes
from evonas.certify.intervals import exact_nodes, propagate, without_nan
from evonas.certify.joint import MaxPool
from evonas.certify.lines import ConstantPlanes, ReLU, summed
from evonas.certify.patches import cut, is_map, patch_of, placed, union, whole
from evonas.certify.rounding import SAFETY, cast, gamma, magnitude, substitution_error
from evonas.certify.settings import Intermediate, RelaxationName
from evonas.certify.tiles import chunks_of_tiles, reached
from evonas.errors import choose

__all__ = ["Bounded"]

T = TypeVar("T")

Open = dict[int, tuple[Tensor, Patch | None]]
"""Number of a node -> coefficients (S, B, *shape), of a patch of it where one is given."""

MAX_VALUES = 2**22
"""Limit on the values of one node that one step holds, over functions and images."""
UNDECIDED = 0.75
"""Rows are dropped where at most this share of them is left."""


class Bounded:
    """A network over a ball, with the intermediate bounds that planes need; bounds linear functions of the logits."""

    def __init__(
        self,
        graph: Graph,
        ball: Ball,
        relaxation: RelaxationName,
        intermediate: Intermediate,
        outward: torch.dtype | None = None,
    ) -> None:
        """Find the intermediate bounds.

        Args:
            outward: precision of the functions that bound values within the network, where bounds are rounded outwards
                and graph and ball are in float64; None: to nearest, everything in the precision of the ball.
        """
        self.graph = graph
        self.ball = ball
        choose({name: name for name in ("adaptive", "same_slope")}, relaxation, "relaxation")
        linear = choose({"linear": True, "signs": True, "interval": False}, intermediate, "kind of intermediate bounds")
        clipped = ball.norm == "l2" and ball.clip is not None
        self._exact = frozenset({0}) if clipped else exact_nodes(graph)
        self._planes: dict[tuple[int, str, torch.dtype], Planes] = {}
        pools = any(isinstance(node.operation, MaxPool) for node in graph.nodes)
        self._relaxations = (relaxation, "plain") if pools and linear and relaxation == "adaptive" else (relaxation,)
        """Relaxations to try; the tightest bound counts."""
        self._signs = intermediate == "signs"
        self._done: dict[int, Tensor] = {}
        """Number of a node -> mask (*shape) of the values that need no further pass: whole ones bounded them."""
        self._cropped: dict[tuple[int, str, Patch], Planes] = {}
        """Planes on patches of the tile that is bounded; not kept where gradients are recorded."""
        self._tile: Patch | None = None
        self._boxes: dict[int, Box] = {}
        self._outward = outward
        self._within_network = outward or ball.images.dtype
        self._of_logits = ball.images.dtype if linear else self._within_network
        self._errors: dict[tuple[int, str, torch.dtype], Tensor] = {}
        self._readers = max(Counter(each for node in graph.nodes for each in node.inputs).values(), default=1)
        self._boxes = propagate(graph, ball, self._tighter if linear else None, outward is not None)

    @property
    def logits(self) -> Tensor:
        """(K, B, K) coefficients of each logit itself."""
        (n_logits,), images = self.graph.nodes[-1].shape, self.ball.images
        return torch.eye(n_logits, dtype=images.dtype, device=images.device)[:, None].expand(-1, len(images), -1)

    def least(self, functions: Tensor) -> Tensor:
        """(S, B) lower bounds of sum(functions * logits), functions (S, B, K)."""
        return self._least(len(self.graph.nodes) - 1, functions.to(self._of_logits))

    def _tighter(self, number: int, boxes: Mapping[int, Box]) -> dict[int, Box]:
        """Tighter boxes of the inputs of an operation, for the values on which its planes depend."""
        self._boxes = dict(boxes)
        node, found = self.graph.nodes[number], {}
        assert node.operation is not None
        masks = node.operation.needs([boxes[each] for each in node.inputs])
        for source, mask in zip(node.inputs, masks, strict=True):
            if mask is None or source in self._exact:
                continue
            done = self._done.get(source)
            places = (mask if done is None else mask & ~done).flatten().nonzero()[:, 0]
            signs = self._signs and isinstance(node.operation, ReLU)
            if len(places):
                step = partial(self._both, early=self._boxes if signs else None)
                found[source] = self._boxes[source] = self._refined(step, source, places, boxes[source])
            if signs:  # passes of values whose sign is known may have ended early: other readers need whole ones
                (mask,) = node.operation.needs([self._boxes[source]])
                assert mask is not None
            self._done[source] = mask if done is None else mask | done
        return found

    def _refined(
        self, step: Callable[[int, Tensor], tuple[Tensor, Tensor]], number: int, places: Tensor, box: Box
    ) -> Box:
        """The box with the bounds that `step` finds at some flat indices into (*shape)."""
        if is_map(self.graph.nodes[number].shape):
            chunks = chunks_of_tiles(self.graph, number, places, len(self.ball.images), MAX_VALUES)
        else:
            chunks = list(torch.split(places, self._at_once(number)))
        parts = self._in_steps(step, number, chunks)
        places = torch.cat(chunks)
        lower, upper = without_nan(*(torch.cat(each, dim=0).t() for each in zip(*parts, strict=True)))
        old_lower, old_upper = (each.flatten(1) for each in box)
        lower = torch.maximum(lower, old_lower[:, places])
        upper = torch.maximum(torch.minimum(upper, old_upper[:, places]), lower)
        return Box(
            old_lower.index_copy(1, places, lower).view_as(box.lower),
            old_upper.index_copy(1, places, upper).view_as(box.upper),
        )

    def _both(self, number: int, places: Tensor, early: Mapping[int, Box] | None) -> tuple[Tensor, Tensor]:
        """(S, B) lower and upper bounds of the values of a node at some flat indices.

        Args:
            early: boxes of the nodes before it; values that these show to be all above 0, or all below, need no tighter
                bounds. None: every value does.
        """
        shape, size = self.graph.nodes[number].shape, len(places)
        images = self.ball.images
        patch = None
        if is_map(shape):
            patch, places = patch_of(places, shape)
            shape = (*shape[:-2], patch.bottom - patch.top, patch.right - patch.left)
        functions = images.new_zeros(2 * size, 1, _numel(shape), dtype=self._within_network)
        rows = torch.arange(size, device=images.device)
        functions[rows, 0, places], functions[size + rows, 0, places] = 1.0, -1.0
        wanted = functions.view(2 * size, 1, *shape).expand(-1, len(images), *shape)
        if len(shape) == 3:
            wanted = wanted.flatten(0, 1).contiguous(memory_format=torch.channels_last).view_as(wanted)
        if patch != self._tile:
            self._tile, self._cropped = patch, {}
        total = images.new_zeros(2 * size, len(images))
        way = _Way(self._relaxations, patched=True, early=early)
        bounds = self._bounded({number: (wanted, patch)}, total, number, way)
        return bounds[:size], -bounds[size:]

    def _at_once(self, number: int) -> int:
        """Number of values of a node that are bounded in one step."""
        widest = max(_numel(self.graph.nodes[each].shape) for each in self.graph.ancestors(number))
        return max(1, MAX_VALUES // (2 * len(self.ball.images) * widest))

    def _least(self, number: int, functions: Tensor) -> Tensor:
        """(S, B) lower bounds over the ball of functions (S, B, *shape) of a node, in steps."""
        parts = self._in_steps(self._substituted, number, torch.split(functions, 2 * self._at_once(number)))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _in_steps(self, step: Callable[[int, Tensor], T], number: int, chunks: Sequence[Tensor]) -> list[T]:
        """step(number, chunk) for each chunk.

        With gradients and several chunks, intermediate values are recomputed in the backward pass instead of kept, so
        that memory does not add up.
        """
        if len(chunks) == 1 or not torch.is_grad_enabled():
            return [step(number, chunk) for chunk in chunks]
        for node in sorted(self.graph.ancestors(number) - {0}):
            for relaxation, dtype in product(self._relaxations, {self._within_network, self._of_logits}):
                self._plane(node, relaxation, dtype)  # cached for all steps
                if self._outward is not None:
                    self._error(node, relaxation, dtype)
        return [checkpoint(step, number, chunk, use_reentrant=False) for chunk in chunks]

    def _substituted(self, number: int, functions: Tensor) -> Tensor:
        """(S, B) lower bounds over the ball of functions (S, B, *shape) of a node, in one step."""
        total = self.ball.images.new_zeros(functions.shape[:2])
        return self._bounded({number: (functions, None)}, total, number, _Way(self._relaxations))

    def _bounded(self, open_: Open, total: Tensor, last: int, way: "_Way") -> Tensor:
        """(S, B) lower bounds over the ball of functions of nodes up to `last`, plus constants (S, B).

        The relaxations go one way down to the last max pooling, where they begin to differ; the tightest bound counts.
        """
        for each in range(last, 0, -1):
            if each not in open_:
                continue
            operation = self.graph.nodes[each].operation
            if len(way.relaxations) > 1 and isinstance(operation, MaxPool):
                ways = (way._replace(relaxations=(one,)) for one in way.relaxations)
                return torch.maximum(*(self._bounded(dict(open_), total, each, one) for one in ways))
            if way.early and each < last and len(open_) == 1 and not isinstance(operation, Affine):
                early, undecided = self._early(way.early[each], *open_[each], total)
                if len(undecided) <= UNDECIDED * len(early):
                    coefficients, patch = open_[each]
                    rest: Open = {each: (coefficients[undecided], patch)}
                    found = self._bounded(rest, total[undecided], each, way) if len(undecided) else early[:0]
                    return early.index_copy(0, undecided, found)
            total = total + self._pull_back(open_, each, way.relaxations[0], way.patched)
        if 0 not in open_:
            return total
        coefficients, patch = open_[0]
        ball = self.ball if patch is None else self.ball.within(patch)
        least = ball.least(coefficients)
        if self._outward is not None:
            error = gamma(coefficients[0, 0].numel() + SAFETY, torch.float64) * magnitude(ball.around)
            least = least - summed(coefficients.abs().to(error), error)
        return total + least

    def _early(self, box: Box, coefficients: Tensor, patch: Patch | None, total: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds (S, B) from the box of a node, and the rows that are still to be bounded, because the sign of their
        value is not known; the first half of the rows are values, the second half the same values times -1."""
        box = box if patch is None else Box(*(cut(each, patch) for each in box))
        coefficients = coefficients.to(box.lower)
        negative = coefficients.clamp(max=0)
        early = total + summed(coefficients, box.lower) + summed(negative, box.upper - box.lower)
        if self._outward is not None:
            error = gamma(3 * coefficients[0, 0].numel(), torch.float64) * magnitude(box)
            early = early - summed(coefficients.abs(), error)
        decided = (early > 0).view(2, -1, early.shape[1]).any(dim=0).all(dim=1)
        return early, (~decided).repeat(2).nonzero()[:, 0]

    def pulled_back(self, number: int, functions: Tensor, relaxation: str = "adaptive") -> tuple[Tensor | None, Tensor]:
        """Substitute from a node back to the images: coefficients (S, B, C, H, W), None for 0, and constants (S, B)."""
        open_: Open = {number: (functions, None)}
        total = functions.new_zeros(functions.shape[:2])
        for each in range(number, 0, -1):
            if each in open_:
                total = total + self._pull_back(open_, each, relaxation, patched=False)
        return open_[0][0] if 0 in open_ else None, total

    def _pull_back(self, open_: Open, number: int, relaxation: str, patched: bool) -> Tensor:
        """Replace the coefficients of a node by those of its inputs; returns constants (S, B)."""
        coefficients, patch = open_.pop(number)
        node, planes = self.graph.nodes[number], self._plane(number, relaxation, coefficients.dtype)
        assert node.operation is not None
        if patch is not None and node.operation.reach(patch) is None:
            coefficients, patch = placed(coefficients, patch, whole(node.shape)), None
        if patch is not None:
            planes = self._within(planes, (number, relaxation, patch))
        inputs, constants = planes.substitute(coefficients)
        if self._outward is not None:
            error = self._error(number, relaxation, coefficients.dtype)
            constants = constants - summed(coefficients.abs(), error if patch is None else cut(error, patch))
        patches = reached(self.graph, number, patch) if patched else [None] * len(inputs)
        for source, part, where in zip(node.inputs, inputs, patches, strict=True):
            if part is None:
                continue
            if source in open_:
                part, where = _added(open_[source], (part, where))
            open_[source] = part, where
        return constants

    def _within(self, planes: Planes, key: tuple[int, str, Patch]) -> Planes:
        if torch.is_grad_enabled():
            return planes.within(key[2])
        if key not in self._cropped:
            self._cropped[key] = planes.within(key[2])
        return self._cropped[key]

    def _plane(self, number: int, relaxation: str, dtype: torch.dtype) -> Planes:
        key = number, relaxation, dtype
        if key not in self._planes:
            if dtype != self.ball.images.dtype:
                self._planes[key] = cast(self._plane(number, relaxation, self.ball.images.dtype), dtype)
                return self._planes[key]
            node = self.graph.nodes[number]
            assert node.operation is not None
            boxes = [self._boxes[each] for each in node.inputs]
            planes = node.operation.planes(boxes, relaxation)
            if self._outward is not None and isinstance(planes, ConstantPlanes):
                planes = ConstantPlanes(self._boxes[number], planes.inputs)
            self._planes[key] = planes
        return self._planes[key]

    def _error(self, number: int, relaxation: str, dtype: torch.dtype) -> Tensor:
        """(B, *shape) rounding error of the substitution of a node, for coefficients of 1 in this precision."""
        key = number, relaxation, dtype
        if key not in self._errors:
            node = self.graph.nodes[number]
            boxes = [self._boxes[each] for each in node.inputs]
            planes = self._plane(number, relaxation, self.ball.images.dtype)
            found = substitution_error(planes, boxes, node.shape, self._readers, len(self.graph.nodes), dtype)
            self._errors[key] = found.to(dtype)
        return self._errors[key]


class _Way(NamedTuple):
    """How functions are pulled back."""

    relaxations: Sequence[str]
    patched: bool = False
    """Whether coefficients of maps are kept on patches."""
    early: Mapping[int, Box] | None = None
    """Boxes at which rows stop where these tell the sign of their value; None: rows go on to the images. They stay the
    same where a pass is repeated for its gradient, also if later readers have tighter ones."""


def _added(first: tuple[Tensor, Patch | None], second: tuple[Tensor, Patch | None]) -> tuple[Tensor, Patch | None]:
    """Sum of coefficients on two patches, on the smallest patch around both."""
    (one, at), (other, there) = first, second
    if at is None or there is None:
        return one + other, None
    both = union([at, there])
    return placed(one, at, both) + placed(other, there, both), both


def _numel(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
