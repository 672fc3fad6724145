"""The compiled kernels are held to the plain path."""

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import set_drop_path
from autodisp.cells.mixed import IncomingEdge, MixedOperation, Source, plain_node
from autodisp.cells.mixture import Mixture, Row
from autodisp.cells.operations import OPERATIONS, Style
from autodisp.cells.spaces import SPACES
from autodisp.errors import InputError
from autodisp.kernels import library, native, nodes
from autodisp.kernels.native import Block, NodeSum, Term, node_sum, plain_sum
from autodisp.kernels.nodes import build_node, native_node
from tests.made_models import TwoCells
from tests.programs import same

CPU = torch.device("cpu")
GEOMETRIES = list(itertools.product((3, 5), native.GEOMETRIES))
STYLES = {"darts": Style(), "dense": Style("dense", batch_norm=False), "dense normalised": Style("dense")}


@pytest.fixture(autouse=True)
def compiler() -> None:
    try:
        library.prepare(str)
    except library.Unavailable as why:
        pytest.skip(str(why))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case:
    """A node of chains of one and two blocks, of inputs as they are, and of normalised ones."""

    def __init__(
        self, channels: int, kernel: int, stride: int, dilation: int, style: str, size: tuple[int, int]
    ) -> None:
        torch.manual_seed(0)
        slopes = (0.0, 1.0) if style == "darts" else (1.0, 0.1)
        strided = [-(-side // stride) for side in size]
        self.tensors = [drawn(2, channels, *size), drawn(2, channels, *size, seed=1), drawn(2, channels, *strided)]
        self.tensors[2] = 3 * self.tensors[2] + 7  # a mean far from zero
        count = len(self.tensors)

        def block(stride: int, dilation: int) -> Block:
            shapes = [(channels, 1, kernel, kernel), (channels, channels, 1, 1)] + [(channels,)] * (style != "darts")
            places = range(len(self.tensors), len(self.tensors) + len(shapes))
            self.tensors += [drawn(*shape, seed=place) for shape, place in zip(shapes, places, strict=True)]
            return Block(kernel, stride, dilation, *slopes, tuple(places))

        normalised = style != "dense"
        terms = [
            Term(3, 0, (block(stride, dilation), block(1, 1)), normalised),
            Term(0, 1, (block(stride, dilation),), normalised),
            Term(1, 1, (block(stride, dilation), block(1, 1)), normalised),
            Term(4, 2, (), True),
            Term(5, 2, (), False),
        ]
        self.plan = NodeSum(tuple(terms), count, normalised)
        self.leaves = [x.requires_grad_() for x in (drawn(6), *self.tensors)]

    def sums(self) -> tuple[Tensor, Tensor]:
        weights, *tensors = self.leaves
        return node_sum(self.plan, weights, tensors), plain_sum(self.plan, weights, tensors)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("kernel", "geometry"), GEOMETRIES)
def test_values_and_gradients(kernel: int, geometry: tuple[int, int], style: str) -> None:
    for channels, size in ((2, (7, 5)), (9, (4, 11)), (16, (9, 18))):
        case = Case(channels, kernel, *geometry, style, size)
        seen, expected = case.sums()
        torch.testing.assert_close(seen, expected, rtol=1e-10, atol=1e-10)
        probe = torch.randn_like(expected)
        found = [torch.autograd.grad(y, case.leaves, probe, allow_unused=True) for y in (seen, expected)]
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * float(other.detach().abs().max() + 1))


def test_a_large_image_is_taken_in_bands() -> None:
    case = Case(3, 5, 1, 2, "darts", (301, 97))
    seen, expected = case.sums()
    torch.testing.assert_close(seen, expected, rtol=1e-9, atol=1e-9)
    found = [torch.autograd.grad(y.square().sum(), case.leaves) for y in (seen, expected)]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9 * float(other.detach().abs().max()))


def test_single_precision() -> None:
    case = Case(12, 5, 1, 2, "darts", (20, 30))
    weights, *tensors = (x.detach().float().requires_grad_() for x in case.leaves)
    y, exact = node_sum(case.plan, weights, tensors), case.sums()[1]
    assert (y - exact).norm() < 1e-5 * exact.norm()
    for one, other in zip(
        torch.autograd.grad(y.sum(), [weights, *tensors]), torch.autograd.grad(exact.sum(), case.leaves), strict=True
    ):
        assert (one - other).norm() < 1e-3 * other.norm() + 1e-3, "a ReLU may lie on the other side of its kink"


def test_only_what_is_wanted_is_computed() -> None:
    case = Case(4, 3, 1, 1, "darts", (6, 6))
    for wanted in (0, 1, 4):
        for place, leaf in enumerate(case.leaves):
            leaf.requires_grad_(place == wanted)
        seen, expected = (torch.autograd.grad(y.sum(), case.leaves[wanted])[0] for y in case.sums())
        torch.testing.assert_close(seen, expected, rtol=1e-9, atol=1e-9)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_threads_change_the_last_digits_at_most_and_repeat_themselves() -> None:
    case = Case(8, 3, 2, 1, "darts", (24, 24))
    found = []
    for count in (1, 2, 2):
        torch.set_num_threads(count)
        y = case.sums()[0]
        found.append([y, *torch.autograd.grad(y.square().sum(), case.leaves)])
    one, two, again = found
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)
    assert same(two, again)


@pytest.mark.parametrize("space", ["darts", "s1", "s3", "autodispnet"])
def test_cells(space: str) -> None:
    style = Style("dense", batch_norm=False) if space == "autodispnet" else Style()
    architecture = Architecture(SPACES[space], scale=1.0).double()
    found = []
    for node in (native_node, plain_node):
        network = TwoCells(space, style, node=node, channels=3).double()
        y = network(drawn(2, 3, 9, 8), Mixture(architecture.weights()))
        leaves = [*network.parameters(), *architecture.parameters()]
        gradients = torch.autograd.grad(y.square().mean(), leaves, materialize_grads=True)
        found.append([y, *gradients])
    for seen, expected in zip(*found, strict=True):
        torch.testing.assert_close(seen, expected, rtol=1e-9, atol=1e-9 * float(expected.detach().abs().max()))


def test_second_derivatives_of_a_small_cell() -> None:
    """Inputs that depend on each other: of them total derivatives would be wrong by far."""
    architecture = Architecture(SPACES["s3"], scale=1.0).double()
    alphas = [*architecture.parameters()]
    rows = []
    for node in (native_node, plain_node):
        network = TwoCells("s3", node=node).double()
        image = drawn(2, 3, 8, 8)  # in NCHW
        loss = network(image, Mixture(architecture.weights())).pow(3).mean()
        leaves = [*alphas, network.normal.prepare[0][1].weight, network.normal.edges[0].operations[2][1].weight]
        slopes = torch.autograd.grad(loss, leaves, create_graph=True)
        probes = [drawn(*slope.shape) for slope in slopes]
        along = sum(((slope * probe).sum() for slope, probe in zip(slopes, probes, strict=True)), torch.zeros(()))
        rows.append(torch.autograd.grad(along, leaves))
    for seen, expected in zip(*rows, strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(seen, expected, rtol=1e-6, atol=1e-6 * float(expected.detach().abs().max()))


@pytest.mark.parametrize(("share", "auxiliary"), [(1, False), (2, False), (1, True), (2, True)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_every_operation_and_every_row(style: Style, stride: int, share: int, auxiliary: bool) -> None:
    names = tuple(name for name in OPERATIONS if name != "noise")
    torch.manual_seed(0)
    edge, other = (
        MixedOperation(names, channels=4, stride=stride, style=style, share=share, auxiliary=auxiliary).double()
        for _ in range(2)
    )
    x, weights = drawn(3, 4, 7, 6), drawn(len(names) + 1)
    rows = [
        Row(weights, None, None),
        Row(weights, torch.tensor(0.5, dtype=torch.float64), None),
        Row(weights, None, [1, 5, 6], 0.3),
        Row(weights, None, []),
        Row(weights, None, [0]),
    ]
    for row, count in itertools.product(rows, (1, 2)):
        found = []
        for node in (native_node, plain_node):
            source = Source(x)
            found.append(node([IncomingEdge(edge, source, row), IncomingEdge(other, source, rows[1])][:count], 0.0))
        seen, expected = found
        if expected is None:
            assert seen is None
        else:
            assert seen is not None
            torch.testing.assert_close(seen, expected, rtol=1e-9, atol=1e-9)


def test_drop_path_draws_alike() -> None:
    architecture = Architecture(SPACES["s2"], scale=1.0).double()
    found = []
    for node in (native_node, plain_node):
        network = TwoCells("s2", node=node, channels=3).double()
        set_drop_path(network, 0.5)
        torch.manual_seed(3)
        found.append(network(drawn(6, 3, 8, 8), Mixture(architecture.weights())))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("where", ["autocast", "meta"])
def test_elsewhere_the_plain_path_is_taken(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "node_sum", None)  # a call would fail
    device = "meta" if where == "meta" else "cpu"
    network = TwoCells("s2", node=native_node, channels=3).to(device)
    weights = Architecture(SPACES["s2"]).to(device).weights()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=where == "autocast"):
        assert network(torch.zeros(2, 3, 8, 8, device=device), weights).shape == (2, 12, 4, 4)


def test_the_config_names_the_path() -> None:
    lines: list[str] = []
    assert build_node("plain", CPU, lines.append) is plain_node
    assert build_node("auto", CPU, lines.append) is build_node("native", CPU, lines.append) is native_node
    assert build_node("auto", torch.device("meta"), lines.append) is plain_node
    assert not lines
    with pytest.raises(InputError, match=r"run\.kernels=native: runs on the CPU, but run.device is meta; take"):
        build_node("native", torch.device("meta"), lines.append)


@pytest.mark.parametrize("trouble", ["none", "broken", "folder"])
def test_without_a_compiler_one_line_says_so(trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.CACHE, str(tmp_path / "cache"))
    if trouble == "folder":
        (tmp_path / "cache").touch()
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    if trouble == "broken":
        script = tmp_path / "g++"
        script.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no such flag" >&2\nexit 1\n')
        script.chmod(0o755)
    monkeypatch.delenv("CXX", raising=False)
    library.library.cache_clear()
    lines: list[str] = []
    try:
        assert build_node("auto", CPU, lines.append) is plain_node
        with pytest.raises(InputError, match=r"run\.kernels=native: .*; mend that, or take run\.kernels=auto"):
            build_node("native", CPU, lines.append)
    finally:
        library.library.cache_clear()
    (line,) = lines
    words = {"none": "no C++ compiler was found", "broken": "failed: no such flag", "folder": "cannot be built in"}
    assert words[trouble] in line


@pytest.mark.slow
@pytest.mark.parametrize("level", library.LEVELS)
def test_other_instructions_and_one_compilation(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this CPU can run; compiled once, and kept."""
    able = list(library.LEVELS)[::-1]
    if able.index(level) > able.index(torch.backends.cpu.get_cpu_capability()):
        pytest.skip("instructions that this CPU lacks")
    monkeypatch.setenv(library.CACHE, str(tmp_path))
    other = library.library.__wrapped__(level)
    monkeypatch.setattr(native, "library", lambda _: other)
    for geometry in native.GEOMETRIES:
        case = Case(9, 5, *geometry, "darts", (11, 13))
        seen, expected = case.sums()
        torch.testing.assert_close(seen, expected, rtol=1e-9, atol=1e-9)
        found = [torch.autograd.grad(y.sum(), case.leaves) for y in (seen, expected)]
        torch.testing.assert_close(*found, rtol=1e-8, atol=1e-8)
    monkeypatch.setattr(library, "_compile", lambda *_: pytest.fail("compiled again"))
    library.library.__wrapped__(level)
    (kept,) = (tmp_path / "kernels").iterdir()
    assert level.lower() in kept.name


def test_no_openmp_runtime_comes_with_the_library() -> None:
    path = library.library(library.level_for(64, 4))._name
    needed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    assert "omp" not in needed
