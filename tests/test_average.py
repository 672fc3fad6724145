"""The moving average of a training's weights against the one of torch."""

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from autodisp.cells.cell import FoundCells
from autodisp.cells.genotype import Genotype
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.training.average import MovingAverage
from tests.made_searches import Batches
from tests.shared_runs import Network


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_average_is_that_of_torch(decay: float) -> None:
    torch.manual_seed(0)
    network = Network(FoundCells(Genotype("tiny81", SPACES["tiny81"].sample(3)), style=Style(affine=True)))
    mine = MovingAverage(network, decay)
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
    assert list(mine.state_dict()) == list(theirs.state_dict())
    for step, made in enumerate((0.0, 1.0, 1.0, 0.0, 1.0)):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += torch.randn(parameter.shape)
            network.train()(Batches(1).at(step).image)
        mine.update(network, torch.tensor(made))
        if made:
            theirs.update_parameters(network)
        for (name, one), other in zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True):
            torch.testing.assert_close(one, other, msg=name)
