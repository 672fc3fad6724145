"""Reads the data of a training."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autodisp.assembly.data import fingerprint_of, groups_of, kept, need_truth, require_one_size
from autodisp.config.train import TrainConfig
from autodisp.datasets.splits import Part, halves, subset
from autodisp.datasets.streams import fixed_batches
from autodisp.errors import InputError, WrongSetting
from autodisp.tasks.kit import DatasetEntry

HELD_OUT_FRACTION = 0.1
"""Share of the samples for validation, for a dataset without ground truth in a test split."""


@dataclass(frozen=True)
class TrainData:
    """Data of a training."""

    train: Part[Any]
    transform: Callable[[Any, np.random.Generator], Any]
    validation: Iterable[Any]
    trained_on: Sequence[str] = ()
    """Names of the training samples, if others of the same split are held out."""
    held_out: Sequence[str] = ()
    """Names of the held-out samples."""
    class_names: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """See ``TaskKit.facts``."""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    """See ``SearchData``."""


def build_train_data(config: TrainConfig) -> TrainData:
    """Reads the training split, and the test split or a held-out subset for validation.

    Raises:
        InputError: the data is missing, damaged or too little.
    """
    data = _read_data(config)
    if len(data.train) < config.training.batch_size:
        raise InputError(
            f"training.batch_size={config.training.batch_size}: there are {len(data.train)} training samples; "
            f"take training.batch_size={len(data.train)} or smaller, or more data"
        )
    return data


def _read_data(config: TrainConfig) -> TrainData:
    kit, section, size = config.kit, config.dataset, config.training.batch_size
    entry = kit.datasets[section.name]
    has_test = "test" in entry.splits
    dataset = entry.build(section, seed=config.seed, split="train", strict=True)
    chosen = subset(len(dataset), limit=section.limit, seed=config.seed)
    trained_on: list[str] = []
    untrained: list[str] = []
    if config.validation.fraction is None and has_test:
        test = _test_split(config, entry)
        held_out = Part(kept(section, test), list(range(len(test))))
    else:
        fraction = config.validation.fraction or HELD_OUT_FRACTION
        groups = groups_of(dataset)
        among = len(chosen) if isinstance(groups, int) else [groups[index] for index in chosen]
        train, rest = halves(among, seed=config.seed, fraction=1 - fraction, parts="training and validation")
        held_out = Part(kept(section, dataset), [chosen[index] for index in rest])
        chosen = [chosen[index] for index in train]
        if not has_test:
            trained_on = [dataset.names[index] for index in chosen]
            untrained = [dataset.names[index] for index in held_out.indices]
    train_part = Part(kept(section, dataset), chosen)
    need_truth(section, entry, train_part)
    require_one_size(section, dataset, chosen, key="training.batch_size", batch_size=size)
    return TrainData(
        train=train_part,
        transform=kit.augment(section, config.augmentation, config.cutout, dataset),
        validation=_validation(config, held_out),
        trained_on=trained_on,
        held_out=untrained,
        class_names=getattr(dataset, "classes", ()),
        facts=kit.facts(dataset),
        fingerprint={"samples": fingerprint_of(train_part, held_out)},
    )


def _test_split(config: TrainConfig, entry: DatasetEntry) -> Any:
    try:
        return entry.build(config.dataset, seed=config.seed, split="test", strict=True)
    except WrongSetting:
        raise
    except InputError as error:
        raise InputError(f"{error}; or hold out a tenth of the training split: validation.fraction=0.1") from None


def _validation(config: TrainConfig, held_out: Part[Any]) -> Iterable[Any]:
    """Uncropped samples evenly spread over the held-out ones, the same for every seed."""
    places = subset(len(held_out), limit=config.validation.samples, seed=0)
    part = Part(held_out.dataset, [held_out.indices[place] for place in places])
    return fixed_batches(part, config.validation.batch_size)
