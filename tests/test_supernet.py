"""Task, network and alphas together: what a loss is a function of, and what a measurement leaves alone."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from autodisp.cells.architecture import Architecture, single_path
from autodisp.cells.cell import Cell, MixedCells, set_drop_path
from autodisp.cells.genotype import Genotype, derive
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES, CellSpace, EdgeSpace, SearchSpace, dense_cell
from autodisp.datasets.samples import LabelledImage, StereoSample
from autodisp.search.relaxations import Partial
from autodisp.search.supernet import Supernet
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask
from tests.programs import differences, same

BOTH = pytest.mark.parametrize("task", ["classification", "disparity"])


def images(*sizes: int, seed: int = 0) -> list[LabelledImage]:
    """Batches of so many images; labels 0 to 2."""
    draw = torch.Generator().manual_seed(seed)
    return [
        LabelledImage(torch.rand(n, 3, 8, 8, generator=draw), torch.randint(3, (n,), generator=draw)) for n in sizes
    ]


def pairs(*sizes: int, seed: int = 0) -> list[StereoSample]:
    """Batches of so many pairs, of which a different share of pixels is known."""
    draw = torch.Generator().manual_seed(seed)
    batches = []
    for index, n in enumerate(sizes):
        left, right = torch.rand(2, n, 3, 32, 48, generator=draw).unbind()
        valid = torch.rand(n, 1, 32, 48, generator=draw) < (0.9, 0.2, 0.6)[index % 3]
        disparity = 8 * torch.rand(n, 1, 32, 48, generator=draw) * valid
        batches.append(StereoSample(left, right, disparity, valid, ~valid, ~valid))
    return batches


def batches_of(task: str, *sizes: int) -> list[Any]:
    return images(*sizes) if task == "classification" else pairs(*sizes)


def make(task: str, *, seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    if task == "classification":
        space = SPACES["tiny81"]
        built: Any = ClassificationTask(channels=2, layers=3, classes=3, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    else:
        space = SPACES["autodispnet"]
        built = DisparityTask(
            channels=2, stem_scale=2.0, encoder_cells=2, decoder_cells=2, max_displacement=2, max_disparity=12,
            head="regression" if task == "regression" else "matching",
        )  # fmt: skip
    network = built.build_network(MixedCells(space, style=Style(flavour=space.flavour)))
    # alphas far enough from zero that the edge weights differ
    return Supernet(built, network, Architecture(space, seed=seed, scale=0.5))


def state(supernet: Supernet) -> dict[str, Tensor]:
    tensors = {**supernet.network.state_dict(), **supernet.architecture.state_dict(prefix="alphas.")}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@BOTH
def test_own_parameters_given_by_name_change_nothing(task: str) -> None:
    supernet = make(task)
    (batch,) = batches_of(task, 3)
    own = dict(supernet.network.named_parameters())
    plain, by_name = supernet.loss(batch), supernet.loss(batch, own)
    assert torch.equal(plain, by_name)
    leaves = [*supernet.alphas, *own.values()]
    assert same(torch.autograd.grad(plain, leaves), torch.autograd.grad(by_name, leaves))


@BOTH
def test_other_parameters_are_those_of_another_network(task: str) -> None:
    supernet = make(task)
    (batch,) = batches_of(task, 3)
    own = {name: weight.detach().clone() for name, weight in supernet.network.named_parameters()}
    draw = torch.Generator().manual_seed(1)
    others = {name: weight + 0.1 * torch.randn(weight.shape, generator=draw) for name, weight in own.items()}
    leaves = {name: weight.clone().requires_grad_() for name, weight in others.items()}
    loss = supernet.loss(batch, leaves)
    twin = make(task)
    twin.network.load_state_dict({**twin.network.state_dict(), **others})
    assert torch.equal(loss, twin.loss(batch))
    assert not torch.equal(loss, supernet.loss(batch))
    loss.backward()
    assert all(leaf.grad is not None for leaf in leaves.values())
    assert all(weight.grad is None for weight in supernet.network.parameters())
    assert same(supernet.network.parameters(), own.values())


@pytest.mark.parametrize("task", ["classification", "disparity", "regression"])
def test_every_weight_and_every_alpha_has_a_part_in_the_loss(task: str) -> None:
    supernet = make(task)
    (batch,) = batches_of(task, 2)
    names = [*dict(supernet.network.named_parameters()), *supernet.architecture.alphas]
    leaves = [*supernet.network.parameters(), *supernet.alphas]
    gradients = torch.autograd.grad(supernet.loss(batch), leaves, allow_unused=True)
    assert [name for name, gradient in zip(names, gradients, strict=True) if gradient is None] == []
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert all(bool(gradient.any()) for gradient in gradients[-len(supernet.alphas) :])


def test_accuracy_is_pooled_over_uneven_batches() -> None:
    supernet, batches = make("classification"), images(5, 3, 1)
    right, losses = 0, []
    for batch in batches:
        logits = deepcopy(supernet.network)(batch.image, supernet.architecture.weights()).logits.detach()
        chosen = [max(range(3), key=row.__getitem__) for row in logits.tolist()]
        right += sum(k == label for k, label in zip(chosen, batch.label.tolist(), strict=True))
        picked = torch.log_softmax(logits.double(), dim=1).gather(1, batch.label[:, None])
        losses.append(-picked.mean().item())
    assert 0 < right < 9
    figures = supernet.evaluate(batches)
    assert figures["accuracy"] == pytest.approx(100 * right / 9, rel=1e-12)
    assert figures["loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert figures.keys() == {"loss", "accuracy"}


def test_errors_are_pooled_over_the_known_pixels() -> None:
    """Batches differ in size and in their share of known pixels: a mean of their means is another figure."""
    supernet, batches = make("disparity"), pairs(3, 2, 1)
    errors, means = [], []
    for batch in batches:
        output = deepcopy(supernet.network)(batch.left, batch.right, supernet.architecture.weights())
        error = (output.disparity.detach().clamp(min=0) - batch.disparity).abs()[batch.valid].tolist()
        errors += error
        means.append(sum(error) / len(error))
    figures = supernet.evaluate(batches)
    assert figures["epe"] == pytest.approx(sum(errors) / len(errors), rel=1e-6)
    assert abs(sum(means) / 3 - figures["epe"]) > 1e-4 * figures["epe"]
    assert figures["bad2"] == pytest.approx(100 * sum(error > 2 for error in errors) / len(errors), rel=1e-12)


@BOTH
def test_evaluate_leaves_everything_as_it_is(task: str) -> None:
    supernet = make(task)
    set_drop_path(supernet.network, 0.4)
    before, random = state(supernet), torch.get_rng_state()
    assert any("running_mean" in name for name in before)
    modes = [module.training for module in supernet.network.modules()]
    supernet.evaluate(batches_of(task, 3, 2))
    assert differences(before, state(supernet)) == []
    assert torch.equal(random, torch.get_rng_state())
    assert [module.training for module in supernet.network.modules()] == modes
    cells = [module for module in supernet.network.modules() if isinstance(module, Cell)]
    assert {cell.drop_probability for cell in cells} == {0.4}
    assert all(leaf.grad is None for leaf in [*supernet.network.parameters(), *supernet.alphas])


@BOTH
def test_evaluate_depends_on_weights_and_alphas_alone(task: str) -> None:
    """Neither on drop-path, nor on the random state, nor on running statistics that lag behind."""
    supernet, batches = make(task), batches_of(task, 3, 2)
    first = supernet.evaluate(batches)
    set_drop_path(supernet.network, 0.9)
    for name, buffer in supernet.network.named_buffers():
        if "running" in name:
            buffer.fill_(7.0)
    torch.manual_seed(99)
    assert supernet.evaluate(batches) == first
    with torch.no_grad():
        supernet.alphas[0].mul_(-2)
    assert supernet.evaluate(batches) != first


@BOTH
def test_predict_has_no_gradient(task: str) -> None:
    supernet = make(task)
    (batch,) = batches_of(task, 2)
    with torch.enable_grad():
        output = supernet.predict(batch)
    tensors = [entry for entry in output if isinstance(entry, Tensor)]
    assert tensors
    assert not any(tensor.requires_grad for tensor in tensors)
    assert supernet.output(batch)[0].requires_grad
    assert torch.equal(output[0], supernet.output(batch)[0])


def test_predict_cleans_up_after_a_batch_that_does_not_fit() -> None:
    supernet = make("classification")
    set_drop_path(supernet.network, 0.3)
    (batch,) = images(2)
    norms = [module for module in supernet.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    before = [norm.track_running_stats for norm in norms]
    assert any(before)
    with pytest.raises(RuntimeError):
        supernet.predict(batch._replace(image=batch.image[:, :2]))
    assert [norm.track_running_stats for norm in norms] == before
    assert {cell.drop_probability for cell in supernet.network.modules() if isinstance(cell, Cell)} == {0.3}
    assert torch.is_grad_enabled()


def test_discretised_weights_are_those_written_by_hand() -> None:
    """tiny81 keeps both edges of its only node; its operations are max-pool, skip and convolution."""
    supernet = make("classification")
    with torch.no_grad():
        supernet.architecture.alphas["normal"].copy_(torch.tensor([0.0, 0.0, 3.0, 0.0, 4.0, 0.0]))
        supernet.architecture.alphas["reduce"].copy_(torch.tensor([3.0, 0.0, 0.0, 0.0, 0.0, 4.0]))
    by_hand = {
        "normal": torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
        "reduce": torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
    }
    assert differences(dict(supernet.discretised()), by_hand) == []
    batches = images(3, 2)
    assert supernet.evaluate(batches, by_hand) == pytest.approx(supernet.evaluate(batches, supernet.discretised()))
    assert supernet.evaluate(batches, by_hand) != supernet.evaluate(batches)


def test_discretised_weights_drop_edges_and_skip_none() -> None:
    """Of three edges two stay; ``none`` never does, however heavy; an edge with fewer operations has padding."""
    node = (
        EdgeSpace(0, ("none", "skip_connect", "conv_1x1")),
        EdgeSpace(1, ("skip_connect",)),
        EdgeSpace(2, ("conv_1x1", "none")),
    )
    first = (EdgeSpace(0, ("skip_connect",)), EdgeSpace(1, ("none", "conv_1x1")))
    normal = CellSpace(kind="normal", nodes=(first, node), keep=(1, 2))
    reduce = dense_cell("reduce", nodes=1, operations=("max_pool_3x3",))
    space = SearchSpace(name="mine", flavour="darts", cells={"normal": normal, "reduce": reduce})
    torch.manual_seed(0)
    task = ClassificationTask(channels=2, layers=3, classes=3, mean=(0, 0, 0), std=(1, 1, 1))
    supernet = Supernet(task, task.build_network(MixedCells(space, style=Style())), Architecture(space))
    with torch.no_grad():
        # one operation weighs 1 whatever its alpha; on both edges that go, none outweighs the rest
        supernet.architecture.alphas["normal"].copy_(torch.tensor([0.0, 9.0, 0.0, 5.0, 1.0, 2.0, 0.0, 4.0, 0.0]))
    zeros, ones = torch.zeros(3), torch.eye(3)
    by_hand = torch.stack([ones[0], zeros, zeros, ones[0], ones[0]])
    assert torch.equal(supernet.discretised()["normal"], by_hand)
    assert torch.equal(supernet.discretised()["reduce"], torch.ones(2, 1))


def test_the_discretised_supernet_has_neither_edges_left_out_nor_auxiliary_skips() -> None:
    torch.manual_seed(0)
    space = SPACES["tiny81"]
    cells = MixedCells(space, style=Style(), share=2, auxiliary=True)
    cell = cells.encoder_cell("normal", inputs=(3, 3), channels=4, after_reduction=False)
    x = torch.randn(2, 3, 6, 6)
    inputs = [prepare(x) for prepare in cell.prepare]
    genotype = Genotype("tiny81", space.sample(3))
    path = single_path(space, genotype, torch.device("cpu"))
    expected = 0.0
    for name, source in genotype.cells["normal"][0]:
        edge = cell.edges[source]
        place = space.cells["normal"].edges[source].operations.index(name)
        through = edge.operations[place](inputs[source][:, :2])
        expected = expected + torch.cat([through, inputs[source][:, 2:]], dim=1)[:, [0, 2, 1, 3]]
    torch.testing.assert_close(cell((x, x), path), expected)


def test_cells_are_derived_by_the_product_of_both_weights() -> None:
    architecture = Architecture(SPACES["s2"], seed=1, scale=2.0, edges=True)
    mixture = Partial().mean(architecture)
    product = {kind: architecture.edge_weights()[kind][:, None] * architecture.weights()[kind] for kind in mixture}
    network = torch.nn.Linear(1, 1)
    supernet = Supernet(None, network, architecture, Partial())  # type: ignore[arg-type]
    assert supernet.genotype() == derive(SPACES["s2"], product)
    assert supernet.genotype() != derive(SPACES["s2"], architecture.weights())
    assert [len(alphas) for alphas in supernet.alphas] == [28, 28, 14, 14]
