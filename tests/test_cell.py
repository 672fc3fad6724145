import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from autodisp.cells.architecture import Architecture, one_hot
from autodisp.cells.cell import (
    Cell,
    FoundCells,
    MixedCells,
    drop_path_memory,
    set_drop_path,
    without_drop_path,
)
from autodisp.cells.genotype import Genotype, load
from autodisp.cells.mixture import Row
from autodisp.cells.operations import FactorizedReduction, Style
from autodisp.cells.spaces import SPACES, SearchSpace
from autodisp.errors import InputError
from autodisp.kernels.nodes import build_node
from autodisp.networks.classification import ClassificationNetwork
from autodisp.networks.disparity import DisparityNetwork
from tests.programs import same

DENSE = Style("dense", batch_norm=False)


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights_of(space: SearchSpace) -> dict[str, Tensor]:
    return {kind: table.detach() for kind, table in Architecture(space, scale=1.0).double().weights().items()}


def by_graph(cell: Cell, inputs: list[Tensor], weights: Mapping[str, Tensor] | None, plan: object) -> Tensor:
    """Each node by looking up its edges in the plan, in any order of summation."""
    states = dict(enumerate(prepare(x) for prepare, x in zip(cell.prepare, inputs, strict=True)))
    edges = dict(zip(((node, edge.source) for node, some in enumerate(plan) for edge in some), cell.edges, strict=True))
    rows = {place: row for row, place in enumerate(edges)}

    def on_edge(edge: nn.Module, x: Tensor, place: tuple[int, int]) -> Tensor:
        if weights is None:
            return edge(x, 0.0)
        return edge.active_sum(x, Row(weights[cell.kind][rows[place]], None, None), 0.0)

    for node in range(len(plan)):
        terms = [
            on_edge(edge, states[source], (target, source))
            for (target, source), edge in edges.items()
            if target == node
        ]
        states[len(inputs) + node] = torch.stack(terms[::-1]).sum(0)
    return torch.cat([states[index] for index in sorted(states) if index >= len(inputs)], dim=1)


@pytest.mark.parametrize("kind", ["normal", "reduce"])
@pytest.mark.parametrize("found", [False, True])
def test_encoder_cell_against_a_plain_graph(kind: str, found: bool) -> None:
    space = SPACES["s3"]
    genotype = Genotype("s3", space.sample(1))
    cells = FoundCells(genotype, style=Style()) if found else MixedCells(space, style=Style())
    cell = cells.encoder_cell(kind, inputs=(5, 6), channels=4, after_reduction=False).double()
    inputs = [images(3, 5, 7, 6), images(3, 6, 7, 6, seed=1)]
    weights = None if found else weights_of(space)
    expected = by_graph(cell, inputs, weights, genotype.plan(kind) if found else space.cells[kind].nodes)
    y = cell(inputs, weights)
    torch.testing.assert_close(y, expected)
    assert y.shape[1] == cell.outputs == 16
    assert y.shape[-2:] == ((7, 6) if kind == "normal" else (4, 3))


@pytest.mark.parametrize("found", [False, True])
@pytest.mark.parametrize("after_upsampling", [False, True])
def test_upsampling_cell_against_a_plain_graph(found: bool, after_upsampling: bool) -> None:
    space, genotype = SPACES["autodispnet"], load("autodispnet")
    cells = FoundCells(genotype, style=DENSE) if found else MixedCells(space, style=DENSE)
    cell = cells.upsampling_cell(inputs=(5, 6, 1, 7), channels=2, after_upsampling=after_upsampling).double()
    coarser = (1, 2) if after_upsampling else (2, 4)
    inputs = [images(1, 5, *coarser), images(1, 6, 2, 4), images(1, 1, 4, 8), images(1, 7, 4, 8)]
    weights = None if found else weights_of(space)
    y = cell(inputs, weights)
    assert y.shape == (1, cell.outputs, 4, 8) == (1, 6, 4, 8)
    plan = genotype.plan("upsample") if found else space.cells["upsample"].nodes
    torch.testing.assert_close(y, by_graph(cell, inputs, weights, plan))


@pytest.mark.parametrize("style", [Style(), DENSE])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_an_input_of_twice_the_resolution_is_halved(style: Style, size: int) -> None:
    cells = MixedCells(SPACES["s2"], style=style)
    cell = cells.encoder_cell("normal", inputs=(3, 3), channels=2, after_reduction=True).double()
    half = math.ceil(size / 2)
    assert cell([images(2, 3, size, size), images(2, 3, half, half)], weights_of(SPACES["s2"])).shape[-1] == half
    assert isinstance(cell.prepare[0], FactorizedReduction) == (style.flavour == "darts")


def test_only_edges_from_the_inputs_of_a_reduction_cell_stride() -> None:
    cells = MixedCells(SPACES["s2"], style=Style())
    for kind in ("normal", "reduce"):
        cell = cells.encoder_cell(kind, inputs=(2, 2), channels=2, after_reduction=False)
        reduces = [isinstance(edge.operations[0], FactorizedReduction) for edge in cell.edges]
        sources = [source for node in cell.sources for source in node]
        assert reduces == [kind == "reduce" and source < 2 for source in sources]


def classifier(cells: MixedCells | FoundCells) -> ClassificationNetwork:
    return ClassificationNetwork(cells, channels=2, layers=5, classes=3).double()


def regressor(cells: MixedCells | FoundCells) -> DisparityNetwork:
    return DisparityNetwork(
        cells, channels=2, stem_scale=1, encoder_cells=2, decoder_cells=2, max_displacement=3
    ).double()


def matcher(cells: MixedCells | FoundCells) -> DisparityNetwork:
    return DisparityNetwork(
        cells,
        channels=2,
        stem_scale=1,
        encoder_cells=4,
        decoder_cells=2,
        max_displacement=3,
        head="matching",
        max_disparity=16,
    ).double()


def transplant(supernet: nn.Module, found: nn.Module, space: SearchSpace, genotype: Genotype) -> None:
    """Gives the found network the supernet's weights: everything around the edges, and each edge's operation."""
    shared = {name: tensor for name, tensor in supernet.state_dict().items() if ".edges." not in name}
    missing = found.load_state_dict(shared, strict=False)
    assert not missing.unexpected_keys
    assert all(".edges." in name for name in missing.missing_keys)
    pairs = zip(
        (module for module in supernet.modules() if isinstance(module, Cell)),
        (module for module in found.modules() if isinstance(module, Cell)),
        strict=True,
    )
    for mixed, single in pairs:
        cell = space.cells[mixed.kind]
        places = [(node, edge) for node, edges in enumerate(cell.nodes) for edge in edges]
        chosen = [(node, *choice) for node, choices in enumerate(genotype.cells[mixed.kind]) for choice in choices]
        for edge, (node, name, source) in zip(single.edges, chosen, strict=True):
            (row,) = (row for row, (at, found) in enumerate(places) if (at, found.source) == (node, source))
            candidate = mixed.edges[row].operations[places[row][1].operations.index(name)]
            loaded = edge.operation.load_state_dict(candidate.state_dict(), strict=False)
            assert all("running" in key or "batches" in key for key in loaded.missing_keys)


@pytest.mark.parametrize(
    ("build", "space", "style", "training"),
    [
        (classifier, "darts", Style(affine=True), True),
        (classifier, "s3", Style(), True),
        (regressor, "autodispnet", Style("dense"), True),
        (matcher, "autodispnet", Style("dense"), True),
        # without normalisation also in eval mode, where the edges of a supernet go on normalising by the batch
        *((build, "autodispnet", DENSE, training) for build in (regressor, matcher) for training in (True, False)),
    ],
)
def test_the_found_network_is_the_supernet_under_one_hot_weights(
    build: object, space: str, style: Style, training: bool
) -> None:
    torch.manual_seed(0)
    kept = SPACES[space]
    # a supernet normalises after pooling, a found network does not (as published)
    samples = (kept.sample(seed) for seed in range(1000))
    genotype = Genotype(space, next(cells for cells in samples if "pool" not in str(cells)))
    supernet, found = build(MixedCells(kept, style=style)), build(FoundCells(genotype, style=style))
    assert type(supernet) is type(found)
    transplant(supernet, found, kept, genotype)
    supernet.train(training)
    found.train(training)
    views = images(2, 3, 32, 32).sigmoid()
    inputs = (views,) if build is classifier else (views, views.roll(-2, dims=3))
    weights = {kind: table.double() for kind, table in one_hot(kept, genotype).items()}
    with torch.no_grad():
        expected, seen = supernet(*inputs, weights), found(*inputs)
    torch.testing.assert_close(seen[0], expected[0], rtol=1e-9, atol=1e-9)
    assert seen[0].std() > 0


def test_drop_path_acts_while_training_only_and_can_be_held() -> None:
    genotype = Genotype("s2", SPACES["s2"].sample(0))
    network = classifier(FoundCells(genotype, style=Style()))
    x = images(4, 3, 8, 8)

    def changes() -> bool:
        with torch.no_grad():
            return not torch.equal(network(x).logits, network(x).logits)

    assert not changes()
    set_drop_path(network, 0.5)
    assert changes()
    with without_drop_path(network):
        assert not changes()
        set_drop_path(network, 0.3)
    assert {module.drop_probability for module in network.modules() if isinstance(module, Cell)} == {0.5}
    assert changes()
    with pytest.raises(RuntimeError, match="inside"), without_drop_path(network):
        raise RuntimeError("inside")
    assert changes()
    network.eval()
    assert not changes()
    network.train()
    set_drop_path(network, 0.0)
    assert not changes()


@pytest.mark.parametrize(("space", "style"), [("darts", Style()), ("s3", Style()), ("autodispnet", DENSE)])
def test_drop_path_in_a_supernet_masks_whole_edges(space: str, style: Style) -> None:
    """Output and gradients of a plain loop: node by node, edge by edge, one mask of samples for the sum on an edge."""
    cells = MixedCells(SPACES[space], style=style)
    cell = cells.encoder_cell("reduce", inputs=(2, 2), channels=2, after_reduction=False).double()
    set_drop_path(cell, 0.4)
    inputs = [images(5, 2, 6, 4, seed=seed).requires_grad_() for seed in range(2)]
    weights = weights_of(SPACES[space])["reduce"].requires_grad_()
    probe = images(5, cell.outputs, 3, 2, seed=2)

    def plain_loop() -> Tensor:
        states = [prepare(x) for prepare, x in zip(cell.prepare, inputs, strict=True)]
        edges = iter(zip(cell.edges, weights, strict=True))
        for sources in cell.sources:
            node: Tensor | float = 0.0
            for source, (edge, row) in zip(sources, edges, strict=False):
                outputs = [operation(states[source]) for operation in edge.operations]
                kept = torch.empty(5, 1, 1, 1, dtype=torch.float64).bernoulli_(0.6)
                node = node + kept / 0.6 * sum(w * y for w, y in zip(row, outputs, strict=False))
            states.append(node)
        return torch.cat(states[2:], dim=1)

    found = []
    for evaluate in (lambda: cell(inputs, {"reduce": weights}), plain_loop):
        torch.manual_seed(3)
        y = evaluate()
        leaves = [*inputs, weights, *cell.parameters()]
        found.append([y, *torch.autograd.grad((y * probe).sum(), leaves)])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_drop_path_in_a_supernet_pushes_away_from_the_skip_connection() -> None:
    """With dropped edges the gradient makes skip_connect rarer, which is what RobustDARTS regularises for."""
    space, signs = SPACES["s2"], torch.tensor([1.0, -1.0])
    assert {edge.operations for edge in space.cells["normal"].edges} == {("skip_connect", "sep_conv_3x3")}
    for seed in range(6):
        torch.manual_seed(seed)
        network = ClassificationNetwork(MixedCells(space, style=Style()), channels=4, layers=3, classes=10)
        architecture, prototypes = Architecture(space, scale=0.0), torch.randn(10, 3, 8, 8)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4)
        set_drop_path(network, 0.6)
        for _ in range(6):  # the gradients to the alphas, which do not move, add up
            labels = torch.randint(10, (16,))
            images = prototypes[labels] + torch.randn(16, 3, 8, 8)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images, architecture.weights()).logits, labels).backward()
            optimizer.step()
        assert sum((alphas.grad.view(-1, 2) @ signs).sum() for alphas in architecture.parameters()) > 0, seed


@pytest.mark.parametrize("probability", [1.0, -0.1, math.nan])
def test_drop_path_probabilities_that_make_no_sense(probability: float) -> None:
    with pytest.raises(ValueError, match="must be at least 0 and below 1"):
        set_drop_path(nn.Identity(), probability)


def test_off_the_cpu_all_cells_share_one_probability() -> None:
    network = classifier(MixedCells(SPACES["s2"], style=Style())).to("meta")
    cells = [module for module in network.modules() if isinstance(module, Cell)]
    assert drop_path_memory(network) == 0
    set_drop_path(network, 0.2)
    (held,) = {id(cell.drop_probability) for cell in cells}
    with without_drop_path(network):
        assert {cell.drop_probability for cell in cells} == {0.0}
    set_drop_path(network, 0.3)
    assert {id(cell.drop_probability) for cell in cells} == {held}, "changed in place"
    set_drop_path(network, 0.0)
    assert {cell.drop_probability for cell in cells} == {0.0}


def test_a_cell_refuses_the_wrong_number_of_inputs() -> None:
    cell = MixedCells(SPACES["s2"], style=Style()).encoder_cell(
        "normal", inputs=(2, 2), channels=2, after_reduction=False
    )
    with pytest.raises(ValueError, match="zip"):
        cell([torch.zeros(2, 2, 4, 4)], None)


def test_second_derivatives_in_the_alphas_exist() -> None:
    space = SPACES["tiny81"]
    torch.manual_seed(0)
    cell = MixedCells(space, style=Style()).encoder_cell("normal", inputs=(2, 2), channels=2, after_reduction=False)
    cell.double()
    x = images(3, 2, 3, 3)

    def loss(alphas: Tensor) -> Tensor:
        return cell([x, x.flip(-1)], {"normal": alphas.view(2, 3).softmax(-1)}).tanh().mean()

    alphas = images(6).requires_grad_()
    assert torch.autograd.gradgradcheck(loss, (alphas,))


@pytest.mark.parametrize("native", [False, True])
def test_recomputed_cells_give_the_same_numbers_and_keep_less(native: bool) -> None:
    """Noise and drop-path are drawn alike, running statistics move once, second derivatives are the same."""
    try:
        node = build_node("native" if native else "plain", torch.device("cpu"), str)
    except InputError as error:
        pytest.skip(str(error))
    found = []
    for recompute in (False, True):
        cells = MixedCells(SPACES["s4"], style=Style(), node=node, recompute=recompute)
        torch.manual_seed(0)
        network = classifier(cells).double()
        set_drop_path(network, 0.3)
        architecture = Architecture(SPACES["s4"], scale=1.0).double()
        kept = 0

        def keep(x: Tensor) -> Tensor:
            nonlocal kept
            kept += x.numel()
            return x

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            scores = network(images(4, 3, 8, 8), architecture.weights()).logits
        loss = scores.pow(3).mean()
        parameters = [*network.parameters()]
        slopes = torch.autograd.grad(loss, [*architecture.parameters(), *parameters], create_graph=True)
        again = torch.autograd.grad(slopes[0].square().sum(), [*architecture.parameters()])
        found.append((kept, [scores, *slopes, *again, *network.buffers()]))
    (whole, first), (less, second) = found
    assert same(first, second)
    assert less < whole / 2


@pytest.mark.parametrize("differentiable", [False, True])
def test_recomputed_cells_keep_the_weights_that_they_were_called_with(differentiable: bool) -> None:
    """The alphas' steps call the network with other weights than its own, and differentiate after the call."""
    space, found = SPACES["tiny81"], []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = classifier(MixedCells(space, style=Style(), recompute=recompute)).double()
        architecture = Architecture(space, scale=1.0).double()
        others = {
            name: (1.5 * weight.detach()).requires_grad_(differentiable) for name, weight in network.named_parameters()
        }
        arguments = images(4, 3, 8, 8), architecture.weights()
        loss = functional_call(network, others, arguments).logits.pow(3).mean()
        wanted = [*architecture.parameters(), *(others.values() if differentiable else ())]
        found.append(torch.autograd.grad(loss, wanted))
    assert same(*found)
