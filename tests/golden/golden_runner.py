"""Command lines one after the other in one process, whose arithmetic is the same on every x86-64 machine.

    python golden_runner.py < requests > answers

A request is a line of JSON: the words of an `evonas` command line (the first word `imagenet` stands for
experiments/imagenet_cells.py), or null for a digest of how torch rounds here. An answer is a line of JSON: `code`,
`out` and `err` of the command, or `rounding`.
"""

import base64
import contextlib
import hashlib
import io
import json
import lzma
import os
import runpy
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["ENVIRONMENT", "FIXTURES", "Answer", "Runner", "restore", "started"]

FIXTURES = Path(__file__).resolve().parent / "fixtures"

ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "default",  # torch's own loops, without AVX
    "ONEDNN_MAX_CPU_ISA": "SSE41",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # matrix products, on other makers' processors, too
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "MPLBACKEND": "Agg",
    "COLUMNS": "200",
}
"""Each of the first three changes how torch rounds; together they keep AVX2, AVX-512 and AMX out of every result."""


PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
"""A PNG file of one pixel, which stands for every picture."""


class Answer(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def restore(kind: str, state: str, root: Path, shared: Sequence[str] = ()) -> None:
    """Put the folder of a run, as it was in some state, into ROOT/KIND; what it reads is below ROOT.

    Args:
        shared: files that the state has in common with the finished run, which are stored there alone.
    """
    sources = {path.relative_to(FIXTURES / kind / state): path for path in (FIXTURES / kind / state).rglob("*")}
    for name, source in (sources | {Path(name): FIXTURES / kind / "finished" / name for name in shared}).items():
        target = root / kind / name
        if source.is_dir():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".xz":
            target.with_suffix("").write_bytes(lzma.decompress(source.read_bytes()))
        else:
            target.write_bytes(source.read_bytes().replace(b"@FIXTURES@", str(root).encode()))


def started(folder: Path) -> subprocess.Popen[str]:
    """A process that reads requests, in this working folder."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | ENVIRONMENT,
    )


class Runner:
    """A process that runs one command after the other, until it is closed.

    Args:
        seconds: what takes longer is killed, and raises TimeoutError.
    """

    def __init__(self, folder: Path, seconds: float = 300) -> None:
        self.process = started(folder)
        self.seconds = seconds

    def __call__(self, words: Sequence[str]) -> Answer:
        return Answer(**self._ask(list(words)))

    def rounding(self) -> str:
        """Digest of how torch rounds there; machines with the same one give the same results, bit for bit."""
        return str(self._ask(None)["rounding"])

    def close(self) -> None:
        self.process.communicate()

    def _ask(self, request: list[str] | None) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        timer = threading.Timer(self.seconds, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise TimeoutError(f"no answer within {self.seconds:g} s, or the process ended: {request}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _serve() -> None:
    from matplotlib.figure import Figure

    answers = sys.stdout
    setattr(Figure, "savefig", _draw)  # noqa: B010
    for line in sys.stdin:
        words = json.loads(line)
        answer = {"rounding": _rounding()} if words is None else _run(words)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _draw(figure: Any, file: Any, **options: Any) -> None:
    """A pixel: drawing would take a third of the time, and no picture is compared."""
    if hasattr(file, "write"):
        file.write(PIXEL)
    else:
        Path(file).write_bytes(PIXEL)


def _run(words: list[str]) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = _script(words[1:]) if words[0] == "imagenet" else _main(words)
        except Exception:
            code = -1
            traceback.print_exc()
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def _main(words: list[str]) -> int:
    from evonas.cli import main

    return main(words)


def _script(words: list[str]) -> int:
    import evonas

    script = Path(evonas.__file__).parents[1] / "experiments" / "imagenet_cells.py"
    before, sys.argv = sys.argv, [str(script), *words]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def _rounding() -> str:
    """Of forward and backward passes of every kind of layer, by torch alone: no code of evonas is in it."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    drawn = torch.Generator().manual_seed(0)
    layers = [
        *(nn.Conv2d(4, 4, size, padding=size // 2, groups=groups) for size in (1, 3, 5) for groups in (1, 4)),
        *(nn.Conv2d(4, 4, size, padding=size - 1, dilation=2, groups=4) for size in (3, 5)),
        nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Sequential(nn.Flatten(), nn.Linear(4096, 10), nn.Linear(10, 10), nn.LogSoftmax(1)),
    ]
    digest = hashlib.sha256()
    for layer in layers:
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=drawn) / 8)
        first = next((each for each in layer.modules() if isinstance(each, nn.Conv2d)), None)
        for form in (torch.contiguous_format, torch.channels_last):
            images = torch.randn(10, 4 if first is None else first.in_channels, 32, 32, generator=drawn)
            images = images.contiguous(memory_format=form).requires_grad_()
            values = layer(images)
            loss = values.square().mean().sqrt()
            for tensor in (values, *torch.autograd.grad(loss, [images, *layer.parameters()])):
                digest.update(tensor.detach().contiguous().numpy().tobytes())
    for values in (torch.randn(1000, generator=drawn), torch.randn(1000, generator=drawn, dtype=torch.float64)):
        for tensor in (values.exp(), values.softmax(0), values.sigmoid(), values.sum(), values.norm(), values @ values):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    _serve()
