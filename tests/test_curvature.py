import logging
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from autodisp.search.curvature import (
    curvature,
    dominant_eigenvalue,
    frozen_statistics,
    hessian,
    largest_eigenvalue,
    preserved_rng,
)

FLOAT64_EPS = torch.finfo(torch.float64).eps


class Mixed(nn.Module):
    """Two edges in a row, each a softmax mixture of four operations; train-mode BatchNorm throughout."""

    def __init__(self, noise: bool = False) -> None:
        super().__init__()
        self.noise = noise
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.narrow = nn.ModuleList(nn.Conv2d(4, 4, 1, bias=False) for _ in range(2))
        self.wide = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4, affine=False) for _ in range(4))
        self.classifier = nn.Linear(4, 3)

    def forward(self, image: Tensor, alphas: Sequence[Tensor]) -> Tensor:
        x = self.stem(image)
        for edge, alpha in enumerate(alphas):
            weight = alpha.softmax(0)
            activated = functional.relu(x)
            last = torch.randn_like(x) if self.noise else functional.max_pool2d(x, 3, 1, 1)
            x = (
                weight[0] * self.norms[2 * edge](self.narrow[edge](activated))
                + weight[1] * self.norms[2 * edge + 1](self.wide[edge](activated))
                + weight[2] * x
                + weight[3] * last
            )
        return self.classifier(x.mean((2, 3)))


def supernet(
    dtype: torch.dtype = torch.float64, noise: bool = False
) -> tuple[Mixed, list[Tensor], Callable[..., Tensor]]:
    """A network, its alphas (8 numbers), and its loss as a function of the alphas."""
    with preserved_rng():
        torch.manual_seed(3)
        network = Mixed(noise).to(dtype)
        image = torch.randn(6, 3, 7, 5, dtype=dtype)
        label = torch.randint(3, (6,))
        alphas = [torch.randn(4, dtype=dtype).requires_grad_() for _ in range(2)]
    return network, alphas, lambda *leaves: functional.cross_entropy(network(image, leaves), label)


def reference_hessian(loss: Callable[..., Tensor], alphas: Sequence[Tensor]) -> Tensor:
    blocks = torch.autograd.functional.hessian(loss, tuple(alphas))
    return torch.cat([torch.cat(tuple(row), 1) for row in blocks])


def quadratic(matrix: Tensor) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """A loss that has this Hessian."""
    x = torch.linspace(-1, 1, len(matrix), dtype=matrix.dtype).requires_grad_()
    return lambda: x @ matrix @ x / 2, [x]


def rotated(eigenvalues: Sequence[float], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A symmetric matrix with these eigenvalues, and its eigenvectors as columns."""
    generator = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    vectors, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    matrix = (vectors * torch.tensor(eigenvalues, dtype=torch.float64)) @ vectors.T
    return (matrix + matrix.T) / 2, vectors


def test_hessian_and_dominant_eigenvalue_of_a_supernet() -> None:
    network, alphas, loss = supernet()
    matrix = reference_hessian(loss, alphas)
    for given_loss in (loss(*alphas), lambda: loss(*alphas)):
        measured = hessian(given_loss, alphas)
        assert torch.equal(measured, measured.T)
        torch.testing.assert_close(measured, matrix, rtol=0, atol=1e-8)
    expected = torch.linalg.eigvalsh(matrix)
    assert expected[0] < 0 < expected[-1]
    found = dominant_eigenvalue(loss(*alphas), alphas, tolerance=1e-10)
    assert found.value == pytest.approx(expected[-1].item(), abs=1e-8)
    rough = dominant_eigenvalue(loss(*alphas), alphas)
    assert rough.value == pytest.approx(expected[-1].item(), rel=1e-3)
    torch.testing.assert_close(matrix @ found.vector, found.value * found.vector, rtol=0, atol=1e-8)
    assert network.training
    assert all(alpha.grad is None for alpha in alphas)


def test_graph_survives_and_order_follows_the_parameters() -> None:
    _, alphas, loss = supernet()
    value = loss(*alphas)
    forth = hessian(value, alphas)
    back = hessian(value, alphas[::-1])
    torch.testing.assert_close(back, forth.roll((4, 4), (0, 1)), rtol=0, atol=1e-12)
    dominant_eigenvalue(value, alphas)
    value.backward()
    assert alphas[0].grad is not None


def test_float32_supernet() -> None:
    _, alphas, loss = supernet(torch.float32)
    found = hessian(loss(*alphas), alphas)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reference_hessian(loss, alphas), rtol=0, atol=1e-6)
    largest = torch.linalg.eigvalsh(found.double())[-1].item()
    assert dominant_eigenvalue(loss(*alphas), alphas).value == pytest.approx(largest, rel=1e-3)
    # A tolerance below rounding ends as well.
    assert dominant_eigenvalue(loss(*alphas), alphas, tolerance=1e-14).value == pytest.approx(largest, rel=1e-4)


def test_noise_is_one_draw_in_all_products() -> None:
    _, alphas, loss = supernet(noise=True)
    torch.manual_seed(11)
    value = loss(*alphas)
    found = hessian(value, alphas)
    torch.manual_seed(11)
    expected = reference_hessian(loss, alphas)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)
    assert dominant_eigenvalue(value, alphas, tolerance=1e-10).value == pytest.approx(
        torch.linalg.eigvalsh(expected)[-1].item(), abs=1e-8
    )


def test_parameters_that_the_loss_does_not_use() -> None:
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    unused = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    y = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    loss = x[0] ** 2 * x[1] + 5 * y
    expected = torch.zeros(5, 5, dtype=torch.float64)
    expected[0, 0], expected[0, 1], expected[1, 0] = 4, 2, 2
    assert torch.equal(hessian(loss, [x, unused, y]), expected)
    assert dominant_eigenvalue(loss, [x, unused, y], tolerance=1e-12).value == pytest.approx(2 + math.sqrt(8))


@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
def test_loss_without_curvature(weight_decay: float) -> None:
    x = torch.ones(3, requires_grad=True)
    loss = 2 * x.sum()
    assert torch.equal(hessian(loss, [x], weight_decay=weight_decay), weight_decay * torch.eye(3))
    found = dominant_eigenvalue(loss, [x], weight_decay=weight_decay)
    assert found.value == pytest.approx(weight_decay, rel=1e-6)
    assert found.vector.norm() == pytest.approx(1)


def test_weight_decay_moves_the_spectrum() -> None:
    _, alphas, loss = supernet()
    value = loss(*alphas)
    plain = curvature(value, alphas, full=True)
    decayed = curvature(value, alphas, full=True, weight_decay=0.1)
    assert plain.spectrum is not None
    assert decayed.spectrum is not None
    torch.testing.assert_close(decayed.spectrum, plain.spectrum + 0.1)
    few = curvature(value, alphas, weight_decay=0.1, tolerance=1e-10)
    assert few.spectrum is None
    assert few.dominant.value == pytest.approx(plain.dominant.value + 0.1, abs=1e-8)


def test_full_curvature_agrees_with_the_few_products() -> None:
    _, alphas, loss = supernet()
    full = curvature(loss(*alphas), alphas, full=True)
    few = curvature(loss(*alphas), alphas, tolerance=1e-12)
    assert full.spectrum is not None
    assert full.dominant.value == full.spectrum[-1].item()
    assert few.dominant.value == pytest.approx(full.dominant.value, abs=1e-9)
    assert (few.dominant.vector @ full.dominant.vector).abs() == pytest.approx(1, abs=1e-6)
    assert full.dominant.products == 8
    assert full.dominant.residual == 0


def test_measuring_inside_no_grad_finds_the_curvature() -> None:
    loss, x = quadratic(torch.diag(torch.tensor([1.0, 5.0, -9.0], dtype=torch.float64)))
    value = loss()
    with torch.no_grad():
        assert hessian(value, x)[2, 2] == -9
        assert dominant_eigenvalue(loss, x, tolerance=1e-9).value == pytest.approx(5)


symmetric = st.integers(1, 9).flatmap(
    lambda size: st.tuples(
        st.lists(st.floats(-10, 10).map(lambda value: round(value, 3)), min_size=size, max_size=size),
        st.integers(0, 10_000),
    )
)


@settings(max_examples=120, derandomize=True)
@given(symmetric)
def test_lanczos_against_eigvalsh(drawn: tuple[list[float], int]) -> None:
    eigenvalues, seed = drawn
    matrix, _ = rotated(eigenvalues, seed)
    loss, x = quadratic(matrix)
    expected = torch.linalg.eigvalsh(matrix)
    scale = expected.abs().max().item()
    found = dominant_eigenvalue(loss, x, tolerance=1e-10)
    assert found.value == pytest.approx(expected[-1].item(), abs=1e-9 * scale + 1e-15)
    assert found.products <= len(eigenvalues)
    assert found.vector.norm() == pytest.approx(1)
    # Whatever the tolerance: never above the truth, and an eigenvalue within the residual.
    rough = dominant_eigenvalue(loss, x, tolerance=0.3)
    slack = 100 * FLOAT64_EPS * scale
    assert rough.value <= expected[-1] + slack
    assert (expected - rough.value).abs().min() <= rough.residual + slack
    assert (matrix @ rough.vector - rough.value * rough.vector).norm().item() == pytest.approx(
        rough.residual, abs=1e-12 * scale + 1e-15
    )


@pytest.mark.parametrize("size", [2, 13, 56, 224])
@pytest.mark.parametrize(
    "spectrum_of",
    [
        lambda size: [0.7**place for place in range(size)],
        lambda size: [(-0.8) ** place for place in range(size)],
        lambda size: [0.3, *(-5.0 * 0.9**place for place in range(size - 1))],  # largest magnitude negative
        lambda size: [-1.0 - place for place in range(size)],  # negative definite
        lambda size: [2.0] * (size // 2) + [-1.0] * (size - size // 2),  # degenerate
        lambda size: [1.0, 0.95] + [0.0] * (size - 2),
        lambda size: [math.cos(math.pi * place / size) for place in range(size)],  # dense at both ends
        lambda size: [1e-9 * 0.7**place for place in range(size)],
    ],
)
def test_lanczos_on_shapes_of_spectra(size: int, spectrum_of: Callable[[int], list[float]]) -> None:
    eigenvalues = spectrum_of(size)
    matrix, vectors = rotated(eigenvalues, size)
    for start in (None, vectors[:, eigenvalues.index(max(eigenvalues))], vectors[:, -1]):
        found = largest_eigenvalue(lambda direction: matrix @ direction, size, start=start)
        assert found.value == pytest.approx(max(eigenvalues), rel=1e-3)
        assert found.residual <= max(1e-3 * abs(found.value), 1e-14 * max(map(abs, eigenvalues)))


@pytest.mark.parametrize("seed", range(5))
def test_few_products_on_a_spectrum_that_decays(seed: int) -> None:
    matrix, vectors = rotated([(-0.8) ** place for place in range(224)], seed)
    cold = largest_eigenvalue(matrix.mv, 224)
    warm = largest_eigenvalue(matrix.mv, 224, start=vectors[:, 0])
    assert warm.products < cold.products <= 12


@pytest.mark.parametrize(
    "eigenvalues",
    [
        [1.0, *(0.9 * 0.9**place for place in range(55))],
        [1.0, *(0.5 * 0.9**place for place in range(55))],
        [1.0, *(0.1 * 0.9**place for place in range(55))],
        [1.0, 0.95] + [0.0] * 222,
    ],
)
def test_start_along_the_second_eigenvector_is_no_trap(eigenvalues: list[float]) -> None:
    # An exact eigenvector has no residual: taken as it is, it would be believed at once.
    for seed in range(10):
        matrix, vectors = rotated(eigenvalues, seed)
        found = largest_eigenvalue(matrix.mv, len(eigenvalues), start=vectors[:, 1])
        assert found.value == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    "start",
    [
        torch.zeros(3),
        torch.full((3,), math.nan),
        torch.tensor([1.0, math.inf, 0.0]),
        torch.full((3,), 1e-200, dtype=torch.float64),
    ],
)
def test_start_that_says_nothing(start: Tensor) -> None:
    matrix = torch.diag(torch.tensor([1.0, 7.0, 2.0], dtype=torch.float64))
    found = largest_eigenvalue(lambda direction: matrix @ direction, 3, start=start, tolerance=1e-12)
    assert found.value == pytest.approx(7)


def test_closed_subspaces() -> None:
    for matrix in (torch.zeros(5, 5), 3 * torch.eye(5), torch.ones(5, 5)):
        exact = matrix.double()
        found = largest_eigenvalue(exact.mv, 5, tolerance=1e-12)
        assert found.value == pytest.approx(torch.linalg.eigvalsh(exact)[-1].item(), abs=1e-12)
        assert found.products <= 4


def test_flat_but_for_negative_curvature() -> None:
    # The answer is 0 to float32, of which no residual is a fraction: rounding beside the rest of the spectrum ends it.
    matrix, _ = rotated([-(0.5**place) for place in range(60)])
    loss, x = quadratic(matrix.float())
    found = dominant_eigenvalue(loss, x)
    assert found.value == pytest.approx(0, abs=1e-5)
    assert found.products <= 20


def test_one_parameter() -> None:
    x = torch.tensor(2.0, requires_grad=True)
    loss = -(x**3)
    assert hessian(loss, [x]).item() == -12
    found = dominant_eigenvalue(loss, [x])
    assert (found.value, found.products) == (-12, 1)
    assert found.vector.abs().tolist() == [1]


def test_limited_products() -> None:
    matrix, _ = rotated([0.99**place for place in range(60)])
    found = largest_eigenvalue(matrix.mv, 60, max_products=3)
    assert found.products == 3
    assert found.residual > 1e-3 * found.value
    assert found.value < 1
    assert largest_eigenvalue(matrix.mv, 60, max_products=1000, tolerance=1e-12).value == pytest.approx(1)


def test_same_answer_each_time_and_the_run_is_not_disturbed() -> None:
    _, alphas, loss = supernet()
    before = torch.get_rng_state()
    first = dominant_eigenvalue(loss(*alphas), alphas)
    second = dominant_eigenvalue(loss(*alphas), alphas)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.value == second.value
    assert torch.equal(first.vector, second.vector)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_not_finite(poison: float, caplog: pytest.LogCaptureFixture) -> None:
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    loss = poison * (x**2).sum()
    with caplog.at_level(logging.WARNING):
        few = curvature(loss, [x])
        full = curvature(loss, [x], full=True)
    assert len(caplog.messages) == 2
    assert all("not finite" in message for message in caplog.messages)
    assert math.isnan(few.dominant.value)
    assert math.isnan(full.dominant.value)
    assert math.isnan(full.dominant.residual)
    assert full.spectrum is not None
    assert full.spectrum.isnan().all()
    # What follows a failure starts afresh.
    healthy = dominant_eigenvalue((x**2).sum(), [x], start=few.dominant.vector)
    assert healthy.value == pytest.approx(2)


def test_wrong_calls() -> None:
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        hessian(x**2, [x])
    with torch.no_grad():
        outside = (x**2).sum()
    with pytest.raises(ValueError, match="requires_grad=False"):
        hessian(outside, [x])
    with pytest.raises(ValueError, match=r"2 parameters, without requires_grad: \[1\]"):
        dominant_eigenvalue((x**2).sum(), [x, torch.ones(2)])
    with pytest.raises(ValueError, match="0 parameters"):
        hessian((x**2).sum(), [])
    with pytest.raises(TypeError, match=r"one tensor; give a sequence of tensors, such as \[alpha\]"):
        hessian((x**2).sum(), x)
    with pytest.raises(TypeError, match="a generator; give a sequence"):
        hessian((x**2).sum(), (y for y in [x]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the loss uses none of the parameters"):
        dominant_eigenvalue((x**2).sum(), [torch.ones(3, requires_grad=True)])
    with pytest.raises(ValueError, match="start has 2 numbers for 3 rows"):
        dominant_eigenvalue((x**2).sum(), [x], start=torch.ones(2))
    for wrong in ({"max_products": 0}, {"tolerance": 0.0}, {"tolerance": math.nan}):
        with pytest.raises(ValueError, match="must all be positive"):
            largest_eigenvalue(lambda direction: direction, 3, **wrong)
    with pytest.raises(ValueError, match="size 0"):
        largest_eigenvalue(lambda direction: direction, 0)


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.batch = nn.BatchNorm2d(3)
        self.cumulative = nn.BatchNorm2d(3, momentum=None)
        self.instance = nn.InstanceNorm2d(3, affine=True, track_running_stats=True)
        self.untracked = nn.BatchNorm2d(3, track_running_stats=False)
        self.group = nn.GroupNorm(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def seasoned_norms() -> Norms:
    norms = Norms()
    for _ in range(3):
        norms(torch.randn(4, 3, 5, 5) * 3 + 1)
    return norms


@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
@pytest.mark.parametrize("fails", [False, True])
def test_frozen_statistics(mode: str, fails: bool) -> None:
    norms = seasoned_norms()
    norms.train(mode != "eval")
    if mode == "mixed":
        norms.batch.eval()
        norms.instance.eval()
    before = {name: buffer.clone() for name, buffer in norms.named_buffers()}
    identities = {name: id(buffer) for name, buffer in norms.named_buffers()}
    modes = [layer.training for layer in norms.modules()]
    tracked = [getattr(layer, "track_running_stats", None) for layer in norms.modules()]
    x = torch.randn(4, 3, 5, 5)
    try:
        with frozen_statistics(norms):
            inside = norms(x)
            norms(x * math.nan)
            assert [layer.training for layer in norms.modules()] == modes
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert [layer.training for layer in norms.modules()] == modes
    assert [getattr(layer, "track_running_stats", None) for layer in norms.modules()] == tracked
    assert {name: id(buffer) for name, buffer in norms.named_buffers()} == identities
    for name, buffer in norms.named_buffers():
        assert torch.equal(buffer, before[name]), name
    # Inside, each layer normalized by what its mode says, as it does outside.
    assert torch.equal(inside, norms(x))
    if mode == "train":
        assert not torch.equal(norms.batch.running_mean, before["batch.running_mean"])
        assert norms.batch.num_batches_tracked == 4
        assert not torch.equal(norms.instance.running_mean, before["instance.running_mean"])


def test_frozen_statistics_of_a_mode_changed_inside_and_nested() -> None:
    norms = seasoned_norms()
    before = {name: buffer.clone() for name, buffer in norms.named_buffers()}
    x = torch.randn(4, 3, 5, 5)
    with frozen_statistics(norms):
        with frozen_statistics(norms):
            norms(x)
        norms(x)
        norms.batch.eval()
        by_running = norms.batch(x)
    assert torch.equal(by_running, norms.batch(x))
    for name, buffer in norms.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_preserved_rng() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    with pytest.raises(ZeroDivisionError), preserved_rng():
        _ = torch.rand(100) * (1 / 0)
    assert torch.equal(torch.rand(4), expected)
