import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import CellFactory, MixedCells
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.datasets.samples import StereoSample
from autodisp.networks.hourglass import stems
from autodisp.networks.parameter_count import count_parameters
from autodisp.networks.refinement import RefinementNetwork
from autodisp.networks.stereo_geometry import warp_right_to_left
from autodisp.networks.unbuilt import unbuilt
from autodisp.tasks.disparity import DisparityTask
from tests.made_models import PLAIN, found_cells


def build(cells: CellFactory | None = None, *, awake: bool = True, **arguments: object) -> RefinementNetwork:
    """A small one; awake: its corrections are not zero."""
    torch.manual_seed(0)
    numbers = {"channels": 2, "stem_scale": 1, "encoder_cells": 3, "decoder_cells": 2, **arguments}
    network = RefinementNetwork(cells or found_cells(), **numbers).double()  # type: ignore[arg-type]
    if awake:
        for layer in network.predict:
            nn.init.normal_(layer.weight, std=0.5)
    return network


def batch(height: int, width: int, size: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Left and right view, disparity."""
    generator = torch.Generator().manual_seed(1)
    left, right = torch.rand(2, size, 3, height, width, generator=generator, dtype=torch.float64)
    return left, right, 20 * torch.rand(size, 1, height, width, generator=generator, dtype=torch.float64)


def test_topology_is_the_published_one() -> None:
    with unbuilt():
        network = RefinementNetwork(found_cells(), channels=42, stem_scale=64 / 42)
    convolutions = [layer for layer in network.stem.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size, c.stride) for c in convolutions] == [
        (10, 64, (7, 7), (2, 2)),
        (64, 128, (5, 5), (2, 2)),
    ]
    assert [cell.kind[0] for cell in network.encoder] == list("rnrnrnr")
    assert [cell.channels for cell in network.encoder] == [84, 84, 168, 168, 336, 336, 672]
    assert [cell.channels for cell in network.decoder] == [336, 168, 84, 42]
    assert [layer.kernel_size for layer in network.predict] == [(3, 3)] * 5
    assert network.stride == 64


def test_the_stage_at_full_resolution_has_the_published_size() -> None:
    with unbuilt():
        network = RefinementNetwork(found_cells(), channels=42, stem_scale=64 / 42, to_full_resolution=True)
    assert count_parameters(network) == 37_109_249 + 57_372


def published_graph(network: RefinementNetwork, left: Tensor, right: Tensor, disparity: Tensor) -> list[Tensor]:
    """The predictions by the released code's order: one store of features, keyed by resolution."""

    def predict(index: int, features: Tensor) -> Tensor:
        given = functional.adaptive_avg_pool2d(disparity, list(features.shape[-2:]))
        predictions.append(network.predict[index](features) + given)
        return predictions[-1]

    def resized(prediction: Tensor, like: Tensor) -> Tensor:
        return functional.interpolate(0.05 * prediction.clamp(min=0), like.shape[-2:], mode="bilinear")

    predictions: list[Tensor] = []
    store, level = {0: left - 0.4}, 0
    warped = warp_right_to_left(right - 0.4, disparity)
    s = torch.cat([left - 0.4, right - 0.4, warped, 0.05 * disparity], dim=1)
    for stem in network.stem:
        s = stem(s)
        level += 1
        store[level] = s
    s0 = s1 = s
    for cell in network.encoder:
        s0, s1 = s1, cell((s0, s1), None)
        if cell.kind == "reduce":
            level += 1
            store[level] = s1
    last = predict(0, s1)
    s0 = s1
    for index, cell in enumerate(network.decoder):
        level -= 1
        s0, s1 = s1, cell((s0, s1, resized(last, store[level]), store[level]), None)
        last = predict(index + 1, s1)
    assert level == 2
    assert network.finish is not None
    beside = store[1]
    s1 = torch.cat([beside, network.finish[0](s1), resized(last, beside)], dim=1)
    last = predict(len(network.decoder) + 1, s1)
    beside = network.image(store[0])
    s1 = torch.cat([beside, network.finish[1](s1), resized(last, beside)], dim=1)
    predict(len(network.decoder) + 2, s1)
    return predictions


def test_cells_and_the_stage_at_full_resolution_read_the_published_features() -> None:
    network = build(channels=4, encoder_cells=5, decoder_cells=3, to_full_resolution=True)
    convolutions = [layer for part in (network.image, network.finish) for layer in part.modules()]  # type: ignore[union-attr]
    shapes = [(c.kernel_size, c.stride, c.out_channels) for c in convolutions if hasattr(c, "kernel_size")]
    assert shapes == [((3, 3), (1, 1), 1), ((4, 4), (2, 2), 2), ((4, 4), (2, 2), 1)]
    inputs = batch(64, 96)
    with torch.no_grad():
        expected = published_graph(network, *inputs)
        levels = network(*inputs).levels
    torch.testing.assert_close(list(levels), expected)


@pytest.mark.parametrize("to_full_resolution", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (65, 3), (64, 128), (31, 97)])
def test_any_image_size(size: tuple[int, int], to_full_resolution: bool) -> None:
    network = build(encoder_cells=7, decoder_cells=4, to_full_resolution=to_full_resolution)
    rows, columns = (-(-side // 64) * 64 for side in size)
    for training in (True, False):
        with torch.no_grad():
            output = network.train(training)(*batch(*size))
        assert output.disparity.shape == (1, 1, *size)
        assert output.strides == ((64, 32, 16, 8, 4, 2, 1) if to_full_resolution else (64, 32, 16, 8, 4))
        for level, stride in zip(output.levels, output.strides, strict=True):
            assert level.shape == (1, 1, rows // stride, columns // stride)
        assert all(tensor.isfinite().all() for tensor in (output.disparity, *output.levels))
        assert training or (output.disparity >= 0).all()
        assert output.matching is None


@pytest.mark.parametrize(("encoder_cells", "decoder_cells"), [(1, 1), (3, 1), (3, 2), (5, 2), (7, 1)])
def test_shorter_networks(encoder_cells: int, decoder_cells: int) -> None:
    network = build(encoder_cells=encoder_cells, decoder_cells=decoder_cells)
    output = network(*batch(64, 64))
    coarsest = 4 * 2 ** ((encoder_cells + 1) // 2)
    assert output.strides == tuple(coarsest // 2**index for index in range(decoder_cells + 1))
    assert [level.shape[-1] for level in output.levels] == [64 // stride for stride in output.strides]


@pytest.mark.parametrize(
    ("style", "to_full_resolution"),
    [(PLAIN, False), (Style("dense"), True), (Style(), False), (Style(affine=True), True)],
)
def test_every_flavour_and_the_supernet(style: Style, to_full_resolution: bool) -> None:
    space = SPACES["autodispnet"]
    network = build(MixedCells(space, style=style), to_full_resolution=to_full_resolution)
    weights = Architecture(space).double().weights()
    inputs = batch(17, 30, 2)
    output = network(*inputs, weights)
    assert output.disparity.shape == (2, 1, 17, 30)
    assert output.disparity.isfinite().all()
    with pytest.raises(ValueError, match="pass the architecture's weights"):
        network(*inputs)


def test_what_it_sees() -> None:
    network = build()
    seen: list[Tensor] = []
    network.stem.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    network.stem[0].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    left, right, disparity = batch(32, 48)
    network(left, right, disparity)
    warped = warp_right_to_left(right - 0.4, disparity)
    torch.testing.assert_close(seen[0], torch.cat([left - 0.4, right - 0.4, warped, 0.05 * disparity], dim=1))


@pytest.mark.parametrize("to_full_resolution", [False, True])
def test_untrained_it_hands_on_what_it_was_given(to_full_resolution: bool) -> None:
    network = build(awake=False, to_full_resolution=to_full_resolution)
    left, right, disparity = batch(29, 43)
    if to_full_resolution:
        torch.testing.assert_close(network(left, right, disparity).disparity, disparity)
    flat = torch.full_like(disparity, 7.25)
    output = network(left, right, flat)
    for tensor in (output.disparity, *output.levels):
        torch.testing.assert_close(tensor, torch.full_like(tensor, 7.25))


def test_each_level_corrects_the_mean_of_the_disparity() -> None:
    """At every level the difference to the mean under a pixel is what its convolution says, never rescaled."""
    network = build(to_full_resolution=True)
    said: list[Tensor] = []
    for predict in network.predict:
        predict.register_forward_hook(lambda module, arguments, output: said.append(output))
    left, right, disparity = batch(32, 48)
    output = network(left, right, disparity)
    for level, stride, correction in zip(output.levels, output.strides, said, strict=True):
        blocks = disparity.unfold(2, stride, stride).unfold(3, stride, stride)
        torch.testing.assert_close(level, correction + blocks.mean(dim=(-2, -1)))
        assert correction.abs().max() > 1e-3
    torch.testing.assert_close(output.disparity, output.levels[-1])


def test_negative_disparities_are_corrected_but_not_seen() -> None:
    network = build(awake=False)
    left, right, _ = batch(32, 48)
    below = torch.full((1, 1, 32, 48), -3.0, dtype=torch.float64)
    assert (network(left, right, below).disparity == -3).all()
    assert (network.eval()(left, right, below).disparity == 0).all()
    network = build()
    level, at_zero = network(left, right, below).levels[0], network(left, right, torch.zeros_like(below)).levels[0]
    torch.testing.assert_close(level, at_zero - 3)


@pytest.mark.parametrize("to_full_resolution", [False, True])
def test_padding_leaves_no_trace_at_sizes_that_fit(to_full_resolution: bool) -> None:
    network = build(to_full_resolution=to_full_resolution).eval()
    inputs = batch(29, 61)
    by_hand = (functional.pad(tensor, (0, 3, 0, 3), mode="replicate") for tensor in inputs)
    torch.testing.assert_close(network(*inputs).disparity, network(*by_hand).disparity[..., :29, :61])


def test_fed_back_predictions_act_but_carry_no_gradient() -> None:
    network = build(to_full_resolution=True)
    inputs = batch(32, 32)
    output = network(*inputs)
    for index, predict in enumerate(network.predict[:-1]):
        for later in output.levels[index + 1 :]:
            assert torch.autograd.grad(later.sum(), predict.weight, retain_graph=True, allow_unused=True) == (None,)
    with torch.no_grad():
        network.predict[0].bias.add_(5.0)
        moved = network(*inputs)
    assert all(not torch.allclose(a, b) for a, b in zip(moved.levels, output.levels, strict=True))


@pytest.mark.parametrize("to_full_resolution", [False, True])
def test_every_parameter_has_a_part(to_full_resolution: bool) -> None:
    network = build(to_full_resolution=to_full_resolution)
    output = network(*batch(32, 48))
    loss = torch.stack([level.tanh().sum() for level in output.levels]).sum()
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    assert all(bool(gradient.isfinite().all()) and gradient.abs().sum() > 0 for gradient in gradients)


def test_the_gradient_in_the_given_disparity_agrees_with_differences() -> None:
    """Without what is fed back, whose gradient is stopped: at the bottleneck."""
    network = build(encoder_cells=1, decoder_cells=1)
    left, right, disparity = batch(8, 16)
    disparity = (disparity.floor() + 0.5).requires_grad_()  # far from whole numbers, where the warping has corners
    gradient = torch.autograd.grad(network(left, right, disparity).levels[0].sum(), disparity)[0]
    direction = torch.randn(disparity.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        there, back = (
            network(left, right, disparity + sign * step * direction).levels[0].sum() for sign in (1.0, -1.0)
        )
    torch.testing.assert_close((gradient * direction).sum(), (there - back) / (2 * step), rtol=1e-5, atol=1e-7)


def test_a_few_steps_of_the_tasks_loss_correct_a_constant_error() -> None:
    network = build(to_full_resolution=True, awake=False).float()
    left, right, truth = (tensor.float() for tensor in batch(16, 32, 2))
    valid = torch.ones_like(truth, dtype=torch.bool)
    sample = StereoSample(left, right, truth, valid, ~valid, ~valid)
    task = DisparityTask(channels=2, stem_scale=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = task.loss(network(left, right, truth + 2.0), sample)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # 2 px at each of five levels
    assert losses[0] == pytest.approx(2 * (1 / 16 + 1 / 8 + 1 / 4 + 1 / 2 + 1), rel=1e-5)
    assert losses[-1] < 0.7 * losses[0]


def test_predictions_are_float32_under_autocast() -> None:
    """A bfloat16 of about 100 pixels is off by up to a quarter."""
    network = build(awake=False).float()
    for layer in network.predict:
        nn.init.constant_(layer.bias, 100.3)
    left, right, _ = (tensor.float() for tensor in batch(32, 48))
    given = torch.full((1, 1, 32, 48), 1.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(left, right, given)
    for tensor in (output.disparity, *output.levels):
        torch.testing.assert_close(tensor, torch.full(tensor.shape, 101.4))


def test_dark_pixels_reach_the_darts_flavour_too() -> None:
    for inputs in (3, 10):
        torch.manual_seed(0)
        stem, half = stems(inputs, channels=3, stem_scale=2, style=Style())
        dark = -torch.rand(2, inputs, 16, 16)
        assert stem[0](dark).shape == (2, half, 8, 8) == (2, 6, 8, 8)
        assert stem[0](dark).std() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder_cells": 2}, "encoder_cells is 2 but must start and end with a reduction: take 1, 3, 5"),
        ({"encoder_cells": -1}, "encoder_cells is -1"),
        (
            {"encoder_cells": 7, "decoder_cells": 2, "to_full_resolution": True},
            "goes on from 1/4 but 2 decoder cells end at 1/16: take decoder_cells=4",
        ),
    ],
)
def test_numbers_that_make_no_network_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("odd_one", [0, 1, 2])
def test_sizes_that_differ_are_refused_even_where_padding_would_hide_it(odd_one: int) -> None:
    inputs = list(batch(16, 32))
    inputs[odd_one] = inputs[odd_one][..., :-1]
    with pytest.raises(ValueError, match=r"left is \(16, 3[12]\), right \(16, 3[12]\), disparity .*width ratio"):
        build()(*inputs)
