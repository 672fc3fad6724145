"""Every YAML composes, parses and builds; what does not fit is refused by name in one line."""

import pytest
from omegaconf import open_dict

from autodisp import configs
from autodisp.assembly.networks import build_style
from autodisp.assembly.search import (
    SearchData,
    build_alpha_optimizer,
    build_regularization,
    build_search_task,
    build_settings,
    build_space,
    build_weight_optimizer,
)
from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import MixedCells
from autodisp.config.search import SearchConfig, parse
from autodisp.networks.unbuilt import unbuilt
from autodisp.search.supernet import Supernet
from autodisp.tasks.registry import dataset_entries
from tests.programs import composed, task_of
from tests.programs import search_config as config_of

CHOICES = [
    f"{group}={choice}"
    for group, choices in configs.groups("search").items()
    for choice in choices
    if (group, choice)
    not in (("task", "own"), ("network", "own"), ("network", "own_tiny"), ("relaxation", "own"), ("dataset", "pairs"))
]


BUILT: dict[str, Supernet] = {}


def supernet_of(config: SearchConfig) -> Supernet:
    """Build the network of a config, without memory; the same one for choices that do not change it."""
    space, facts = build_space(config), dataset_entries()[config.dataset.name].facts
    key = repr((config.task, config.network, space, facts))
    if key not in BUILT:
        built = build_search_task(config, SearchData([], [], lambda sample, _: sample, [], facts))
        assert set(built.kinds) == set(space.kinds)
        with unbuilt():
            network = built.build_network(MixedCells(space, style=build_style(config.network, space)))
            BUILT[key] = Supernet(built, network, Architecture(space))
    return BUILT[key]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_builds(choice: str) -> None:
    task = task_of("search", choice)
    ranked = ["selection=ranking"] if choice in ("relaxation=uniform", "relaxation=frozen") else []
    target = ["cost_penalty.target=1"] if choice.startswith("cost_penalty=") and choice != "cost_penalty=none" else []
    config = config_of(*task, *ranked, choice, *target)
    supernet = supernet_of(config)
    build_weight_optimizer(config, supernet)
    build_alpha_optimizer(config, supernet)
    build_regularization(config)
    assert build_settings(config, 7).steps_per_epoch in (7, config.search.steps_per_epoch)


@pytest.mark.parametrize("dataset", ["shapes3d", "flyingthings3d", "sintel", "cifar10", "cifar100", "svhn"])
def test_smoke_takes_every_dataset(dataset: str) -> None:
    task = "disparity" if dataset in ("shapes3d", "flyingthings3d", "sintel") else "classification"
    config = config_of("experiment=smoke", f"task={task}", f"dataset={dataset}")
    assert (config.search.epochs, config.regularization.name) == (2, "none")
    assert config.network.channels <= 4


def test_a_task_brings_its_own_defaults() -> None:
    assert config_of().dataset.name == "shapes3d"
    assert config_of("task=classification").dataset.name == "cifar10"
    assert config_of("task=classification", "dataset=svhn").dataset.name == "svhn"


def test_configs_of_earlier_versions_are_of_the_softmax() -> None:
    tree = composed("search", "run.folder=unused")
    with open_dict(tree):
        del tree["relaxation"], tree["selection"], tree["alpha_penalty"], tree["cost_penalty"], tree["skip"]
    config = parse(tree)
    assert (config.relaxation.name, config.selection.name) == ("softmax", "argmax")
    assert config.alpha_penalty.name == config.cost_penalty.name == config.skip.name == "none"


def test_the_published_random_search() -> None:
    config = config_of("experiment=robustdarts", "relaxation=uniform", "selection=ranking")
    assert (config.selection.samples, config.selection.batches, config.selection.finalists) == (1000, 10, 10)
    assert (config.search.drop_path, config.cutout) == (0, 0)


def test_the_published_numbers() -> None:
    config = config_of("experiment=robustdarts", "regularization=es")
    weights, alphas, rule = (
        config.optimizer.weights, config.optimizer.alphas, build_regularization(config).early_stopping,
    )  # fmt: skip
    assert (config.search.epochs, config.search.batch_size) == (50, 64)
    assert (config.network.channels, config.network.layers) == (16, 8)
    assert (weights.learning_rate, weights.min_learning_rate, weights.momentum) == (0.025, 0.001, 0.9)
    assert (weights.weight_decay, weights.clip) == (3e-4, 5)
    assert (alphas.learning_rate, list(alphas.betas), alphas.weight_decay) == (3e-4, [0.5, 0.999], 1e-3)
    assert rule is not None
    assert (rule.window, rule.start_epoch, rule.delta, rule.factor, rule.every) == (5, 10, 4, 1.3, 2)
    assert alphas.order == "finite_difference"


@pytest.mark.parametrize(
    ("overrides", "side"),
    [
        (["experiment=robustdarts"], 0),
        (["experiment=robustdarts", "search.drop_path=0.6"], 16),
        (["experiment=robustdarts", "search.drop_path=0.6", "augmentation.cutout=0"], 0),
        (["task=classification"], 0),  # as DARTS searches
        (["task=classification", "augmentation.cutout=8"], 8),
        (["search.drop_path=0.6"], 0),  # disparity has none
    ],
)
def test_searches_cut_out_where_they_drop_paths(overrides: list[str], side: int) -> None:
    assert config_of(*overrides).cutout == side


def test_the_fingerprint_is_of_what_the_result_depends_on() -> None:
    base = config_of().fingerprint()
    assert config_of("run.folder=elsewhere", "run.workers=0", "run.threads=3").fingerprint() == base
    assert config_of("seed=1").fingerprint() != base
    assert config_of("optimizer.weights.learning_rate=0.01").fingerprint() != base


def test_every_dataset_has_one_yaml_for_all_programs() -> None:
    """Evaluation takes whole images of whatever a search crops."""
    shared = configs.groups("search")["dataset"]
    for program in ("train", "evaluate", "check"):
        assert configs.groups(program)["dataset"] == shared
    for choice in shared:
        searched, evaluated = (configs.settings(program, "dataset", choice) for program in ("search", "evaluate"))
        assert evaluated.get("crop") is None
        differing = {key for key in {*searched, *evaluated} if searched.get(key) != evaluated.get(key)}
        made = dataset_entries()[str(searched["name"])].generated
        generated = {"length", "height", "width", "cache"} if made else set()
        assert differing <= {"crop", "flip", "half_resolution", "max_disparity", *generated}


@pytest.mark.parametrize(("program", "dataset"), [("search", "flyingthings3d_full"), ("evaluate", "sintel")])
def test_the_settings_of_a_choice_are_those_that_hydra_composes(program: str, dataset: str) -> None:
    assert configs.settings(program, "dataset", dataset) == composed(program, f"dataset={dataset}").dataset


def test_a_run_of_an_earlier_version_has_old_names() -> None:
    tree = composed("search", "run.folder=unused", "dataset=flyingthings3d")
    with open_dict(tree):
        del tree.curvature.with_weight_decay, tree.dataset.official_exclusions
        tree.curvature.weight_decay, tree.dataset.excluded = True, "a.txt"
    config = parse(tree)
    assert config.curvature.with_weight_decay
    assert vars(config.dataset)["official_exclusions"] == "a.txt"
    assert "weight_decay" in tree.curvature
