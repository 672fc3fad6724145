"""Graphs of a step by a tracer on the CPU, which makes constants of the host's numbers as a CUDA graph does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from autodisp.graphs import WARM_UPS, Graphs, flatten, unflatten
from autodisp.search.loop import Search
from autodisp.search.relaxations import Dirichlet, Gumbel
from tests.made_searches import make, tensors
from tests.programs import same

T = TypeVar("T")


class Tracer:
    """Records the operations of torch that a computation makes, and replays them on the same memory."""

    def __init__(self, fails: bool = False) -> None:
        self.recorded = 0
        self.fails = fails
        self.memory: list[Tensor] = []
        """Changed by a computation besides its result; a recording leaves it as it was."""

    def warm_up(self, compute: Callable[[], T], *, draws: bool) -> tuple[T, str | None]:
        before = torch.get_rng_state()
        result = compute()
        drawn = not torch.equal(before, torch.get_rng_state())
        return result, "it draws random numbers again" if drawn and not draws else None

    def record(self, compute: Callable[[], T]) -> tuple[Callable[[], object], T]:
        if self.fails:
            raise RuntimeError("operation not permitted\nwhen capturing")
        self.recorded += 1
        form: Any = None

        def traced() -> list[Tensor]:
            nonlocal form
            leaves, form = flatten(compute())
            return leaves

        before, state = [x.detach().clone() for x in self.memory], torch.get_rng_state()
        graph = make_fx(traced)()
        results = [x.detach().clone() for x in graph()]
        for into, value in zip(self.memory, before, strict=True):
            into.detach().copy_(value)
        torch.set_rng_state(state)

        def replay() -> None:
            for into, value in zip(results, graph(), strict=True):
                into.copy_(value)

        return replay, unflatten(form, iter(results))


def test_a_computation_is_recorded_after_its_warm_up_and_replayed_on_new_inputs() -> None:
    tracer, calls = Tracer(), 0
    known = Graphs(tracer)

    def compute(x: Tensor, names: dict[str, Tensor]) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        return {"sum": x + names["a"], "noise": torch.rand(2)}

    results = []
    for step in range(8):
        x = torch.full((2,), float(step))
        torch.manual_seed(step)
        results.append(known.run("steps", compute, x, {"a": 2 * x}))
        torch.manual_seed(step)
        assert torch.equal(results[-1]["noise"], torch.rand(2))
    assert calls == WARM_UPS + 1
    assert tracer.recorded == 1
    assert [result["sum"][0].item() for result in results] == [3.0 * step for step in range(8)]
    for _ in range(WARM_UPS + 1):
        known.run("steps", compute, torch.ones(3), {"a": torch.ones(3)})
    assert tracer.recorded == 2, "one graph for each shape"
    known.run("steps", compute, torch.ones(2), {"a": torch.ones(2)})
    assert tracer.recorded == 2


def test_another_number_of_the_host_is_another_graph() -> None:
    tracer = Tracer()
    known = Graphs(tracer)
    for factor in (2.0, 3.0):
        for _ in range(WARM_UPS + 2):
            result = known.run("steps", lambda x: x * factor, torch.ones(1), constants=factor)  # noqa: B023
            assert result.item() == factor
    assert tracer.recorded == 2


@pytest.mark.parametrize("why", ["operation not permitted", "chosen on the host", "it draws random numbers again"])
def test_what_cannot_be_recorded_runs_and_is_told_once(why: str) -> None:
    lines: list[str] = []
    known = Graphs(Tracer(fails=why.startswith("operation")), lines.append)
    weight = nn.Parameter(torch.ones(()))

    def compute(x: Tensor) -> Tensor:
        (weight * x).backward()
        return x + (torch.rand(()) if "random" in why else 0.0)

    for step in range(6):
        x = torch.tensor(float(step))
        known.run(
            "steps",
            compute,
            x,
            parameters=[weight],
            draws="random" not in why,
            obstacle=why if why.startswith("chosen") else None,
        )
        assert weight.grad == step
    assert lines == [f"steps run without CUDA graphs: {why}"]


def test_without_a_recorder_everything_runs() -> None:
    assert [Graphs().run("steps", torch.add, torch.ones(()), torch.tensor(step)).item() for step in range(6)] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]


def test_nested_tensors_return_to_their_places() -> None:
    tree = {"a": torch.ones(1), "b": [None, (torch.zeros(2), "name")]}
    leaves, form = flatten(tree)
    assert [len(leaf) for leaf in leaves] == [1, 2]
    back = unflatten(form, iter(leaves))
    assert back["a"] is tree["a"]
    assert back["b"][0] is None
    assert back["b"][1][1] == "name"
    hash(form)


def searched(folder: Path, recorder: Tracer | None, *, relaxation: Any = None, **settings: Any) -> Search:
    search, _ = make(folder, **settings)
    lines: list[str] = []
    search.graphs = Graphs(recorder, lines.append)
    if recorder is not None:
        recorder.memory = [*search.supernet.network.buffers()]
    if relaxation is not None:
        search.supernet.relaxation = relaxation
    search.run()
    assert bool(lines) == (recorder is not None and isinstance(relaxation, Gumbel))
    return search


ORDERS = [
    ("first", None, {"epochs": 2}),
    ("finite_difference", None, {"steps_per_epoch": 5}),
    ("first", Dirichlet(), {}),
    ("first", Gumbel(), {}),
    ("first", None, {"auxiliary": True, "steps_per_epoch": 5}),
    ("first", None, {"share": 2}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("order", "relaxation", "more"), ORDERS)
def test_a_search_is_bitwise_the_same_with_graphs(tmp_path: Path, order: str, relaxation: Any, more: Any) -> None:
    settings = {"epochs": 1, "steps_per_epoch": 6, "order": order, "curvature_every": 5, **more}
    tracer = Tracer()
    plain = searched(tmp_path / "plain", None, relaxation=relaxation, **settings)
    recorded = searched(tmp_path / "graphs", tracer, relaxation=relaxation, **settings)
    assert same(tensors(plain), tensors(recorded))
    assert (tracer.recorded > 0) == (not isinstance(relaxation, Gumbel))
