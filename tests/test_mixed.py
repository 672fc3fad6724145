import math

import pytest
import torch
from torch import Tensor, nn

from autodisp.cells.mixed import Edge, MixedOperation
from autodisp.cells.mixture import Row
from autodisp.cells.operations import OPERATIONS, Style, build_operation, drop_path

ALL = tuple(name for name in OPERATIONS if name != "noise")
DENSE = Style("dense", batch_norm=False)


def mixed(operations: tuple[str, ...], *, stride: int = 1, style: Style = DENSE) -> MixedOperation:
    torch.manual_seed(0)
    return MixedOperation(operations, channels=3, stride=stride, style=style).double()


def weighted(edge: MixedOperation, x: Tensor, weights: Tensor, drop_probability: float = 0.0) -> Tensor:
    y = edge.active_sum(x, Row(weights, None, None), drop_probability)
    assert y is not None
    return y


def images(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 5, 4)), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("style", [Style(), DENSE, Style("dense")])
def test_weighted_sum_against_a_loop(style: Style, stride: int) -> None:
    edge, x = mixed(ALL, stride=stride, style=style), images()
    weights = torch.linspace(-1, 2, len(ALL), dtype=torch.float64)
    expected = torch.zeros(2, 3, -(-5 // stride), -(-4 // stride), dtype=torch.float64)
    for name, weight, trained in zip(ALL, weights.tolist(), edge.operations, strict=True):
        plain = build_operation(name, channels=3, stride=stride, style=style).double()
        if "pool" in name:
            y = plain(x)
            if style.batch_norm:
                deviation = y.var((0, 2, 3), unbiased=False, keepdim=True).add(1e-5).sqrt()
                y = (y - y.mean((0, 2, 3), keepdim=True)) / deviation
        else:
            plain.load_state_dict(trained.state_dict(), strict=False)  # but for running statistics
            y = plain(x)
        expected += weight * y
    torch.testing.assert_close(weighted(edge, x, weights), expected)


def test_gradient_of_a_weight_is_its_operation() -> None:
    edge, x = mixed(ALL), images()
    weights = torch.rand(len(ALL), dtype=torch.float64, requires_grad=True)
    probe = torch.randn_like(x)
    (weighted(edge, x, weights) * probe).sum().backward()
    expected = torch.stack([(operation(x) * probe).sum() for operation in edge.operations])
    torch.testing.assert_close(weights.grad, expected)


def test_padding_columns_are_not_read() -> None:
    edge, x = mixed(("skip_connect", "conv_3x3")), images()
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64)
    padded = torch.cat([weights, torch.full((3,), float("nan"), dtype=torch.float64)]).requires_grad_()
    y = weighted(edge, x, padded)
    assert torch.equal(y, weighted(edge, x, weights))
    (gradient,) = torch.autograd.grad(y.sum(), padded)
    assert (gradient[2:] == 0).all()


def test_none_takes_its_share_of_the_weight_and_adds_nothing() -> None:
    x = images()
    y = weighted(mixed(("none", "skip_connect")), x, torch.tensor([0.75, 0.25], dtype=torch.float64))
    assert torch.equal(y, 0.25 * x)
    alone = weighted(mixed(("none",), stride=2), x, torch.ones(1, dtype=torch.float64))
    assert torch.equal(alone, torch.zeros(2, 3, 3, 2, dtype=torch.float64))


def test_weights_must_cover_the_operations() -> None:
    edge, x = mixed(("skip_connect", "conv_1x1")), images()
    with pytest.raises(ValueError, match="needs its edge weights"):
        edge(x, 0.0)
    with pytest.raises(ValueError, match="2 operations but 1 weights"):
        weighted(edge, x, torch.ones(1, dtype=torch.float64))


def test_second_derivatives_in_the_weights_exist() -> None:
    edge, x = mixed(("skip_connect", "sep_conv_3x3", "avg_pool_3x3"), style=Style()), images(2, 3, 2, 2)
    alphas = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda a: weighted(edge, x, a.softmax(0)).tanh(), (alphas,))


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.8])
def test_drop_path_loses_whole_samples_and_keeps_the_mean(probability: float) -> None:
    torch.manual_seed(2)
    count = 20_000
    x = 1 + torch.rand(count, 2, 1, 2, dtype=torch.float64)
    factors = drop_path(x, probability) / x
    keep = 1 - probability
    kept = (factors[:, 0, 0, 0] > 0).double()
    torch.testing.assert_close(factors, (kept / keep).view(-1, 1, 1, 1).expand_as(x))
    deviation = math.sqrt(keep * probability / count)
    assert abs(kept.mean() - keep) <= 5 * deviation


def test_an_edge_drops_samples_but_never_an_identity() -> None:
    x = images(64, 3, 2, 2)
    identity = Edge("skip_connect", channels=3, stride=1, style=DENSE)
    assert identity(x, 0.9) is x
    convolved = Edge("conv_3x3", channels=3, stride=1, style=DENSE).double()
    y = convolved(x, 0.5)
    lost = (y == 0).flatten(1).all(1)
    assert 0 < lost.sum() < 64
    torch.testing.assert_close(y[~lost], 2 * convolved(x, 0.0)[~lost])
    reducing = Edge("skip_connect", channels=3, stride=2, style=DENSE).double()
    assert (reducing(x, 0.9) == 0).flatten(1).all(1).any()


def test_a_mixed_operation_drops_a_sample_with_all_operations_at_once() -> None:
    edge, x = mixed(("skip_connect", "conv_1x1", "conv_3x3")), images(400, 3, 1, 1)
    weights = torch.ones(3, dtype=torch.float64)
    y, whole = weighted(edge, x, weights, 0.25), weighted(edge, x, weights)
    kept = (y != 0).flatten(1).any(1)
    torch.testing.assert_close(y, torch.where(kept[:, None, None, None], whole / 0.75, 0.0))
    assert abs(kept.double().mean() - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 400)


def test_without_drop_path_no_random_number_is_drawn() -> None:
    edge, x = mixed(ALL), images()
    state = torch.get_rng_state()
    weighted(edge, x, torch.ones(len(ALL), dtype=torch.float64))
    assert torch.equal(torch.get_rng_state(), state)


def test_pooling_is_normalised_only_where_the_style_normalises() -> None:
    for style in (Style(), Style(affine=True), DENSE):
        edge = mixed(("max_pool_3x3", "avg_pool_3x3"), style=style)
        norms = [module for module in edge.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) == (2 if style.batch_norm else 0)
        assert not list(edge.parameters())


@pytest.mark.parametrize("stride", [1, 2])
def test_partial_channels_against_a_loop(stride: int) -> None:
    torch.manual_seed(0)
    names = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "none")
    edge = MixedOperation(names, channels=6, stride=stride, style=Style(), share=3).double()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    through = sum(weight * operation(x[:, :2]) for weight, operation in zip(weights, edge.operations, strict=True))
    passed = x[:, 2:] if stride == 1 else torch.stack([
        torch.stack([x[:, 2:, i : i + 2, j : j + 2].amax((2, 3)) for j in range(0, 4, 2)], -1) for i in range(0, 5, 2)
    ], -2)  # fmt: skip
    channels = list(torch.cat([through, passed], dim=1).unbind(1))
    expected = torch.stack([channels[group * 2 + place] for place in range(2) for group in range(3)], dim=1)
    torch.testing.assert_close(weighted(edge, x, weights), expected)
    row = Row(weights, torch.tensor(0.5, dtype=torch.float64), None)
    torch.testing.assert_close(edge.active_sum(x, row, 0.0), 0.5 * expected)
    assert edge.active_sum(x, Row(weights, None, ()), 0.0) is None, "an edge that was not kept passes nothing on"


def test_a_share_that_does_not_divide_the_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="share is 4 but an edge has 6 channels"):
        MixedOperation(("skip_connect",), channels=6, stride=1, style=Style(), share=4)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_auxiliary_skip_is_added_with_its_factor(stride: int) -> None:
    torch.manual_seed(0)
    edge = MixedOperation(("sep_conv_3x3",), channels=4, stride=stride, style=Style(), auxiliary=True).double()
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    row = Row(torch.tensor([0.7], dtype=torch.float64), None, None)
    assert edge.auxiliary is not None
    found, alone = edge.active_sum(x, row._replace(auxiliary=0.25), 0.0), edge.active_sum(x, row, 0.0)
    assert found is not None
    assert alone is not None
    torch.testing.assert_close(alone, 0.7 * edge.operations[0](x))
    torch.testing.assert_close(found, alone + 0.25 * (x if stride == 1 else edge.auxiliary(x)))
