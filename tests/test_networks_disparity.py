import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import CellFactory, MixedCells
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES, SearchSpace, dense_cell
from autodisp.networks.disparity import DisparityNetwork, Head
from autodisp.networks.unbuilt import unbuilt
from tests.made_models import PLAIN, found_cells


def build(cells: CellFactory | None = None, *, head: Head = "regression", **arguments: object) -> DisparityNetwork:
    torch.manual_seed(0)
    numbers = {"channels": 2, "stem_scale": 1, "max_displacement": 4, "max_disparity": 32, "head": head, **arguments}
    return DisparityNetwork(cells or found_cells(), **numbers).double()  # type: ignore[arg-type]


def pair(height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    left, right = torch.rand(2, batch, 3, height, width, generator=generator, dtype=torch.float64)
    return left, right


def test_topology_is_the_published_one() -> None:
    with unbuilt():
        network = DisparityNetwork(found_cells(), channels=42, stem_scale=64 / 42)
    convolutions = [layer for layer in network.stem.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.stride) for c in convolutions] == [
        (64, (7, 7), (2, 2)),
        (128, (5, 5), (2, 2)),
    ]
    assert [cell.kind[0] for cell in network.encoder] == list("nrnrnr")
    assert [cell.channels for cell in network.encoder] == [84, 168, 168, 336, 336, 672]
    assert [cell.channels for cell in network.decoder] == [336, 168, 84, 42]
    assert {cell.kind for cell in network.decoder} == {"upsample"}
    assert [layer.kernel_size for layer in network.predict] == [(3, 3)] * 5
    assert network.stride == 64


def published_graph(network: DisparityNetwork, left: Tensor, right: Tensor) -> list[Tensor]:
    """The predictions by the released code's order: one store of features, keyed by resolution."""
    store = {}
    left_stem, right_stem = network.stem[0](left - 0.4), network.stem[0](right - 0.4)
    store[1] = left_stem
    left_stem, right_stem = network.stem[1](left_stem), network.stem[1](right_stem)
    store[2] = left_stem
    a, b = (network.siamese((view, view), None) for view in (left_stem, right_stem))
    store[3] = a
    reach = network.max_displacement
    correlation = torch.zeros(1, 2 * reach + 1, *a.shape[-2:], dtype=a.dtype)
    for displacement in range(-reach, reach + 1):
        for x in range(a.shape[-1]):
            if 0 <= x - displacement < a.shape[-1]:
                product = (a[..., x] * b[..., x - displacement]).mean(1)
                correlation[:, displacement + reach, :, x] = product.clamp(min=0)
    s0, s1 = torch.cat([a, b], dim=1), correlation
    level = 3
    for cell in network.encoder:
        s0, s1 = s1, cell((s0, s1), None)
        if cell.kind == "reduce":
            level += 1
            store[level] = s1
    predictions = [network.predict[0](s1)]
    s0 = s1
    for cell, predict in zip(network.decoder, network.predict[1:], strict=True):
        level -= 1
        support = store[level]
        given = functional.interpolate(0.05 * predictions[-1].clamp(min=0), support.shape[-2:], mode="bilinear")
        s0, s1 = s1, cell((s0, s1, given, support), None)
        predictions.append(predict(s1))
    return predictions


def test_upsampling_cells_read_the_published_features() -> None:
    network, old = build(), build(support="normal")
    with torch.no_grad():
        for number, (parameter, same) in enumerate(zip(network.parameters(), old.parameters(), strict=True)):
            index = torch.arange(parameter.numel(), dtype=torch.float64).view_as(parameter)
            parameter.add_(0.02 * torch.sin(index + number))
            same.copy_(parameter)
        left, right = pair(128, 128)
        expected = published_graph(network, left, right)
        levels, others = network(left, right).levels, old(left, right).levels
    for level, other, wanted in zip(levels, others, expected, strict=True):
        torch.testing.assert_close(level, wanted)
        assert level is levels[0] or not torch.allclose(level, other, rtol=1e-3)


def test_untrained_and_without_normalisation_it_predicts_less_than_a_pixel() -> None:
    torch.manual_seed(0)
    network = DisparityNetwork(found_cells(), channels=18, stem_scale=2)
    with torch.no_grad():
        output = network(*(view.float() for view in pair(64, 128)))
    assert max(float(level.abs().mean()) for level in output.levels) < 1


@pytest.mark.parametrize("head", ["regression", "matching"])
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (65, 3), (64, 128), (31, 97)])
def test_any_image_size(head: Head, size: tuple[int, int]) -> None:
    network = build(head=head)
    left, right = pair(*size)
    padded = [-(-side // 64) * 64 for side in size]
    for training in (True, False):
        with torch.no_grad():
            output = network.train(training)(left, right)
        assert output.disparity.shape == (1, 1, *size)
        assert output.strides == (64, 32, 16, 8, 4)
        for level, stride in zip(output.levels, output.strides, strict=True):
            assert level.shape == (1, 1, padded[0] // stride, padded[1] // stride)
        assert all(tensor.isfinite().all() for tensor in (output.disparity, *output.levels))
        assert training or (output.disparity >= 0).all()
        assert (output.matching is None) == (head == "regression")
    if output.matching is not None:
        assert output.matching.logits.shape == (1, 9, padded[0] // 4, padded[1] // 4)
        assert output.levels[-1] is output.matching.disparity


@pytest.mark.parametrize("head", ["regression", "matching"])
@pytest.mark.parametrize(("encoder_cells", "decoder_cells"), [(2, 1), (2, 2), (4, 1), (4, 3), (6, 2)])
def test_shorter_networks(head: Head, encoder_cells: int, decoder_cells: int) -> None:
    network = build(head=head, encoder_cells=encoder_cells, decoder_cells=decoder_cells)
    output = network(*pair(32, 64))
    coarsest = 8 * 2 ** (encoder_cells // 2)
    strides = [coarsest // 2**index for index in range(decoder_cells + 1)]
    if head == "matching":
        strides[-1] = 4
    assert output.strides == tuple(strides)
    assert output.disparity.shape == (1, 1, 32, 64)


@pytest.mark.parametrize(
    ("head", "style"),
    [("regression", PLAIN), ("matching", Style("dense")), ("regression", Style()), ("matching", Style(affine=True))],
)
def test_every_flavour_and_the_supernet(head: Head, style: Style) -> None:
    space = SPACES["autodispnet"]
    network = build(MixedCells(space, style=style), head=head, encoder_cells=2, decoder_cells=2)
    weights = Architecture(space).double().weights()
    output = network(*pair(32, 32, batch=2), weights)
    assert output.disparity.isfinite().all()
    with pytest.raises(ValueError, match="pass the architecture's weights"):
        network(*pair(32, 32, batch=2))


def test_dark_pixels_reach_the_darts_flavour_too() -> None:
    """Half of the normalised image is negative: an activation before the first convolution would lose it."""
    network = build(MixedCells(SPACES["autodispnet"], style=Style()), encoder_cells=2, decoder_cells=1)
    dark = 0.3 * torch.rand(2, 3, 32, 32, dtype=torch.float64)
    features = network.stem(dark - 0.4)
    assert not torch.allclose(features, network.stem(0.5 * dark - 0.4))
    assert features.std() > 0


def first_inputs(network: DisparityNetwork, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """What the encoder starts from: both views' features, and their correlation."""
    seen: list[tuple[Tensor, Tensor]] = []
    hook = network.encoder[0].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        network(left, right)
    hook.remove()
    return seen[0]


def test_the_views_are_treated_alike() -> None:
    network = build(max_displacement=6, encoder_cells=2, decoder_cells=1)
    left, right = pair(32, 64)
    features, correlation = first_inputs(network, left, right)
    swapped_features, swapped = first_inputs(network, right, left)
    a, b = features.chunk(2, dim=1)
    torch.testing.assert_close(swapped_features, torch.cat([b, a], dim=1))
    assert correlation.shape == (1, 13, 4, 8)
    for displacement in range(-6, 7):
        for x in range(8):
            here = correlation[0, displacement + 6, :, x]
            if 0 <= x - displacement < 8:
                there = functional.relu((a[0, :, :, x] * b[0, :, :, x - displacement]).mean(0))
                torch.testing.assert_close(here, there)
                torch.testing.assert_close(here, swapped[0, 6 - displacement, :, x - displacement])
            else:
                assert (here == 0).all()


@pytest.mark.parametrize("head", ["regression", "matching"])
def test_padding_leaves_no_trace_at_sizes_that_fit(head: Head) -> None:
    network = build(head=head, encoder_cells=2, decoder_cells=2).eval()
    left, right = pair(29, 61)
    by_hand = (functional.pad(view, (0, 3, 0, 3), mode="replicate") for view in (left, right))
    torch.testing.assert_close(network(left, right).disparity, network(*by_hand).disparity[..., :29, :61])


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    network = build(encoder_cells=2, decoder_cells=2)
    left, right = pair(32, 32, batch=3)
    together = network(left, right).disparity
    alone = torch.cat([network(left[i : i + 1], right[i : i + 1]).disparity for i in range(3)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("head", ["regression", "matching"])
def test_fed_back_predictions_act_but_carry_no_gradient(head: Head) -> None:
    network = build(head=head, encoder_cells=4, decoder_cells=3)
    with torch.no_grad():
        for predict in network.predict:
            predict.bias.fill_(20.0)
        if network.matching is not None:
            nn.init.normal_(network.matching.refine_cost.weight)
    left, right = pair(32, 32)
    output = network(left, right)
    for index, predict in enumerate(network.predict):
        for later in [*output.levels[index + 1 :], output.disparity]:
            gradients = torch.autograd.grad(
                later.sum(), list(predict.parameters()), retain_graph=True, allow_unused=True
            )
            is_own = later is output.disparity and head == "regression" and predict is network.predict[-1]
            assert all((gradient is not None) == is_own for gradient in gradients)
    with torch.no_grad():
        network.predict[0].bias.add_(5.0)
        moved = network(left, right)
    assert all(not torch.allclose(a, b) for a, b in zip(moved.levels, output.levels, strict=True))


def test_the_output_is_the_finest_level_resized_not_rescaled() -> None:
    network = build(encoder_cells=2, decoder_cells=2)
    with torch.no_grad():
        network.predict[-1].weight.zero_()
        network.predict[-1].bias.fill_(17.0)
        output = network(*pair(20, 40))
    assert output.levels[-1].shape == (1, 1, 8, 12)
    torch.testing.assert_close(output.disparity, torch.full_like(output.disparity, 17.0))
    with torch.no_grad():
        network.predict[-1].bias.fill_(-3.0)
        training, positive = network(*pair(20, 40)).disparity, network.eval()(*pair(20, 40)).disparity
    torch.testing.assert_close(training, torch.full_like(training, -3.0))
    assert (positive == 0).all()


@pytest.mark.parametrize("head", ["regression", "matching"])
def test_predictions_are_float32_under_autocast(head: Head) -> None:
    """A bfloat16 of about 100 pixels is off by up to a quarter."""
    network = build(encoder_cells=2, decoder_cells=2, head=head).float()
    for layer in network.predict:
        nn.init.zeros_(layer.weight)
        nn.init.constant_(layer.bias, 100.3)
    left, right = (view.float() for view in pair(32, 48))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(left, right)
    assert {tensor.dtype for tensor in (output.disparity, *output.levels)} == {torch.float32}
    for level in output.levels[: len(network.predict)]:
        torch.testing.assert_close(level, torch.full(level.shape, 100.3))


def test_brightness_is_centred() -> None:
    network = build(encoder_cells=2, decoder_cells=1)
    seen: list[Tensor] = []
    network.stem[0].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    left, right = pair(32, 32)
    network(left, right)
    torch.testing.assert_close(seen[0], torch.cat([left, right]) - 0.4)


SMALL = SearchSpace(
    "small",
    "dense",
    {
        kind: dense_cell(kind, nodes=1, operations=("skip_connect", "conv_1x1"))
        for kind in ("normal", "reduce", "upsample")
    },
)


def loss_of_alphas(head: Head, alphas: Tensor) -> Tensor:
    network = build(MixedCells(SMALL, style=PLAIN), head=head, encoder_cells=2, decoder_cells=1)
    nn.init.zeros_(network.predict[0].weight)  # what is fed back is then constant, as its stopped gradient says
    parts = alphas.split([SMALL.cells[kind].alphas for kind in SMALL.kinds])
    weights = {kind: part.view(-1, 2).softmax(-1) for kind, part in zip(SMALL.kinds, parts, strict=True)}
    return network(*pair(16, 16), weights).disparity.square().mean()


def test_second_derivatives_in_the_alphas_agree_with_differences() -> None:
    def gradient(alphas: Tensor) -> Tensor:
        return torch.autograd.functional.jacobian(lambda at: loss_of_alphas("regression", at), alphas)

    alphas = 0.1 * torch.arange(SMALL.alphas, dtype=torch.float64)
    direction = torch.randn(SMALL.alphas, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    _, product = torch.autograd.functional.hvp(lambda at: loss_of_alphas("regression", at), alphas, direction)
    step = 1e-6  # small enough that no activation changes its side
    differences = (gradient(alphas + step * direction) - gradient(alphas - step * direction)) / (2 * step)
    torch.testing.assert_close(product, differences, rtol=1e-4, atol=1e-4 * float(product.abs().max()))


def test_second_derivatives_exist_through_the_matching_head() -> None:
    alphas = 0.1 * torch.arange(SMALL.alphas, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda at: loss_of_alphas("matching", at), alphas)
    assert hessian.isfinite().all()
    assert hessian.abs().max() > 0
    torch.testing.assert_close(hessian, hessian.T, atol=1e-9 * float(hessian.abs().max()), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder_cells": 3}, "encoder_cells is 3 but cells come in pairs"),
        ({"encoder_cells": 0}, "encoder_cells is 0"),
        ({"decoder_cells": 0}, "decoder_cells is 0 but must be 1 to 4"),
        ({"decoder_cells": 5}, "decoder_cells is 5 but must be 1 to 4"),
        ({"stem_scale": 0.25}, "stem_scale is 0.25 but at 2 channels it must be at least 0.5"),
        ({"head": "matching", "max_disparity": 3}, "max_disparity is 3"),
    ],
)
def test_numbers_that_make_no_network_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**arguments)  # type: ignore[arg-type]
