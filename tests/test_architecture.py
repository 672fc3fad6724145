import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autodisp.cells.architecture import Architecture, entropy, one_hot
from autodisp.cells.genotype import Genotype, derive
from autodisp.cells.spaces import SPACES, CellSpace, EdgeSpace, SearchSpace

UNEVEN = SearchSpace(
    "uneven",
    "darts",
    {
        "normal": CellSpace(
            "normal",
            (
                (EdgeSpace(0, ("skip_connect",)), EdgeSpace(1, ("none", "conv_1x1", "conv_3x3"))),
                (EdgeSpace(2, ("max_pool_3x3", "skip_connect")),),
            ),
            (1, 1),
        )
    },
)


def rows_of(space: SearchSpace, alphas: nn.ParameterDict, kind: str) -> list[Tensor]:
    """The alphas edge by edge, by counting along the vector."""
    rows, start = [], 0
    for edge in space.cells[kind].edges:
        rows.append(alphas[kind][start : start + len(edge.operations)])
        start += len(edge.operations)
    assert start == len(alphas[kind])
    return rows


def scattered(space: SearchSpace, seed: int = 0) -> Architecture:
    architecture = Architecture(space, seed=seed, scale=2.0).double()
    assert all(parameter.std() > 0.5 for parameter in architecture.parameters())
    return architecture


@pytest.mark.parametrize("space", [*SPACES.values(), UNEVEN], ids=lambda space: space.name)
def test_weights_are_the_softmax_of_each_edge(space: SearchSpace) -> None:
    architecture = scattered(space)
    weights = architecture.weights()
    assert tuple(weights) == space.kinds
    for kind, table in weights.items():
        assert table.shape == (len(space.cells[kind].edges), space.cells[kind].width)
        for row, alphas in zip(table, rows_of(space, architecture.alphas, kind), strict=True):
            shares = [math.exp(alpha) for alpha in alphas.tolist()]
            expected = [share / sum(shares) for share in shares] + [0.0] * (len(row) - len(shares))
            torch.testing.assert_close(row.tolist(), expected)


@pytest.mark.parametrize("name", SPACES)
def test_alphas_are_the_only_parameters_and_the_only_state(name: str) -> None:
    space = SPACES[name]
    architecture = Architecture(space)
    assert sum(parameter.numel() for parameter in architecture.parameters()) == space.alphas
    assert list(architecture.state_dict()) == [f"alphas.{kind}" for kind in space.kinds]


def test_start_is_small_and_belongs_to_the_seed() -> None:
    state = torch.get_rng_state()
    first = torch.cat([parameter.detach() for parameter in Architecture(SPACES["darts"], seed=5).parameters()])
    again = torch.cat([parameter.detach() for parameter in Architecture(SPACES["darts"], seed=5).parameters()])
    other = torch.cat([parameter.detach() for parameter in Architecture(SPACES["darts"], seed=6).parameters()])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert abs(first.std() / 1e-3 - 1) < 5 / math.sqrt(2 * len(first))


def test_gradient_against_the_softmax_jacobian() -> None:
    architecture = scattered(UNEVEN)
    table = architecture.weights()["normal"]
    probe = torch.randn_like(table)
    (gradient,) = torch.autograd.grad((table * probe).sum(), architecture.alphas["normal"])
    expected = []
    for weights, seen, alphas in zip(
        table.detach(), probe, rows_of(UNEVEN, architecture.alphas, "normal"), strict=True
    ):
        used, wanted = weights[: len(alphas)], seen[: len(alphas)]
        expected.append((torch.diag(used) - torch.outer(used, used)) @ wanted)
    torch.testing.assert_close(gradient, torch.cat(expected))


def test_second_derivatives_exist() -> None:
    architecture = scattered(UNEVEN)

    def loss(alphas: Tensor) -> Tensor:
        return torch.softmax(architecture.table("normal", alphas, float("-inf")), dim=-1).square()

    alphas = architecture.alphas["normal"].detach().requires_grad_()
    assert torch.autograd.gradcheck(loss, (alphas,))
    assert torch.autograd.gradgradcheck(loss, (alphas,))


@settings(max_examples=40)
@given(st.sampled_from(sorted(SPACES)), st.integers(0, 10**6))
def test_one_hot_weights_prefer_their_genotype(name: str, seed: int) -> None:
    space = SPACES[name]
    genotype = Genotype(name, space.sample(seed))
    weights = one_hot(space, genotype)
    found = derive(space, weights)
    for kind in space.kinds:
        assert weights[kind].sum() == sum(space.cells[kind].keep)
        assert set(weights[kind].unique().tolist()) <= {0.0, 1.0}
        assert [set(node) for node in found.cells[kind]] == [set(node) for node in genotype.cells[kind]]


def test_one_hot_weights_stand_on_the_row_of_their_edge() -> None:
    weights = one_hot(UNEVEN, Genotype("uneven", {"normal": ((("conv_3x3", 1),), (("skip_connect", 2),))}))
    assert weights["normal"].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_entropy_in_closed_form() -> None:
    architecture = Architecture(UNEVEN, scale=0.0)
    assert entropy(architecture.weights())["normal"] == pytest.approx((math.log(1) + math.log(3) + math.log(2)) / 3)
    with torch.no_grad():
        architecture.alphas["normal"] += torch.tensor([0.0, 200.0, 0.0, 0.0, 0.0, 200.0])
    assert entropy(architecture.weights())["normal"] == pytest.approx(0.0)


def test_other_dtypes_and_devices() -> None:
    architecture = Architecture(UNEVEN).to(torch.float64)
    assert architecture.weights()["normal"].dtype == torch.float64
    assert architecture.to("meta").weights()["normal"].is_meta


def test_edge_alphas_compete_within_their_node() -> None:
    architecture = Architecture(SPACES["s2"], seed=3, scale=1.0, edges=True)
    assert [len(values) for values in architecture.parameters()] == [28, 28, 14, 14]
    assert torch.equal(architecture.alphas["normal"], Architecture(SPACES["s2"], seed=3, scale=1.0).alphas["normal"])
    values, place = architecture.edges["reduce"].exp(), 0
    found = architecture.edge_weights()["reduce"]
    for size in (2, 3, 4, 5):
        part = values[place : place + size]
        torch.testing.assert_close(found[place : place + size], part / part.sum())
        place += size
    assert set(architecture.as_record({})) == {"alphas", "edge_alphas", "weights"}
