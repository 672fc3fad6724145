"""Every YAML composes, parses and builds; what does not fit is refused by name in one line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf, open_dict

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
from autodisp.cells.spaces import SPACES
from autodisp.config.search import SearchConfig, parse
from autodisp.errors import InputError
from autodisp.search.supernet import Supernet
from autodisp.tasks.registry import dataset_entries

CONFIGS = Path(__file__).parent.parent / "configs"
CHOICES = [
    f"{folder.name}={path.stem}"
    for folder in sorted((CONFIGS / "search").iterdir())
    if folder.is_dir()
    for path in sorted(folder.glob("*.yaml"))
    if (folder.name, path.stem)
    not in (("task", "own"), ("network", "own"), ("relaxation", "own"))  # they have tests of their own
]
CLASSIFICATION = ("cifar10", "cifar100", "svhn", "classification", "s1", "s2", "s3", "s4", "darts", "tiny81")


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_module("autodisp.configs.search", version_base="1.3"):
        yield


def config_of(*overrides: str) -> SearchConfig:
    # hydra's own `now` resolver needs a running job
    return parse(compose("search", overrides=["run.folder=unused", *overrides]))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_builds(choice: str) -> None:
    name = choice.split("=")[1]
    task = ["task=classification"] if name.startswith(CLASSIFICATION) and not choice.startswith("task") else []
    ranked = ["selection=ranking"] if choice in ("relaxation=uniform", "relaxation=frozen") else []
    config = config_of(*task, *ranked, choice)
    space = build_space(config)
    facts = dataset_entries()[config.dataset.name].facts
    built = build_search_task(config, SearchData([], [], lambda sample, _: sample, [], facts))
    with torch.device("meta"):
        network = built.build_network(MixedCells(space, style=build_style(config.network, space)))
        supernet = Supernet(built, network, Architecture(space))
    assert set(built.kinds) == set(space.kinds)
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
    tree = compose("search", overrides=["run.folder=unused"])
    with open_dict(tree):
        del tree["relaxation"], tree["selection"], tree["alpha_penalty"], tree["skip"]
    config = parse(tree)
    assert (config.relaxation.name, config.selection.name) == ("softmax", "argmax")
    assert config.alpha_penalty.name == config.skip.name == "none"


def test_the_published_random_search() -> None:
    config = config_of("experiment=robustdarts", "relaxation=uniform", "selection=ranking")
    assert (config.selection.samples, config.selection.batches, config.selection.finalists) == (1000, 10, 10)
    assert (config.search.drop_path, config.cutout) == (0, 0)


def test_the_published_numbers() -> None:
    config = config_of("experiment=robustdarts", "regularization=es")
    weights, alphas, rule = (
        config.optimizer.weights,
        config.optimizer.alphas,
        build_regularization(config).early_stopping,
    )
    assert (config.search.epochs, config.search.batch_size, config.network.channels, config.network.layers) == (
        50,
        64,
        16,
        8,
    )
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


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["task=classification", "dataset=sintel"], "dataset=sintel does not fit task=classification: take "),
        (["dataset=svhn"], "dataset=svhn does not fit task=disparity"),
        (["space=s2"], "space=s2 does not fit task=disparity: take space=autodispnet"),
        (["task=classification", "space=autodispnet"], "space=autodispnet does not fit task=classification"),
        (["network=classification"], "network=classification does not fit task=disparity"),
        (["search.epochs=0"], "search.epochs=0: must be at least 1"),
        (["search.epochs=many"], "search.epochs=many: must be a whole number, such as 10"),
        (["search.warmup_epochs=20"], "search.warmup_epochs=20: must be below search.epochs=20"),
        (["search.drop_path=1"], "search.drop_path=1.0: must be at least 0 and below 1"),
        (["optimizer.weights.learning_rate=nan"], "optimizer.weights.learning_rate=nan: must be at least 0"),
        (["optimizer.weights.learning_rate=-1"], "optimizer.weights.learning_rate=-1.0: must be at least 0"),
        (["optimizer.weights.name=adma"], "did you mean 'adamw'?"),
        (["optimizer.alphas.order=second"], "must be one of first, exact, finite_difference"),
        (["optimizer.alphas.order=exact"], "unrolls a step of SGD, but optimizer.weights.name=adamw"),
        (["relaxation=uniform"], "relaxation=uniform moves no alphas: take selection=ranking"),
        (["relaxation=uniform", "selection=ranking", "regularization=ada"],
         "regularization=ada watches the curvature in the alphas, but relaxation=uniform moves none"),
        (["selection=ranking", "regularization=es"], "es returns an earlier epoch, but selection=ranking"),
        (["selection=ranking", "selection.finalists=1001"], "selection.finalists=1001: must be at most samples=1000"),
        (["alpha_penalty=beta", "relaxation=dirichlet"], "relaxation=dirichlet takes none: take relaxation=softmax or"),
        (["alpha_penalty=beta", "relaxation=perturbed", "relaxation.base=dirichlet"],
         "relaxation=dirichlet takes none"),
        (["relaxation=perturbed", "relaxation.attack=adversarial", "search.precision=float16"],
         "search.precision=float16: the ascent of relaxation.attack=adversarial has no gradient scaling"),
        (["relaxation=perturbed", "relaxation.base=gumbel"], "relaxation.base=gumbel: must be one of softmax"),
        (["relaxation=partial", "relaxation.share=3"], "relaxation.share=3: must divide network.channels=4"),
        (["relaxation=uniform", "selection=ranking", "skip=auxiliary"],
         "relaxation=uniform moves none: take skip=none"),
        (["relaxation=frozen"], "relaxation=frozen moves no alphas: take selection=perturbation"),
        (["relaxation=uniform", "selection=perturbation"], "take relaxation=frozen, or selection=ranking"),
        (["selection=perturbation", "regularization=es"], "es returns an earlier epoch, but selection=perturbation"),
        (["relaxation=own"], "relaxation.factory=null: must be a file and a class in it, such as"),
        (["relaxation.name=concrete"], "relaxation.name=concrete: must be one of softmax, dirichlet"),
        (["regularization=ada", "optimizer.weights.weight_decay=0"], "which is 0: start from 3e-4"),
        (["network.encoder_cells=3"], "network.encoder_cells=3: must be even, as cells come in pairs"),
        (["network.decoder_cells=4"], "network.decoder_cells=4: must be at most 2"),
        (["dataset.crop=[10,20]"], "dataset.crop=[10, 20]: must be [height, width]"),
        (["dataset.crop=[256,256]"], "no larger than the pictures, 192x384"),
        (["dataset.max_disparity=400"], "dataset.max_disparity=400: must be below dataset.width=384"),
        (["+dataset.hieght=3"], "dataset.hieght: no such setting; did you mean 'height'?"),
        (["+extra.thing=1"], "extra: no such section or setting; there are alpha_penalty, augmentation"),
        (["dataset.crop=5"], "dataset.crop=5: must be a list of whole numbers, such as [1,2], or null"),
        (["seed=-1"], "seed=-1: must be at least 0"),
        (["seed=x"], "seed=x: must be a whole number, such as 10"),
        (["curvature.every=0"], "curvature.every=0: must be at least 1"),
        (["run.device=tpu"], "run.device=tpu: must be one of auto, cpu, cuda"),
        (["space.name=s9"], "space.name=s9: must be one of"),
        (["task=classification", "dataset.limit=0"], "dataset.limit=0: must be at least 1"),
        (["task.volume_weight=2", "network.head=regression"], "task.volume_weight=2.0: weighs the volume of"),
        (["network.stages=2", "network.frozen_stages=1"], "network.frozen_stages=1: must be 0: a search has no"),
        (["network.aggregation=4", "network.head=regression"], "network.aggregation=4: must be 0 for network.head"),
        (["network.stem_scale=nan"], "network.stem_scale=nan: must be at least 0"),
        (["network.stem_scale=0.2"], "network.stem_scale=0.2: must be at least 1 / channels"),
        (["regularization=ada", "optimizer.weights.weight_decay=0.03"],
         "regularization.cap=0.03: must be above optimizer.weights.weight_decay=0.03"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(InputError) as caught:
        config_of(*overrides)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_fingerprint_is_of_what_the_result_depends_on() -> None:
    base = config_of().fingerprint()
    assert config_of("run.folder=elsewhere", "run.workers=0").fingerprint() == base
    assert config_of("seed=1").fingerprint() != base
    assert config_of("optimizer.weights.learning_rate=0.01").fingerprint() != base


def test_the_darts_flavour_always_normalises(tmp_path: Path) -> None:
    space = SPACES["autodispnet"].to_json() | {"flavour": "darts", "name": "mine"}
    (tmp_path / "space.json").write_text(json.dumps(space))
    config = config_of(f"space.file={tmp_path / 'space.json'}", "network.batch_norm=false")
    with pytest.raises(InputError, match=r"network\.batch_norm=false: space 'mine' is of the darts flavour"):
        build_style(config.network, build_space(config))


def test_training_has_every_shared_network() -> None:
    links = {path.name for path in (CONFIGS / "train" / "network").iterdir() if path.is_symlink()}
    assert links == {path.name for path in (CONFIGS / "network").glob("*.yaml")}
    assert all(path.resolve().is_file() for path in (CONFIGS / "train" / "network").iterdir())


@pytest.mark.parametrize("path", sorted((CONFIGS / "evaluate" / "dataset").glob("*.yaml")), ids=lambda path: path.stem)
def test_evaluation_differs_in_what_is_taken_of_the_data_alone(path: Path) -> None:
    """Its YAML may not drift from the one that all other programs share."""
    here, there = (OmegaConf.load(file) for file in (path, CONFIGS / "dataset" / path.name))
    differing = {key for key in {*here, *there} if here.get(key) != there.get(key)}
    generated = {"length", "height", "width", "cache"} if path.stem == "shapes3d" else set()
    assert differing <= {"crop", "flip", "half_resolution", "max_disparity", *generated}
