"""From config to training: every choice builds, the published numbers arrive, init continues."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autodisp import configs, model_file
from autodisp.assembly.train_data import TrainData, build_train_data
from autodisp.assembly.training import (
    build_card,
    build_genotype,
    build_network,
    build_schedule,
    build_train_network,
    build_train_optimizer,
    build_training,
)
from autodisp.cells.genotype import Genotype, load, zoo_names
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.config.train import TrainConfig, parse
from autodisp.errors import InputError
from autodisp.networks.parameter_count import count_parameters
from autodisp.networks.unbuilt import unbuilt
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask
from autodisp.tracking import ConsoleProgress
from tests.made_data import HEIGHT, WIDTH, write_cifar10
from tests.programs import composed, same, task_of

CHOICES = [
    f"{group}={choice}"
    for group, choices in configs.groups("train").items()
    for choice in choices
    if (group, choice)
    not in (("task", "own"), ("network", "own"), ("network", "own_tiny"), ("dataset", "pairs"))  # tests of their own
]
FROM_FILE = ("from_checkpoint", "finetune", "adapt")
TINY = ("network=disparity_tiny", "dataset.height=40", "dataset.width=72", "dataset.max_disparity=16")
TINY_IMAGES = ("task=classification", "network=classification_tiny", "task.auxiliary_weight=0", "training.batch_size=4")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def config_of(*overrides: str) -> TrainConfig:
    # hydra's own `now` resolver needs a running job
    return parse(composed("train", "run.folder=unused", *overrides))


def data_of(**facts: Any) -> TrainData:
    return TrainData([], lambda sample, _: sample, [], facts=facts)


def card_of(config: TrainConfig, classes: int = 10) -> model_file.ModelCard:
    facts = {
        "classification": {"classes": classes, "mean": MEAN, "std": STD},
        "segmentation": {"classes": classes},
        "disparity": {},
        "flow": {},
    }[config.task.name]
    return build_card(config, data_of(**facts))


def parameters_of(config: TrainConfig) -> int:
    return count_parameters(built(card_of(config))[1])


SAVED: dict[tuple[str, ...], bytes] = {}


def model(path: Path, *overrides: str, classes: int = 10) -> Path:
    """A model file as a training of that config would begin it."""
    key = (*overrides, str(classes))
    if key not in SAVED:
        config = config_of(*overrides)
        card = card_of(config, classes)
        model_file.save(path, card, build_network(config, card)[1].state_dict())
        SAVED[key] = path.read_bytes()
    path.write_bytes(SAVED[key])
    return path


BUILT: dict[str, Any] = {}


def built(card: model_file.ModelCard) -> Any:
    """Build the task and network of a card, without memory; the same ones for choices that do not change them."""
    key = json.dumps({**card.to_json(), "about": {}})
    if key not in BUILT:
        with unbuilt():
            BUILT[key] = card.build()
    return BUILT[key]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_builds(tmp_path: Path, choice: str) -> None:
    overrides = [*task_of("train", choice), choice]
    if choice.endswith(FROM_FILE):
        overrides += [f"init={model(tmp_path / 'a.safetensors', *TINY)}", "genotype=null"]
    config = config_of(*overrides)
    card = card_of(config)
    task, network = built(card)
    assert task.name == card.task == config.task.name
    assert card.style.affine, "a found network learns scale and shift"
    optimizer = build_train_optimizer(config, network)
    assert type(optimizer).__name__.lower() == config.optimizer.name
    factor = build_schedule(config)
    factors = [factor(step) for step in range(0, config.training.steps, max(1, config.training.steps // 50))]
    assert all(0 < value <= 1 for value in factors)
    assert json.loads(json.dumps(card.to_json(), allow_nan=False))["task"] == task.name


def test_a_task_brings_its_own_defaults() -> None:
    config = config_of()
    assert (config.task.name, config.dataset.name, config.genotype) == ("disparity", "shapes3d", "autodispnet")
    config = config_of("task=classification")
    assert (config.dataset.name, config.network.name, config.genotype) == ("cifar10", "classification", "darts_v2")


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["shapes3d", "flyingthings3d", "sintel", "kitti2015", "middlebury2014"])
@pytest.mark.parametrize("recipe", ["disparity_small", "disparity_published"])
def test_a_recipe_takes_another_dataset(recipe: str, dataset: str) -> None:
    """The command line wins; what a recipe says of its own dataset goes with that."""
    config = config_of(f"recipe={recipe}", f"dataset={dataset}")
    plain = config_of(f"dataset={dataset}")
    assert config.dataset == plain.dataset
    assert config.training.steps == {"disparity_small": 8000, "disparity_published": 600_000}[recipe]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["recipe=disparity_published", "genotype=autodispnet"], 36_989_773),
        (["network=autodispnet_small", "genotype=autodispnet"], 6_931_157),
        (["network=autodispnet_large", "network.stages=3"], 111_208_271),
        (["network=autodispnet_small", "network.stages=3"], 20_855_103),
        (["recipe=classification_published", "genotype=darts_v2"], 3_825_768),
        (["recipe=classification_published", "genotype=darts_v2", "task.auxiliary_weight=0"], 3_349_342),
    ],
)
def test_golden_parameter_counts(overrides: list[str], expected: int) -> None:
    assert parameters_of(config_of(*overrides)) == expected


def test_the_published_disparity_recipe() -> None:
    """Adam at 1e-4, halved at 300, 400 and 500 k of 600 k steps; batches of 4 crops; no clipping, no average."""
    config = config_of("recipe=disparity_published")
    network = torch.nn.Linear(2, 2)
    optimizer, factor = build_train_optimizer(config, network), build_schedule(config)
    assert type(optimizer) is torch.optim.Adam
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.9, 0.999), 0)
    at = {0: 1, 1: 1, 299_999: 1, 300_000: 1 / 2, 399_999: 1 / 2, 400_000: 1 / 4, 500_000: 1 / 8, 599_999: 1 / 8}
    assert {step: factor(step) for step in at} == at
    training = config.training
    assert (training.steps, training.batch_size, training.average, training.drop_path) == (600_000, 4, None, 0)
    assert config.optimizer.clip == math.inf
    assert (config.dataset.name, config.dataset.crop) == ("flyingthings3d", [384, 768])
    assert not config.dataset.half_resolution
    assert training.level_weights == []  # those of the family, see test_tasks_disparity.py
    assert (config.network.channels, config.network.head, config.network.batch_norm) == (42, "regression", False)


def test_the_published_classification_recipe() -> None:
    """SGD from 0.025 to 0 by a cosine over 600 epochs of 50,000 images in whole batches of 96."""
    config = config_of("recipe=classification_published")
    optimizer, factor = build_train_optimizer(config, torch.nn.Linear(2, 2)), build_schedule(config)
    assert type(optimizer) is torch.optim.SGD
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.025, 0.9, 3e-4, False)
    steps = 600 * (50_000 // 96)
    assert config.training.steps == steps
    assert [factor(step) for step in (0, steps // 2, steps)] == pytest.approx([1, 0.5, 0])
    assert (config.optimizer.clip, config.training.drop_path, config.training.batch_size) == (5, 0.2, 96)
    assert (config.task.auxiliary_weight, config.training.average) == (0.4, None)
    assert (config.network.channels, config.network.layers) == (36, 20)
    assert config.validation.fraction is None, "the test split"
    assert config.cutout == 16
    task, network = build_network(config, card_of(config))
    assert isinstance(task, ClassificationTask)
    assert task.auxiliary_weight == 0.4
    assert torch.equal(network.mean.flatten(), torch.tensor(MEAN))


@pytest.mark.slow
def test_only_what_may_learn_is_optimised(tmp_path: Path) -> None:
    alone = config_of(*TINY)
    card = card_of(alone)
    _, first = build_network(alone, card)
    model_file.save(tmp_path / "first.safetensors", card, first.state_dict())
    config = config_of(*TINY, "network.stages=2", "network.frozen_stages=1", f"init={tmp_path / 'first.safetensors'}",
                       "seed=5")  # fmt: skip
    _, network = build_network(config, card_of(config))
    for name, tensor in first.state_dict().items():
        assert torch.equal(network.state_dict()[f"stages.0.{name}"], tensor)
    optimised = {id(parameter) for group in build_train_optimizer(config, network).param_groups
                 for parameter in group["params"]}  # fmt: skip
    names = {name.split(".")[1] for name, parameter in network.named_parameters() if id(parameter) in optimised}
    assert names == {"1"}
    assert len(optimised) == len(list(network.stages[1].parameters()))  # type: ignore[index, union-attr]


def test_the_seed_decides_the_start() -> None:
    starts = []
    for seed in (0, 0, 1):
        config = config_of(*TINY, f"seed={seed}")
        torch.rand(3)
        _, network = build_network(config, card_of(config))
        starts.append([tensor.clone() for tensor in network.state_dict().values()])
    assert same(starts[0], starts[1])
    assert not same(starts[0], starts[2])


# --- cells ---


@pytest.mark.parametrize("name", zoo_names())
def test_cells_of_the_zoo(name: str) -> None:
    task = [] if name == "autodispnet" else ["task=classification"]
    genotype, space = build_genotype(config_of(*task, f"genotype={name}"))
    assert genotype == load(name)
    assert space == SPACES[load(name).space]


def test_cells_of_a_search(tmp_path: Path) -> None:
    found = Genotype("s2", SPACES["s2"].sample(7), {"run": "mine", "epoch": 3})
    found.save(tmp_path / "genotype.json")
    config = config_of("task=classification", f"genotype={tmp_path / 'genotype.json'}")
    card = card_of(config)
    assert card.genotype == found
    assert card.genotype is not None
    assert card.genotype.provenance == found.provenance


def test_cells_of_a_space_of_ones_own(tmp_path: Path) -> None:
    space = SPACES["autodispnet"].to_json() | {"name": "mine"}
    (tmp_path / "space.json").write_text(json.dumps(space))
    Genotype("mine", load("autodispnet").cells).save(tmp_path / "genotype.json")
    for genotype in (tmp_path / "genotype.json", "random:mine"):
        config = config_of(*TINY, f"genotype={genotype}", f"space_file={tmp_path / 'space.json'}")
        card = card_of(config)
        assert card.space is not None
        assert card.space.name == "mine"
        model_file.save(tmp_path / "a.safetensors", card, build_network(config, card)[1].state_dict())
        assert model_file.load_network(tmp_path / "a.safetensors")[0] == card


def test_random_cells_are_the_seeds() -> None:
    drawn = [build_genotype(config_of("genotype=random:autodispnet", f"seed={seed}"))[0] for seed in (0, 0, 1, 2)]
    assert all(isinstance(genotype, Genotype) for genotype in drawn)
    assert drawn[0] == drawn[1]
    assert len({str(genotype) for genotype in drawn}) == 3
    assert drawn[0] is not None
    assert drawn[0].cells == SPACES["autodispnet"].sample(0)
    genotype, _ = build_genotype(config_of("task=classification", "genotype=random:s3", "seed=5"))
    assert genotype == Genotype("s3", SPACES["s3"].sample(5))


def test_designed_cells_are_a_network_of_their_own(tmp_path: Path) -> None:
    path = model(tmp_path / "a.safetensors", *TINY, "genotype=designed")
    card, _, network = model_file.load_network(path)
    assert card.genotype is None
    assert count_parameters(network) != parameters_of(config_of(*TINY))


@pytest.mark.slow
@pytest.mark.parametrize("genotype", ["autodispnet", "designed"])
def test_a_network_of_so_many_parameters(genotype: str) -> None:
    """The nearest width: no neighbour is nearer."""
    base = (*TINY, f"genotype={genotype}")
    widths = [parameters_of(config_of(*base, f"network.channels={channels}")) for channels in (4, 5, 6)]
    for wanted in ((widths[0] + 2 * widths[1]) // 3, (widths[2] + 2 * widths[1]) // 3):
        card = card_of(config_of(*base, f"parameters={wanted}"))
        assert card.settings["channels"] == 5


# --- init ---


def weights_of(*overrides: str, classes: int = 10) -> tuple[model_file.ModelCard, dict[str, Tensor]]:
    config = config_of(*overrides)
    card = card_of(config, classes)
    return card, build_network(config, card)[1].state_dict()


def test_the_same_network_continues(tmp_path: Path) -> None:
    path = model(tmp_path / "a.safetensors", *TINY, "seed=3")
    _, expected = model_file.load(path)
    _, found = weights_of(*TINY, "seed=4", f"init={path}")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    _, other = weights_of(*TINY, "seed=4")
    assert not all(torch.equal(other[name], expected[name]) for name in found)


def test_from_checkpoint_takes_cells_and_settings_over(tmp_path: Path) -> None:
    path = model(tmp_path / "a.safetensors", *TINY, "genotype=random:autodispnet", "seed=3", "network.channels=3")
    card, expected = model_file.load(path)
    found, weights = weights_of("recipe=finetune", f"init={path}")
    assert (found.genotype, found.style, found.settings) == (card.genotype, card.style, card.settings)
    assert found.settings["channels"] == 3
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert found.about["init"] == str(path)
    assert found.about != card.about


def test_another_width_is_refused_by_name(tmp_path: Path) -> None:
    path = model(tmp_path / "a.safetensors", *TINY)
    with pytest.raises(InputError, match=f"^init={path}: weight 'stem.* in the file but .* in the network"):
        weights_of(*TINY, "network.channels=3", f"init={path}")


@pytest.mark.parametrize("network", ["classification_tiny", "from_checkpoint"])
def test_other_classes_start_a_new_classifier(tmp_path: Path, network: str) -> None:
    path = model(tmp_path / "a.safetensors", *TINY_IMAGES, classes=10)
    _, expected = model_file.load(path)
    overrides = ["task=classification", f"network={network}", "dataset=cifar100", f"init={path}", "seed=8"]
    overrides += ["task.auxiliary_weight=0"] + ["genotype=null"] * (network == "from_checkpoint")
    card, found = weights_of(*overrides, classes=100)
    assert card.settings["classes"] == 100
    kept = [name for name in expected if not name.startswith("classifier.")]
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in kept)
    assert found["classifier.weight"].shape[0] == found["classifier.bias"].shape[0] == 100
    assert found["classifier.weight"].std() > 0


@pytest.mark.parametrize(("before", "after"), [(0.4, 0.0), (0.0, 0.4)])
def test_an_auxiliary_head_may_come_and_go(tmp_path: Path, before: float, after: float) -> None:
    path = model(tmp_path / "a.safetensors", *TINY_IMAGES, f"task.auxiliary_weight={before}")
    _, expected = model_file.load(path)
    card, found = weights_of(*TINY_IMAGES, f"task.auxiliary_weight={after}", f"init={path}")
    assert card.settings["auxiliary"] == (after > 0)
    assert any(name.startswith("auxiliary.") for name in found) == (after > 0)
    assert all(torch.equal(found[name], expected[name]) for name in found if not name.startswith("auxiliary."))


def test_from_checkpoint_keeps_the_normalisation_and_honours_the_auxiliary_head(tmp_path: Path) -> None:
    path = model(tmp_path / "a.safetensors", *TINY_IMAGES, "task.auxiliary_weight=0.4")
    config = config_of("task=classification", "recipe=finetune", f"init={path}", "task.auxiliary_weight=0")
    data = data_of(classes=10, mean=(0.1, 0.1, 0.1), std=(0.9, 0.9, 0.9))
    card = build_card(config, data)
    _, network = build_network(config, card)
    for found in (card.settings["mean"], network.mean.flatten().tolist()):  # type: ignore[operator, union-attr]
        assert found == pytest.approx(MEAN)
    for found in (card.settings["std"], network.std.flatten().tolist()):  # type: ignore[operator, union-attr]
        assert found == pytest.approx(STD)
    assert not card.settings["auxiliary"]


@pytest.mark.slow
@pytest.mark.parametrize("stages", [1, 2])
def test_a_stack_goes_on_from_a_shorter_one(tmp_path: Path, stages: int) -> None:
    path = model(tmp_path / "a.safetensors", *TINY, f"network.stages={stages}")
    _, expected = model_file.load(path)
    _, found = weights_of(*TINY, "network.stages=3", f"network.frozen_stages={stages}", f"init={path}", "seed=5")
    for name, tensor in expected.items():
        assert torch.equal(found[name if stages > 1 else f"stages.0.{name}"], tensor)
    assert any(name.startswith("stages.2.") for name in found)


@pytest.mark.parametrize(
    "overrides",
    [("recipe=finetune",), TINY, (*TINY, "network.stages=2", "network.frozen_stages=1")],
    ids=["from_checkpoint", "same", "stack"],
)
def test_the_wiring_of_the_model_that_init_names_is_kept(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    path = model(tmp_path / "a.safetensors", *TINY)
    card, weights = model_file.load(path)
    task, _ = build_network(config := config_of(*overrides, f"init={path}"), card_of(config))
    assert task.settings["support"] == "reduce"
    before = {key: value for key, value in card.settings.items() if key != "support"}
    model_file.save(path, dataclasses.replace(card, settings=before), weights)
    task, _ = build_network(config, card_of(config))
    assert task.settings["support"] == "normal"


# --- all of it ---


def test_every_number_arrives(tmp_path: Path) -> None:
    config = config_of(
        *TINY, "dataset.length=6", "training.steps=9", "training.batch_size=2", "training.drop_path=0.25",
        "training.average=0.75", "training.precision=bfloat16", "validation.every=4", "validation.samples=3",
        "optimizer.learning_rate=0.5", "optimizer.min_learning_rate=0.1", "optimizer.clip=3", "optimizer.momentum=0.7",
        "optimizer.warmup_steps=2", "task.volume_weight=0.3", "task.robust_scale=0.5", "run.workers=0",
        "training.level_weights=[[1,2],[3,4.0]]", "training.level_steps=[0,5]",
    )  # fmt: skip
    data = build_train_data(config)
    parts = build_training(config, data, tmp_path, ConsoleProgress(), build_train_network(config, data))
    training = parts.training
    try:
        settings = training.settings
        assert (settings.steps, settings.validate_every, settings.clip) == (9, 4, 3)
        assert (settings.drop_path, settings.precision) == (0.25, "bfloat16")
        (group,) = training.optimizer.param_groups
        assert isinstance(training.optimizer, torch.optim.AdamW)
        assert (group["betas"], group["weight_decay"]) == ((0.7, 0.999), 1e-4)
        for step in range(9):
            cosine = 0.1 + 0.4 * (1 + math.cos(math.pi * step / 9)) / 2
            assert 0.5 * training.schedule(step) == pytest.approx(cosine * min(1, (step + 1) / 2))
        assert training.average is not None
        assert isinstance(training.task, DisparityTask)
        assert (training.task.volume_weight, training.task.robust_scale) == (0.3, 0.5)
        sample = training.task.inputs(training.stream.at(0))
        output, batch = training.network(*sample), training.stream.at(0)
        for step, weights in ((0, (1, 2)), (4, (1, 2)), (5, (3, 4)), (8, (3, 4))):
            assert training._loss is not None
            assert training._loss(step, output, batch) == training.task.loss(output, batch, weights)
        assert len(list(training.validation)) == 3
        assert training.stream.next().left.shape == (2, 3, HEIGHT, WIDTH)
        assert parts.parameters == count_parameters(training.network)
        pictures = parts.folder.pictures
        assert pictures is not None
        random = torch.get_rng_state()
        assert pictures()["prediction"].shape[0] > 2 * HEIGHT
        assert torch.equal(torch.get_rng_state(), random)
        assert training.evaluated.training
    finally:
        parts.close()


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path / "a.safetensors", *TINY_IMAGES)
    with pytest.raises(InputError, match=r"init=.*a\.safetensors: is for task=classification, but task=disparity"):
        card_of(config_of("recipe=finetune", f"init={path}"))
    config = config_of(*TINY, f"init={path}")
    with pytest.raises(InputError, match=r"a\.safetensors: weight '.*' is absent in the file"):
        build_network(config, card_of(config))


def test_what_a_model_says_of_its_origin(tmp_path: Path) -> None:
    config = config_of("seed=6")
    about = card_of(config).about
    assert (about["dataset"], about["seed"], about["init"]) == ("shapes3d", 6, None)
    assert about["config_hash"] == config.fingerprint()
    assert about["torch"] == torch.__version__
    assert "classes" not in about
    write_cifar10(tmp_path)
    data = build_train_data(config_of(*TINY_IMAGES, f"dataset.root={tmp_path}"))
    about = build_card(config_of(*TINY_IMAGES), data).about
    assert about["classes"][:3] == ["airplane", "automobile", "bird"]


def test_a_style_without_normalisation_is_the_networks() -> None:
    card = card_of(config_of("network=autodispnet_small"))
    assert card.style == Style(flavour="dense", batch_norm=False, affine=True)
    card = card_of(config_of("task=classification"))
    assert card.style == Style(flavour="darts", batch_norm=True, affine=True)
