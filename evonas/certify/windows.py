"""Affine operations on windows of maps: convolutions and average pooling."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor
from torch.nn import functional

from evonas.certify.affine import Affine, Scale, powered
from evonas.certify.graph import Patch
from evonas.certify.patches import Reach, cut, reach_of_windows

__all__ = ["AvgPool", "Conv"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Affine):
    """A two-dimensional convolution, with any stride, padding, dilation and groups."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    size: tuple[int, int]
    """Height and width of the input."""
    kept: tuple[slice, slice] | None = None
    """Rows and columns of the input that `transpose` returns; None: all."""
    bias_terms: Tensor | None = None
    """See `constant_terms`; None: the absolute values of the bias."""

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        weight = powered(self.weight, power)
        return functional.conv2d(inputs[0], weight, None, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        inputs = self._transposed(outputs)
        return [inputs if self.kept is None else inputs[(..., *self.kept)]]

    def _transposed(self, outputs: Tensor) -> Tensor:
        kernel = self.weight.shape[2:]
        reach = [d * (k - 1) for d, k in zip(self.dilation, kernel, strict=True)]
        if self.stride == (1, 1) and all(r >= p for r, p in zip(reach, self.padding, strict=True)):
            around = [r - p for r, p in zip(reach, self.padding, strict=True)]  # faster on a CPU than conv_transpose2d
            return functional.conv2d(outputs, self._turned, None, 1, around, self.dilation, self.groups)
        rest = [
            size - ((out - 1) * stride - 2 * padding + far + 1)
            for size, out, stride, padding, far in zip(
                self.size, outputs.shape[2:], self.stride, self.padding, reach, strict=True
            )
        ]
        return functional.conv_transpose2d(
            outputs, self.weight, None, self.stride, self.padding, rest, self.groups, self.dilation
        )

    @cached_property
    def _turned(self) -> Tensor:
        """Weights of the transpose, written as a convolution."""
        out, into, *kernel = self.weight.shape
        grouped = self.weight.view(self.groups, out // self.groups, into, *kernel).transpose(1, 2)
        return grouped.reshape(self.groups * into, out // self.groups, *kernel).flip(2, 3)

    def scaled(self, scale: Scale) -> "Conv":
        """The convolution and, behind it, a scaling of its channels or of all values, in one."""
        assert scale.factor is not None
        factor, bias, terms = self._of_channels(scale.factor), self.bias, self.constant_terms()
        if bias is not None and terms is not None:
            bias, terms = bias * factor, terms.flatten() * factor.detach().abs()
        shift, more = scale.shift, scale.constant_terms()
        if shift is not None and more is not None:
            shift, more = self._of_channels(shift), self._of_channels(more)
            bias, terms = (shift, more) if bias is None or terms is None else (bias + shift, terms + more)
        return replace(self, weight=self.weight * factor[:, None, None, None], bias=bias, bias_terms=terms)

    def _of_channels(self, values: Tensor) -> Tensor:
        """(out,) values, for those of all channels or for one of all."""
        return values.reshape(-1).expand(len(self.weight))

    def constant(self) -> Tensor | None:
        return None if self.bias is None else self.bias[:, None, None]

    def constant_terms(self) -> Tensor | None:
        return super().constant_terms() if self.bias_terms is None else self.bias_terms[:, None, None]

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [self._reach(patch).patch]

    def within(self, patch: Patch) -> "Conv":
        reach = self._reach(patch)
        return replace(self, size=reach.size, padding=reach.padding, kept=reach.kept)

    def _reach(self, patch: Patch) -> Reach:
        kernel = self.weight.shape[2:]
        return reach_of_windows(patch, kernel, self.stride, self.padding, self.dilation, self.size)


@dataclass(frozen=True, eq=False, kw_only=True)
class AvgPool(Affine):
    """Averages over windows; if padding is not counted, windows at the border average fewer values."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    counts_padding: bool
    divisor: int | None
    channels: int
    size: tuple[int, int]
    """Height and width of the input."""

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        pooled = functional.avg_pool2d(
            inputs[0], self.kernel, self.stride, self.padding, False, self.counts_padding, self.divisor
        )
        return pooled if power < 2 else pooled / self._counts(pooled)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return self._sums(outputs).transpose(outputs / self._counts(outputs))

    def reach(self, patch: Patch) -> list[Patch] | None:
        reach = reach_of_windows(patch, self.kernel, self.stride, self.padding, (1, 1), self.size)
        return [reach.patch]

    def within(self, patch: Patch) -> "_AvgPoolWithin":
        return _AvgPoolWithin(pool=self, patch=patch)

    def _sums(self, like: Tensor) -> Conv:
        """Sums over the windows."""
        return Conv(
            weight=like.new_ones(self.channels, 1, *self.kernel),
            bias=None,
            stride=self.stride,
            padding=self.padding,
            dilation=(1, 1),
            groups=self.channels,
            size=self.size,
        )

    def _counts(self, like: Tensor) -> Tensor:
        """Divisors of the windows' sums: (1, 1, H, W), or () if they are equal."""
        if self.divisor is not None:
            return like.new_tensor(float(self.divisor))
        if self.counts_padding:
            return like.new_tensor(float(math.prod(self.kernel)))
        ones = like.new_ones(1, 1, *self.size)
        shares = functional.avg_pool2d(ones, self.kernel, self.stride, self.padding, False, True, 1)
        return shares.round()


@dataclass(frozen=True, eq=False, kw_only=True)
class _AvgPoolWithin(Affine):
    """The averages of a patch."""

    pool: AvgPool
    patch: Patch

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        counts = cut(self.pool._counts(outputs), self.patch)
        return self.pool._sums(outputs).within(self.patch).transpose(outputs / counts)
