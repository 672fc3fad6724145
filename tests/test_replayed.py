"""Predictions by replaying, with a tracer in place of the GPU."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from autodisp.graphs import WARM_UPS, Graphs
from autodisp.prediction.image_models import Replayed
from tests.test_graphs import Tracer

CPU = torch.device("cpu")


@pytest.fixture
def tracer() -> Tracer:
    return Tracer()


@pytest.fixture
def replayed(tracer: Tracer) -> Replayed:
    found = Replayed(nn.Conv2d(3, 2, 3).eval(), CPU)
    found._graphs = Graphs(tracer)
    return found


def called(replayed: Replayed, *images: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        return [replayed(image) for image in images]


def same(replayed: Replayed, *images: Tensor) -> bool:
    with torch.inference_mode():
        return all(map(torch.equal, called(replayed, *images), map(replayed.network, images)))


def test_images_of_one_size_are_replayed_and_others_are_not(replayed: Replayed, tracer: Tracer) -> None:
    small, large = torch.rand(8, 1, 3, 8, 8), torch.rand(8, 1, 3, 9, 9)
    assert same(replayed, *(image for pair in zip(small, large, strict=True) for image in pair))
    assert tracer.recorded == 0
    assert same(replayed, *small)
    assert tracer.recorded == 1


def test_new_memory_of_the_weights_is_noticed(replayed: Replayed, tracer: Tracer) -> None:
    images = torch.rand(WARM_UPS + 2, 1, 3, 8, 8)
    assert same(replayed, *images)
    replayed.network.double().float()
    with torch.no_grad():
        next(replayed.network.parameters()).mul_(2)
    assert same(replayed, *images)
    assert tracer.recorded == 2


def test_nothing_is_recorded_under_autocast(replayed: Replayed, tracer: Tracer) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert called(replayed, *torch.rand(WARM_UPS + 2, 1, 3, 8, 8))[0].dtype == torch.bfloat16
    assert tracer.recorded == 0


def test_threads_share_it(replayed: Replayed) -> None:
    images = torch.rand(64, 1, 3, 8, 8)
    called(replayed, *images[: WARM_UPS + 1])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: called(replayed, image)[0], images))
    with torch.inference_mode():
        assert all(map(torch.equal, found, map(replayed.network, images)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_records_graphs_of_its_own(replayed: Replayed, copied: object) -> None:
    images = torch.rand(WARM_UPS + 2, 1, 3, 8, 8)
    called(replayed, *images)
    other = copied(replayed)  # type: ignore[operator]
    assert other.network is not replayed.network
    assert same(other, *images)
