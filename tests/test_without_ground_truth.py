"""Data without a pixel of valid ground truth is refused by every program that learns or measures."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from autodisp.assembly.data import MOST_LOOKED_AT, need_truth
from autodisp.assembly.evaluation import build_evaluation_data
from autodisp.assembly.search import build_data
from autodisp.assembly.train_data import build_train_data
from autodisp.config import evaluate, search, train
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.errors import InputError
from autodisp.tasks.disparity.kit import DATASETS
from autodisp.tasks.disparity.sections import Shapes3DConfig
from tests.programs import composed

SMALL = ["dataset.length=6", "dataset.height=32", "dataset.width=64", "dataset.max_disparity=12"]
PROGRAMS: list[tuple[str, Any, Callable[[Any], Any], list[str]]] = [
    ("search", search, build_data, ["search.batch_size=2"]),
    ("train", train, build_train_data, []),
    ("evaluate", evaluate, build_evaluation_data, ["baseline=constant", "split=train"]),
]


@pytest.mark.parametrize(("program", "config", "build", "words"), PROGRAMS, ids=[program for program, *_ in PROGRAMS])
def test_every_program_refuses_it(
    program: str, config: Any, build: Callable[[Any], Any], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.parse(composed(program, *SMALL, *words))
    build(settings)
    whole = Shapes3D.__getitem__

    def empty(data: Shapes3D, index: int) -> Any:
        sample = whole(data, index)
        return sample._replace(valid=torch.zeros_like(sample.valid))

    monkeypatch.setattr(Shapes3D, "__getitem__", empty)
    with pytest.raises(InputError, match=r"^dataset=shapes3d: no pixel with valid ground truth .*autodisp-check"):
        build(settings)


class Sparse:
    """Only one sample has ground truth."""

    def __init__(self, length: int, valid: int) -> None:
        self.length, self.valid, self.read = length, valid, 0
        self.sample = Shapes3D(length=1, seed=0, height=16, width=16, max_disparity=4)[0]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        return self.sample._replace(valid=torch.full((1, 16, 16), index == self.valid))


def test_one_valid_sample_is_enough_and_few_are_read() -> None:
    section = Shapes3DConfig()
    need_truth(section, DATASETS["shapes3d"], Sparse(8, valid=7))
    first, none = Sparse(10**6, valid=0), Sparse(10**6, valid=-1)
    need_truth(section, DATASETS["shapes3d"], first)
    assert first.read == 1
    with pytest.raises(InputError, match=f"in the {MOST_LOOKED_AT} sample"):
        need_truth(section, DATASETS["shapes3d"], none)
    assert none.read == MOST_LOOKED_AT
