"""Costs of operations in place: MACs and parameters against networks that were built, and latencies for their form."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from autodisp.cells.cell import FoundCells
from autodisp.cells.genotype import Genotype
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES, CellSpace, EdgeSpace, SearchSpace
from autodisp.search import measuring
from autodisp.search.costs import CostTable
from autodisp.search.measuring import Deployment, cost_of, covering_paths, measure
from autodisp.tasks.base import Task
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask

NAMES = ("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3", "conv_1x1")


def ragged(kind: str, inputs: int) -> CellSpace:
    """A cell whose edges differ in their operations, and which keeps 1 and 2 of them."""
    nodes = tuple(
        tuple(EdgeSpace(source, NAMES[source % 2 : 3 + (source + node) % 3]) for source in range(inputs + node))
        for node in range(2)
    )
    return CellSpace(kind, nodes, (1, 2))


SMALL = SearchSpace("ragged", "darts", {kind: ragged(kind, 2) for kind in ("normal", "reduce")})
STEREO = SearchSpace(
    "stereo", "dense", {**{kind: ragged(kind, 2) for kind in ("normal", "reduce")}, "upsample": ragged("upsample", 4)}
)


def deployment(name: str) -> Deployment:
    image = torch.rand(1, 3, 33, 47).to(memory_format=torch.channels_last)
    task: Task
    if name == "classification":
        task = ClassificationTask(channels=4, layers=3, classes=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
        return Deployment(task, SMALL, Style("darts", affine=True), (image,))
    stages = 2 if name == "stack" else 1
    task = DisparityTask(
        channels=4, stem_scale=1.0, encoder_cells=2, decoder_cells=1, max_displacement=4, stages=stages
    )
    return Deployment(task, STEREO, Style("dense", batch_norm=False, affine=True), (image, image))


def counted(quantity: str, made: Deployment, genotype: Genotype) -> int:
    """A count of the built network, by torch's counter or the sizes of its tensors."""
    network = made.task.build_network(FoundCells(genotype, style=made.style)).eval()
    if quantity == "parameters":
        return sum(parameter.numel() for parameter in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*made.inputs)
    return counter.get_total_flops() // 2


@pytest.mark.slow
@pytest.mark.parametrize("quantity", ["macs", "parameters"])
@pytest.mark.parametrize("name", ["classification", "disparity", "stack"])
def test_counts_are_those_of_the_built_network(name: str, quantity: Any) -> None:
    made = deployment(name)
    state = torch.random.get_rng_state()
    table = measure(quantity, made)
    assert torch.equal(state, torch.random.get_rng_state())
    costs = set()
    for seed in range(2):
        genotype = Genotype(made.space.name, made.space.sample(seed))
        costs.add(table.of(genotype))
        assert table.of(genotype) == counted(quantity, made, genotype) == cost_of(quantity, made, genotype)
    assert len(costs) > 1


def test_latencies_of_all_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "MOST_ROUNDS", 1)
    made = deployment("disparity")
    table = measure("latency", made)
    assert {cell.kind for cell in table.cells} == {"normal", "reduce", "upsample"}
    for cell in table.cells:
        space = made.space.cells[cell.kind]
        assert [len(row) for row in cell.edges] == [len(edge.operations) for edge in space.edges]
        assert all(cost > 0 for row in cell.edges for cost in row)
    siamese = next(cell for cell in table.cells if cell.name == "siamese")
    assert siamese.outputs[0] == (2, 8, 6, 6), "both views, at 1/8 of 48x48"
    assert cost_of("latency", made, Genotype("stereo", made.space.sample(0))) > 0
    assert table.about["inputs"] == [[1, 3, 33, 47]] * 2
    assert table.machine["threads"] == torch.get_num_threads()


@pytest.mark.parametrize("space", [*SPACES.values(), SMALL, STEREO], ids=lambda space: space.name)
def test_the_paths_contain_every_operation(space: SearchSpace) -> None:
    seen = set()
    for path in covering_paths(space):
        for kind, cell in space.cells.items():
            rows = iter(path[kind])
            for node, keep in zip(cell.nodes, cell.keep, strict=True):
                chosen = [next(rows) for _ in node]
                assert sum(map(len, chosen)) == keep
                assert max(map(len, chosen)) == 1
            seen |= {(kind, row, place) for row, places in enumerate(path[kind]) for place in places}
    assert len(seen) == space.alphas


def test_a_table_of_another_network_differs() -> None:
    table = CostTable("macs", SMALL, 0, (), deployment("classification").about)
    assert table.about != deployment("disparity").about
