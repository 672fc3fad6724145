"""Replays the computations of a step as CUDA graphs, since a host launches small kernels more slowly than they run.

A computation is a function of tensors that gives tensors and may leave gradients in parameters. Its first runs for
inputs of some shapes are the warm-up, on a side stream, as torch's notes on CUDA graphs require; then it is recorded
once, and later steps copy their inputs into those of the graph and replay it. The numbers are those of running it.

Only forward pass, loss, metrics and gradients are recorded. Optimizer, clipping and the check for non-finite numbers
remain outside: they are a few dozen launches, so that learning rate and weight decay need not be tensors, and the state
of the optimizers is the same with and without graphs. Random numbers are those of the device's default generator, which
torch registers with every graph: a replay draws the numbers that a run would draw, and advances the generator as far.

Numbers of the host are constants of a graph. A computation names those that it depends on; others need another graph.

The tests of ``Graphs`` replace ``CudaRecorder`` by a tracer; tests/test_cuda.py runs it on a GPU.
"""

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

T = TypeVar("T")

WARM_UPS = 3
"""Runs before the recording; torch's notes take three."""


class CudaRecorder:
    """Records CUDA graphs on the current device, which share their memory: no two of them run at once."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, compute: Callable[[], T], *, draws: bool) -> tuple[T, str | None]:
        """Runs a computation, and returns its result and the reason why it cannot be recorded, if any.

        Args:
            compute: the computation; it cannot be recorded if it waits for the device.
            draws: False if it may not draw random numbers on the device.
        """
        before = torch.cuda.get_rng_state()
        with _waits_noted() as waits, self._aside():
            result = compute()
        if waits:
            return result, f"it waits for the GPU ({waits[0]})"
        drawn = not torch.equal(before, torch.cuda.get_rng_state())
        return result, "it draws random numbers again" if drawn and not draws else None

    def record(self, compute: Callable[[], T]) -> tuple[Callable[[], object], T]:
        """Records a computation without running it; threads that pin memory may allocate it meanwhile.

        Returns:
            A function that replays it, and its result, whose tensors are overwritten by each replay.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = compute()
        return graph.replay, result

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Runs the block on the stream of the recordings, in order with the current one."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)


@contextmanager
def _waits_noted() -> Iterator[list[str]]:
    """Lists where the block waits for the device (FILE:LINE), as far as torch notices it."""
    found: list[str] = []
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(mode)
    for warning in caught:
        text = str(warning.message)
        if "called a synchronizing" in text:
            found.append(f"{Path(warning.filename).name}:{warning.lineno}")
        elif "ynchronization debug mode" not in text:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def recording() -> bool:
    """Returns True while a CUDA graph is being recorded."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


@dataclass
class _Graph:
    """A computation for inputs of some shapes."""

    runs: int = 0
    replay: Callable[[], object] | None = None
    inputs: list[Tensor] = field(default_factory=list)
    result: Any = None
    gradients: list[Tensor | None] = field(default_factory=list)

    def record(
        self,
        recorder: CudaRecorder,
        compute: Callable[..., Any],
        leaves: Sequence[Tensor],
        form: Hashable,
        parameters: Sequence[nn.Parameter],
    ) -> None:
        """Records the computation for inputs of its own, see ``flatten``.

        Raises:
            RuntimeError: it cannot be recorded.
        """
        self.inputs = [x.detach().clone() for x in leaves]
        held = unflatten(form, iter(self.inputs))

        def whole() -> tuple[Any, list[Tensor | None]]:
            result = compute(*held)
            return result, [parameter.grad for parameter in parameters]

        self.replay, (self.result, self.gradients) = recorder.record(whole)

    def replayed(self, leaves: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> Any:
        """Replays the computation for other inputs; returns a copy of its result."""
        assert self.replay is not None
        for into, value in zip(self.inputs, leaves, strict=True):
            into.copy_(value, non_blocking=True)
        self.replay()
        for parameter, gradient in zip(parameters, self.gradients, strict=True):
            parameter.grad = gradient
        tensors, form = flatten(self.result)
        return unflatten(form, iter([tensor.clone() for tensor in tensors]))


class Graphs:
    """The recorded computations of a run.

    Args:
        recorder: None to run everything.
        say: shows a line to the user, once for each computation that cannot be recorded.
    """

    def __init__(self, recorder: CudaRecorder | None = None, say: Callable[[str], object] = str) -> None:
        self._recorder = recorder
        self._say = say
        self._known: dict[str, tuple[Hashable, dict[Hashable, _Graph]]] = {}
        self._refused: set[str] = set()

    def run(
        self,
        name: str,
        compute: Callable[..., T],
        *inputs: Any,
        parameters: Sequence[nn.Parameter] = (),
        constants: Hashable = (),
        draws: bool = True,
        obstacle: str | None = None,
    ) -> T:
        """Runs or replays a computation.

        Args:
            name: of the computation, in the plural, as the user reads it.
            compute: maps the inputs to tensors; both may be nested in tuples, lists and dictionaries.
            inputs: of this run. Everything else that the computation reads must keep its memory, as parameters and
                buffers do, and only change in place.
            parameters: those in which it leaves gradients; they have none before.
            constants: numbers of the host that the computation depends on. Graphs of other numbers are forgotten.
            draws: False if it may not draw random numbers on the device.
            obstacle: why it cannot be recorded this time.

        Returns:
            The result, which later runs do not change; gradients are overwritten by the next run.
        """
        for parameter in parameters:
            parameter.grad = None
        if self._recorder is None or name in self._refused:
            return compute(*inputs)
        if obstacle is not None:
            self._refuse(name, obstacle)
            return compute(*inputs)
        leaves, form = flatten(inputs)
        graph = self._graph(name, constants, (form, *((x.shape, x.stride(), x.dtype) for x in leaves)))
        if graph.replay is None and graph.runs < WARM_UPS:
            graph.runs += 1
            result, why = self._recorder.warm_up(lambda: compute(*inputs), draws=draws)
            if why is not None:
                self._refuse(name, why)
            return result
        if graph.replay is None:
            try:
                graph.record(self._recorder, compute, leaves, form, parameters)
            except RuntimeError as error:
                self._refuse(name, str(error).strip().partition("\n")[0])
                return self.run(name, compute, *inputs, parameters=parameters)
        replayed: T = graph.replayed(leaves, parameters)
        return replayed

    def _graph(self, name: str, constants: Hashable, shapes: Hashable) -> _Graph:
        if name not in self._known or self._known[name][0] != constants:
            self._known[name] = constants, {}
        return self._known[name][1].setdefault(shapes, _Graph())

    def _refuse(self, name: str, why: str) -> None:
        self._refused.add(name)
        self._known.pop(name, None)
        self._say(f"{name} run without CUDA graphs: {why}")


def flatten(tree: Any) -> tuple[list[Tensor], Hashable]:
    """Returns the tensors in nested tuples, lists and dictionaries, and a description of the rest."""
    leaves, structure = tree_flatten(tree)
    rest = tuple(Tensor if isinstance(leaf, Tensor) else leaf for leaf in leaves)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)], (structure, rest)


def unflatten(form: Any, tensors: Iterator[Tensor]) -> Any:
    """Puts tensors back where ``flatten`` found them."""
    structure, rest = form
    return tree_unflatten([next(tensors) if leaf is Tensor else leaf for leaf in rest], structure)
