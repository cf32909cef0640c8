"""CUDA graphs: the kernels of a step, recorded once and then launched together; other devices take the step itself."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from evonas.errors import EvonasError, choose

__all__ = ["RECORDERS", "SWITCH", "Graphed", "Recorder", "Recording", "Step", "moments", "switched_off"]

Step = Callable[..., tuple[Tensor, ...]]
"""Tensors on one device -> tensors; with no decision that depends on a value, and no wait for the device."""

WARM_UP = 2
"""Calls before the one that is recorded: they create what later ones reuse, such as momentum, and load all kernels."""

SWITCH = "EVONAS_CUDA_GRAPHS"
"""Variable of the environment: `off` takes every step as it is; `auto`, or no variable, records where it can."""


def switched_off() -> bool:
    """Whether the environment turns recording off. UnknownNameError where `SWITCH` has another value."""
    return choose({"auto": False, "off": True}, os.environ.get(SWITCH, "auto"), SWITCH)


class Recording(Protocol):
    """The kernels of one call, with the buffers that they read and write."""

    def replay(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Results for other inputs of the same shapes, overwritten by the next replay."""
        ...


class Recorder(Protocol):
    """Makes recordings on one kind of device."""

    def aside(self, device: torch.device) -> AbstractContextManager[None]:
        """A context for calls before a recording."""
        ...

    def rehearsal(self) -> AbstractContextManager[None]:
        """A context in which waiting for the device is an error, as it is in a recording."""
        ...

    def record(self, step: Step, inputs: Sequence[Tensor], generators: Sequence[torch.Generator]) -> Recording: ...


class Graphed:
    """A step that is replayed as a CUDA graph where a replay gives the same bits as the step itself.

    The first calls run as they are. Then one call runs twice from the same state, as it is and replayed; unless results
    and state agree to the bit, or if it cannot be recorded, a warning says why, and every call runs as it is from then
    on. Inputs of another shape, such as the last batch of an epoch, run as they are, too.

    A recording holds whatever the step decides on the host: rates, modes, probabilities. Where these have changed,
    `renew` it. The step is assumed to decide the same in every call until then: a model that draws from Python's or
    NumPy's random numbers is noticed only where the call and its recording have drawn differently, a coin in half of
    all recordings (`EVONAS_CUDA_GRAPHS=off` is for such models). What it returns, `state` and `generators` are compared
    and put back; whatever else it changes on the device must not decide any of these.

    It keeps no reference to the step, whose memory is so given back with its owner.

    Args:
        what: is stepped, for the warning: `training`.
        warm_up: calls that run as they are, before the one that is recorded.
    """

    def __init__(self, what: str, warm_up: int = WARM_UP) -> None:
        self.what = what
        self.warm_up = warm_up
        self._recording: Recording | None = None
        self._shapes: list[tuple[torch.Size, torch.dtype]] = []
        self._given_up = switched_off()

    def __call__(
        self,
        step: Step,
        *inputs: Tensor,
        state: Callable[[], Sequence[Tensor]] = tuple,
        generators: Sequence[torch.Generator] = (),
    ) -> tuple[Tensor, ...]:
        """Results of the step; they are the caller's own.

        Args:
            step: the same in every call; returns new tensors.
            state: tensors that it changes in place.
            generators: that it draws from.
        """
        recorder = RECORDERS.get(inputs[0].device.type)
        shapes = [(each.shape, each.dtype) for each in inputs]
        if recorder is None or self._given_up or shapes != (self._shapes or shapes):
            return step(*inputs)
        self._shapes = shapes
        if self.warm_up:
            self.warm_up -= 1
            with ExitStack() as stack:
                try:
                    stack.enter_context(recorder.aside(inputs[0].device))
                except RuntimeError as error:
                    self._give_up(_first_line(error))
                return step(*inputs)
        if self._recording is None:
            return self._recorded(recorder, step, inputs, _Snapshot(state(), generators))
        return tuple(each.clone() for each in self._recording.replay(inputs))

    def renew(self) -> None:
        """Forget the recording: the next call makes another one."""
        self._recording, self._shapes = None, []

    def _recorded(
        self, recorder: Recorder, step: Step, inputs: Sequence[Tensor], before: "_Snapshot"
    ) -> tuple[Tensor, ...]:
        """Results of one call, which is recorded and checked by a replay."""
        try:
            with recorder.rehearsal():
                expected = step(*inputs)
            after = before.again()
            recording = recorder.record(step, inputs, before.generators)
            before.restore()
            found = recording.replay(inputs)
            if not (_equal(found, expected) and after.is_present()):
                after.restore()
                self._give_up("a replayed step is not equal to the step itself")
                return expected
        except EvonasError:
            raise
        except Exception as error:  # whatever cannot be recorded; the step itself raises its own errors below
            before.restore()
            self._give_up(_first_line(error.__context__ or error))
            return step(*inputs)
        self._recording = recording
        return expected

    def _give_up(self, why: str) -> None:
        self._given_up = True
        warnings.warn(f"{self.what} runs without a CUDA graph, more slowly: {why}", stacklevel=4)


def moments(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """Everything that an optimiser remembers from step to step."""
    remembered = (value for state in optimiser.state.values() for value in state.values())
    return [value for value in remembered if isinstance(value, Tensor)]


class _Snapshot:
    """Values of tensors and states of generators at one moment."""

    def __init__(self, tensors: Sequence[Tensor], generators: Sequence[torch.Generator]) -> None:
        self.tensors, self.generators = tensors, generators
        self.values = [each.detach().clone() for each in tensors]
        self.drawn = [generator.get_state() for generator in generators]

    def again(self) -> "_Snapshot":
        """The same tensors and generators now."""
        return _Snapshot(self.tensors, self.generators)

    @torch.no_grad()
    def restore(self) -> None:
        for tensor, value in zip(self.tensors, self.values, strict=True):
            tensor.copy_(value)
        for generator, state in zip(self.generators, self.drawn, strict=True):
            generator.set_state(state)

    def is_present(self) -> bool:
        """Whether tensors and generators are now what they were then."""
        drawn = [generator.get_state() for generator in self.generators]
        return _equal(drawn, self.drawn) and _equal(self.tensors, self.values)


def _equal(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether all are equal, NaN to NaN."""
    return all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in zip(found, expected, strict=True))


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


class _CudaRecorder:
    """Records CUDA graphs, on one stream for each device: every further one would keep a workspace of cuBLAS."""

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    @contextmanager
    def aside(self, device: torch.device) -> Iterator[None]:
        stream, current = self._stream(device), torch.cuda.current_stream(device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            yield
        current.wait_stream(stream)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says once that it may overlook some ways of waiting
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def record(self, step: Step, inputs: Sequence[Tensor], generators: Sequence[torch.Generator]) -> "_CudaRecording":
        graph, buffers = torch.cuda.CUDAGraph(), [each.clone() for each in inputs]
        for generator in generators if torch.__version__ < "2.13" else ():  # later versions find them themselves
            graph.register_generator_state(generator)
        stream = self._stream(inputs[0].device)
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # other threads read files
            results = step(*buffers)
        return _CudaRecording(graph, buffers, results)

    def _stream(self, device: torch.device) -> torch.cuda.Stream:
        return self._streams.setdefault(device, torch.cuda.Stream(device))


@dataclass(frozen=True)
class _CudaRecording:
    graph: torch.cuda.CUDAGraph
    buffers: Sequence[Tensor]
    results: tuple[Tensor, ...]

    def replay(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for buffer, given in zip(self.buffers, inputs, strict=True):
            buffer.copy_(given)
        self.graph.replay()
        return self.results


RECORDERS: dict[str, Recorder] = {"cuda": _CudaRecorder()}
"""Kind of device -> its recorder; steps on other devices run as they are."""
