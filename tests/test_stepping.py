"""A step that meets a non-finite number moves nothing, whether the host looks at once or much later."""

import pytest
import torch
from torch import Tensor

from autodisp.run_state import RunState
from autodisp.search.loop import SearchProgress
from autodisp.stepping import ALPHAS, LOSS, WEIGHTS, NotFinite, StepGuard
from tests.programs import same

NAN, INF = float("nan"), float("inf")


class Stream:
    position = 0

    def seek(self, position: int) -> None:
        self.position = position


class Run:
    """Two parameters with an optimizer each, a running statistic and a stream."""

    def __init__(self, *, every: int, fused: bool = True) -> None:
        self.alpha, self.weight = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
        self.statistic = torch.zeros(2)
        self.alphas = torch.optim.Adam([self.alpha], lr=0.1, fused=fused)
        self.weights = torch.optim.SGD([self.weight], lr=0.1, momentum=0.9, weight_decay=0.1, fused=fused)
        self.stream, self.progress = Stream(), SearchProgress(weight_decay=0.0)
        state = RunState(parts={}, streams={"only": self.stream}, progress=self.progress)
        self.guard = StepGuard(state, torch.device("cpu"), every=every)

    def step(self, *, alpha: float = 1.0, loss: float = 1.0, weight: float = 1.0) -> None:
        self.guard.begin([self.alpha, self.statistic], self.alphas)
        self.stream.position += 1
        self.alpha.grad = torch.full((3,), alpha)
        self.guard.note(ALPHAS, [self.alpha.grad])
        self.guard.step(self.alphas)
        self.statistic += torch.rand(2)
        self.weight.grad = torch.full((3,), weight)
        self.guard.note(LOSS, [torch.tensor(loss)])
        self.guard.note(WEIGHTS, [self.weight.grad])
        self.guard.step(self.weights)
        self.progress.step += 1
        self.guard.end()

    def everything(self) -> list[Tensor]:
        state = [*self.alphas.state[self.alpha].values(), *self.weights.state[self.weight].values()]
        tensors = [self.alpha, self.weight, self.statistic, *(x for x in state if isinstance(x, Tensor))]
        numbers = torch.tensor([self.stream.position, self.progress.step])
        return [tensor.detach().clone() for tensor in [*tensors, numbers, torch.get_rng_state()]]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("every", [1, 4, 100])
@pytest.mark.parametrize(
    ("spoilt", "quantity"),
    [({"alpha": NAN}, ALPHAS), ({"loss": INF, "weight": NAN}, LOSS), ({"weight": -INF}, WEIGHTS)],
)
def test_the_run_stands_where_it_stood_before(every: int, fused: bool, spoilt: dict[str, float], quantity: str) -> None:
    run = Run(every=every, fused=fused)
    for _ in range(5):
        run.step()
    before = run.everything()

    def go_on() -> None:
        run.step(**spoilt)
        for _ in range(2):  # nobody has looked yet
            run.step(loss=NAN)
        run.guard.look()

    with pytest.raises(NotFinite) as found:
        go_on()
    assert found.value.quantity == quantity
    assert same(run.everything(), before)
    run.step()  # and goes on from there
    run.guard.look()
    assert not same(run.everything(), before)


@pytest.mark.parametrize("every", [1, 50])
def test_a_first_step_that_is_not_made_leaves_no_memory(every: int) -> None:
    run = Run(every=every)

    def begin() -> None:
        run.step(alpha=NAN)
        run.guard.look()

    with pytest.raises(NotFinite):
        begin()
    assert not run.alphas.state
    assert not run.weights.state
    assert torch.equal(run.alpha, torch.ones(3))


def test_guarded_steps_are_the_optimizers_own() -> None:
    run, plain = Run(every=50), Run(every=1)
    for _ in range(4):
        run.step()
        plain.alpha.grad, plain.weight.grad = torch.ones(3), torch.ones(3)
        plain.alphas.step()
        plain.weights.step()
    assert torch.equal(run.alpha, plain.alpha)
    assert torch.equal(run.weight, plain.weight)


def test_snapshots_do_not_pile_up() -> None:
    run = Run(every=3)
    for _ in range(10):
        run.step()
    assert len(run.guard._snapshots) < 3
