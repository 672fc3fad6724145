import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import CellFactory, FoundCells, MixedCells, set_drop_path
from autodisp.cells.genotype import load, parse
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.networks.classification import ClassificationNetwork
from autodisp.networks.unbuilt import unbuilt


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def on_meta(cells: CellFactory, **arguments: object) -> ClassificationNetwork:
    with unbuilt():
        return ClassificationNetwork(cells, classes=10, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("space", "expected"), [("darts", 1_930_618), ("s2", 665_466)])
def test_search_network_has_the_published_number_of_parameters(space: str, expected: int) -> None:
    network = on_meta(MixedCells(SPACES[space], style=Style()), channels=16, layers=8)
    assert count(network) == expected


@pytest.mark.parametrize(("auxiliary", "expected"), [(False, 3_349_342), (True, 3_825_768)])
def test_evaluation_network_has_the_published_number_of_parameters(auxiliary: bool, expected: int) -> None:
    cells = FoundCells(load("darts_v2"), style=Style(affine=True))
    assert count(on_meta(cells, channels=36, layers=20, auxiliary=auxiliary)) == expected


@pytest.mark.parametrize(
    ("layers", "kinds", "widths"),
    [
        (3, "nrr", [2, 4, 8]),
        (8, "nnrnnrnn", [2, 2, 4, 4, 4, 8, 8, 8]),
        (20, "nnnnnnrnnnnnnrnnnnnn", [2] * 6 + [4] * 7 + [8] * 7),
        (1, "r", [4]),
        (2, "rr", [4, 8]),
    ],
)
def test_reductions_stand_at_a_third_and_two_thirds(layers: int, kinds: str, widths: list[int]) -> None:
    network = on_meta(MixedCells(SPACES["s2"], style=Style()), channels=2, layers=layers)
    assert "".join(cell.kind[0] for cell in network.cells) == kinds
    assert [cell.channels for cell in network.cells] == widths


def build(auxiliary: bool = False, **arguments: object) -> ClassificationNetwork:
    torch.manual_seed(0)
    cells = FoundCells(load("darts_v1"), style=Style(affine=True))
    return ClassificationNetwork(
        cells,
        channels=2,
        layers=3,
        classes=4,
        auxiliary=auxiliary,
        **arguments,  # type: ignore[arg-type]
    )


def supernet() -> tuple[ClassificationNetwork, dict[str, Tensor]]:
    torch.manual_seed(0)
    network = ClassificationNetwork(MixedCells(SPACES["s3"], style=Style()), channels=2, layers=3, classes=4)
    return network, Architecture(SPACES["s3"], scale=1.0).weights()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (7, 9), (32, 32)])
def test_any_image_size(size: tuple[int, int]) -> None:
    network, weights = supernet()
    for training in (True, False):
        scores = network.train(training)(torch.rand(3, 3, *size), weights)
        assert scores.logits.shape == (3, 4)
        assert scores.logits.isfinite().all()
        assert scores.auxiliary is None


def test_images_of_a_batch_do_not_see_each_other_in_eval_mode() -> None:
    network = build().double()
    images = torch.rand(5, 3, 8, 8, dtype=torch.float64)
    network(images)  # moves the statistics away from their start
    network.eval()
    together = network(images).logits
    alone = torch.cat([network(image.unsqueeze(0)).logits for image in images])
    torch.testing.assert_close(together, alone)


def test_a_supernet_needs_weights_and_follows_them() -> None:
    network, weights = supernet()
    images = torch.rand(3, 3, 8, 8)
    with pytest.raises(ValueError, match="pass the architecture's weights"):
        network(images)
    swapped = {kind: table.flip(0) for kind, table in weights.items()}
    assert not torch.allclose(network(images, weights).logits, network(images, swapped).logits)


def test_images_are_normalised_inside() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    plain, normalising = build().double(), build(mean=mean, std=std).double()
    images = torch.rand(4, 3, 8, 8, dtype=torch.float64)
    by_hand = torch.stack([(images[:, k] - mean[k]) / std[k] for k in range(3)], dim=1)
    torch.testing.assert_close(normalising(images).logits, plain(by_hand).logits)


def test_cells_with_none_are_trained_and_give_zeros_there() -> None:
    torch.manual_seed(0)
    pairs = "('none', 0), ('none', 1), ('sep_conv_3x3', 0), ('none', 2), ('skip_connect', 1), ('sep_conv_3x3', 3)"
    cells = f"[{pairs}, ('none', 0), ('skip_connect', 4)]"
    genotype = parse(f"Genotype(normal={cells}, normal_concat=range(2, 6), reduce={cells}, reduce_concat=range(2, 6))")
    network = ClassificationNetwork(
        FoundCells(genotype, style=Style(affine=True)), channels=4, layers=3, classes=3, mean=(0.5,) * 3, std=(0.2,) * 3
    )
    outputs: list[Tensor] = []
    for cell in network.cells:
        cell.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    set_drop_path(network, 0.2)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    loss = functional.cross_entropy(network(torch.rand(4, 3, 9, 9)).logits, torch.tensor([0, 1, 2, 0]))
    loss.backward()
    optimizer.step()
    for cell, output in zip(network.cells, outputs, strict=True):
        assert output[:, : cell.channels].eq(0).all()
        assert output[:, cell.channels :].ne(0).any()
    assert any(not torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))
    assert network.eval()(torch.rand(2, 3, 9, 9)).logits.shape == (2, 3)


def test_auxiliary_head_speaks_while_training_only_and_reaches_its_cell() -> None:
    network = build(auxiliary=True)
    images = torch.rand(2, 3, 32, 32)
    logits, auxiliary = network(images)
    assert auxiliary is not None
    assert auxiliary.shape == logits.shape == (2, 4)
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(auxiliary.sum(), list(parameters.values()), allow_unused=True)
    reached = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
    assert reached == {name for name in parameters if not name.startswith("classifier.")}
    assert network.eval()(images).auxiliary is None


def test_auxiliary_head_belongs_to_small_images() -> None:
    with pytest.raises(ValueError, match=r"needs 8x8 features but got .*: use 32x32 images"):
        build(auxiliary=True)(torch.rand(2, 3, 40, 32))


def test_a_network_without_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="layers is 0"):
        on_meta(MixedCells(SPACES["s2"], style=Style()), channels=2, layers=0)
