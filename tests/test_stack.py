from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import CellFactory, MixedCells, set_drop_path
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.datasets.samples import StereoSample
from autodisp.networks.disparity import DisparityNetwork, Head
from autodisp.networks.refinement import RefinementNetwork
from autodisp.networks.stack import StackedDisparityNetwork
from autodisp.search.supernet import Supernet
from autodisp.tasks.disparity import DisparityTask
from tests.made_models import found_cells
from tests.programs import same

NORMALISED = Style("dense", affine=True)


def awake(network: RefinementNetwork) -> RefinementNetwork:
    """With corrections that are not zero."""
    for layer in network.predict:
        nn.init.normal_(layer.weight, std=0.1)
    return network


def build(
    cells: CellFactory | None = None,
    *,
    refinements: int = 2,
    head: Head = "regression",
    frozen_stages: int = 0,
    to_full_resolution: bool = False,
) -> StackedDisparityNetwork:
    torch.manual_seed(0)
    cells = cells or found_cells()
    first = DisparityNetwork(
        cells, channels=2, stem_scale=1, encoder_cells=2, decoder_cells=2, max_displacement=3, head=head,
        max_disparity=16,
    )  # fmt: skip
    stages = [
        awake(
            RefinementNetwork(
                cells, channels=2, stem_scale=1, encoder_cells=3, decoder_cells=2,
                to_full_resolution=to_full_resolution and index == refinements - 1,
            )
        )
        for index in range(refinements)
    ]  # fmt: skip
    return StackedDisparityNetwork(first, stages, frozen_stages=frozen_stages)


def pairs(height: int, width: int, batch: int = 1) -> StereoSample:
    draw = torch.Generator().manual_seed(1)
    left, right = torch.rand(2, batch, 3, height, width, generator=draw).unbind()
    disparity = 8 * torch.rand(batch, 1, height, width, generator=draw)
    valid = torch.rand(batch, 1, height, width, generator=draw) < 0.8
    return StereoSample(left, right, disparity, valid, ~valid, ~valid)


def task() -> DisparityTask:
    return DisparityTask(channels=2, stem_scale=1)


@pytest.mark.parametrize(
    ("head", "to_full_resolution", "size"),
    [("regression", False, (1, 1)), ("regression", True, (17, 50)), ("matching", False, (32, 48)),
     ("matching", True, (1, 1))],
)  # fmt: skip
def test_the_stack_is_its_stages_one_after_the_other(
    head: Head, to_full_resolution: bool, size: tuple[int, int]
) -> None:
    batch = pairs(*size, batch=2)
    for training in (True, False):
        stack = build(head=head, to_full_resolution=to_full_resolution).train(training)
        first, second, third = stack.stages
        disparity = first(batch.left, batch.right).disparity
        middle = second(batch.left, batch.right, disparity)
        expected = third(batch.left, batch.right, middle.disparity)
        output = stack(batch.left, batch.right)
        assert torch.equal(output.disparity, expected.disparity)
        assert same(output.levels, expected.levels)
        assert output.strides == ((16, 8, 4, 2, 1) if to_full_resolution else (16, 8, 4))
        assert output.disparity.shape == (2, 1, *size)
        assert output.matching is None
        assert stack.stride == first.stride
        assert not torch.allclose(output.disparity, middle.disparity)
        assert training or (output.disparity >= 0).all()


def test_the_task_trains_and_measures_it_like_any_network() -> None:
    batch, stack = pairs(20, 30, 2), build(to_full_resolution=True)
    optimizer = torch.optim.Adam(stack.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = task().loss(stack(*task().inputs(batch)), batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    figures = task().measure(stack.eval()(*task().inputs(batch)), batch)
    error = (stack(batch.left, batch.right).disparity - batch.disparity).abs()[batch.valid]
    total, count = figures["epe"].tolist()
    assert count == error.numel()
    assert total == pytest.approx(error.sum().item(), rel=1e-5)


def gradients_of(stack: StackedDisparityNetwork, batch: StereoSample) -> list[list[Tensor | None]]:
    task().loss(stack(batch.left, batch.right), batch).backward()
    return [[parameter.grad for parameter in stage.parameters()] for stage in stack.stages]


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_gradients_reach_the_stages_that_are_not_frozen(frozen: int) -> None:
    stack = build(frozen_stages=frozen)
    for index, gradients in enumerate(gradients_of(stack, pairs(32, 48))):
        reached = any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
        assert reached == (index >= frozen)
        assert index >= frozen or all(gradient is None for gradient in gradients)
        assert all(parameter.requires_grad == (index >= frozen) for parameter in stack.stages[index].parameters())


def test_no_gradient_passes_between_the_stages() -> None:
    """Each stage has the gradient that its own loss gives it on the disparity of the stage before."""
    stack, batch = build(), pairs(32, 48)
    output = stack(batch.left, batch.right)
    last = [parameter for stage in stack.stages[:2] for parameter in stage.parameters()]
    assert not any(torch.autograd.grad(output.disparity.sum(), last, retain_graph=True, allow_unused=True))
    task().loss(output, batch).backward()
    disparity: tuple[Tensor, ...] = ()
    for stage in stack.stages:
        alone = stage(batch.left, batch.right, *disparity)
        expected = torch.autograd.grad(task().loss(alone, batch), list(stage.parameters()))
        for parameter, gradient in zip(stage.parameters(), expected, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradient)
        disparity = (alone.disparity.detach(),)


@pytest.mark.slow
@pytest.mark.parametrize(("frozen", "head"), [(1, "matching"), (2, "regression")])
def test_training_leaves_frozen_stages_bit_for_bit(frozen: int, head: Head) -> None:
    stack, batch = build(found_cells(NORMALISED), head=head, frozen_stages=frozen), pairs(32, 48, 2)
    set_drop_path(stack, 0.3)
    before = deepcopy(stack.state_dict())
    optimizer = torch.optim.AdamW(stack.parameters(), lr=1e-2, weight_decay=0.1)
    stack.train()
    for _ in range(2):
        optimizer.zero_grad()
        task().loss(stack(batch.left, batch.right), batch).backward()
        optimizer.step()
    kept = [name for name, tensor in stack.state_dict().items() if torch.equal(tensor, before[name])]
    frozen_names = [name for name in before if int(name.split(".")[1]) < frozen]
    assert set(frozen_names) <= set(kept)
    assert any("running_mean" in name for name in frozen_names)
    moved = [name for name in before if name not in kept]
    assert any("running_mean" in name for name in moved)
    assert any(name.startswith(f"stages.{frozen}.") for name in moved)


def test_frozen_stages_are_fixed_functions_in_train_mode() -> None:
    """Eval mode inside, whatever is switched outside: neither the batch nor drop-path acts on them."""
    stack, batch = build(found_cells(NORMALISED), frozen_stages=2), pairs(32, 48, 3)
    assert [stage.training for stage in stack.stages] == [False, False, True]
    set_drop_path(stack, 0.5)
    for mode in (True, False, True):
        stack.train(mode)
        assert [stage.training for stage in stack.stages] == [False, False, mode]
        assert not any(module.training for stage in stack.stages[:2] for module in stage.modules())
        assert stack.training == mode
    given: list[Tensor] = []
    stack.stages[2].register_forward_pre_hook(lambda module, arguments: given.append(arguments[2]))
    left = batch.left.clone().requires_grad_()
    stack(left, batch.right)
    stack(left[:1], batch.right[:1])
    torch.testing.assert_close(given[1], given[0][:1])
    assert all((disparity >= 0).all() and not disparity.requires_grad for disparity in given)


def test_frozen_stages_can_be_trained_again() -> None:
    stack, batch = build(frozen_stages=2), pairs(32, 48)
    stack.freeze(0)
    assert all(stage.training for stage in stack.stages)
    assert all(any(g is not None and g.abs().sum() > 0 for g in stage) for stage in gradients_of(stack, batch))
    stack.eval()
    stack.freeze(1)
    stack.freeze(0)
    assert not any(module.training for module in stack.modules())


def test_a_longer_stack_takes_over_the_state_of_a_shorter_one() -> None:
    batch, shorter, longer = pairs(32, 48), build(refinements=1), build(refinements=2)
    with torch.no_grad():
        for parameter in shorter.parameters():
            parameter.add_(0.01)
    missing = longer.load_state_dict(shorter.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith("stages.2.") for name in missing.missing_keys)
    for layer in longer.stages[2].predict:
        nn.init.zeros_(layer.weight)
    said, expected = longer(batch.left, batch.right).levels[-1], shorter(batch.left, batch.right).disparity
    torch.testing.assert_close(said, torch.nn.functional.avg_pool2d(expected, 4))


def test_a_supernet_of_stages_shares_its_alphas() -> None:
    space = SPACES["autodispnet"]
    stack = build(MixedCells(space, style=Style("dense")), refinements=1, frozen_stages=1)
    supernet = Supernet(task(), stack, Architecture(space))
    batch = pairs(32, 48, 2)
    gradients = torch.autograd.grad(supernet.loss(batch), supernet.alphas)
    assert all(bool(gradient.isfinite().all()) and gradient.abs().sum() > 0 for gradient in gradients)
    before = deepcopy(stack.state_dict())
    assert supernet.evaluate([batch])["epe"] > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in stack.state_dict().items())
    with pytest.raises(ValueError, match="pass the architecture's weights"):
        stack(batch.left, batch.right)


@pytest.mark.parametrize("frozen", [-1, 3, 4])
def test_numbers_of_frozen_stages_that_make_no_sense(frozen: int) -> None:
    with pytest.raises(ValueError, match=f"frozen_stages is {frozen} but must be 0 to 2: of 3 stages the last one"):
        build(frozen_stages=frozen)


def test_a_stack_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="refinements is empty"):
        build(refinements=0)
