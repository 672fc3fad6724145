"""From config to objects: every number arrives where it belongs, both halves are apart, a space of one's own works."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import autodisp
from autodisp.assembly.networks import build_style
from autodisp.assembly.running import build_graphs
from autodisp.assembly.search import (
    SearchData,
    SearchParts,
    build_alpha_optimizer,
    build_data,
    build_regularization,
    build_search,
    build_search_task,
    build_settings,
    build_space,
    build_supernet,
    build_weight_optimizer,
    provenance,
)
from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import MixedCells
from autodisp.cells.genotype import load
from autodisp.cells.spaces import SPACES, SearchSpace
from autodisp.config.search import SearchConfig
from autodisp.errors import InputError
from autodisp.search.supernet import Supernet
from autodisp.tracking import ConsoleProgress
from tests.made_data import HEIGHT, SCENES, WIDTH, write_cifar10, write_frames, write_svhn
from tests.programs import same
from tests.programs import search_config as config_of


def task_in(config: SearchConfig, **facts: Any) -> Any:
    """The task of a config, without data."""
    return build_search_task(config, SearchData([], [], lambda sample, _: sample, [], facts))


def smoke(*overrides: str) -> SearchConfig:
    return config_of("experiment=smoke", *overrides)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "frames")


def stereo(root: Path, *overrides: str) -> SearchConfig:
    fixed = ["dataset.half_resolution=false", "dataset.crop=[32,48]", "dataset.max_disparity=16"]
    return smoke("dataset=flyingthings3d", f"dataset.root={root}", *fixed, *overrides)


def names(half: Any) -> list[str]:
    return [half.dataset.names[index] for index in half.indices]


def scenes(half: Any) -> set[str]:
    return {name.rpartition("/")[0] for name in names(half)}


@pytest.mark.parametrize("seed", range(4))
def test_no_scene_is_on_both_sides(frames: Path, seed: int) -> None:
    data = build_data(stereo(frames, f"seed={seed}"))
    assert scenes(data.weight_half) | scenes(data.alpha_half) == {
        f"TRAIN/{'ABC'[scene % 3]}/{scene:04d}" for scene in range(5)
    }
    assert not scenes(data.weight_half) & scenes(data.alpha_half)
    assert len(set(names(data.weight_half) + names(data.alpha_half))) == sum(SCENES)
    assert len(data.weight_half) == len(data.alpha_half) == sum(SCENES) // 2


def test_the_seed_decides_the_halves(frames: Path) -> None:
    halves = [tuple(names(build_data(stereo(frames, f"seed={seed}")).weight_half)) for seed in (0, 0, 1, 2, 3, 4)]
    assert halves[0] == halves[1]
    assert len(set(halves)) > 1


@pytest.mark.parametrize(("limit", "expected"), [("null", 12), ("9", 9), ("12", 12), ("1000", 12)])
def test_the_limit_counts_both_halves(frames: Path, limit: str, expected: int) -> None:
    data = build_data(stereo(frames, f"dataset.limit={limit}"))
    assert len(set(names(data.weight_half) + names(data.alpha_half))) == expected
    assert not scenes(data.weight_half) & scenes(data.alpha_half)


def test_one_scene_cannot_be_halved(frames: Path) -> None:
    with pytest.raises(InputError, match=r"1 scene\(s\) in 3 sample\(s\)"):
        build_data(stereo(frames, f"dataset.official_exclusions={excluded_but_one_scene(frames)}"))


COARSE = ("network.encoder_cells=8", "dataset.crop=null")
"""One pixel of 40x72 at a stride of 128."""


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ((*COARSE, "search.batch_size=1"), "search.batch_size=1"),
        ((*COARSE, "search.batch_size=5", "search.validation_batches=null"), "search.batch_size=5 in the last of the"),
        ((*COARSE, "search.batch_size=5", "search.validation_batches=2"), "search.batch_size=5 in the last of the"),
        ((*COARSE, "search.batch_size=5", "search.validation_batches=1"), None),
        ((*COARSE, "search.batch_size=6", "search.validation_batches=null"), None),
        ((*COARSE, "search.batch_size=1", "network.batch_norm=false"), None),
        ((*COARSE[:1], "dataset.crop=[40,72]", "search.batch_size=1"), "search.batch_size=1"),
        (("network.encoder_cells=6", "dataset.crop=null", "search.batch_size=1"), None),
    ],
)
def test_one_pixel_of_one_sample_is_refused_before_batch_normalisation(
    frames: Path, overrides: tuple[str, ...], key: str | None
) -> None:
    config = stereo(frames, *overrides)
    if key is None:
        data = build_data(config)
        assert len(data.alpha_half) == 6
    else:
        with pytest.raises(InputError, match=f"^{key}.* one sample of 40x72, .* take two samples or more, or larger"):
            build_data(config)


def test_one_image_before_an_auxiliary_head_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    base = ("task=classification", "network=classification_tiny", f"dataset.root={tmp_path}", "search.batch_size=1")
    with pytest.raises(InputError, match=r"^search\.batch_size=1: .* 32x32, .* or task\.auxiliary_weight=0$"):
        build_data(config_of(*base, "task.auxiliary_weight=0.4"))
    build_data(config_of(*base, "task.auxiliary_weight=0"))


def excluded_but_one_scene(root: Path) -> Path:
    paths = (root / "frames_cleanpass").glob("TRAIN/*/*/left/*.png")
    listed = [str(path.relative_to(root / "frames_cleanpass")) for path in paths if "0001" not in path.parts]
    (root / "unused.txt").write_text("\n".join(listed) + "\n")
    return root / "unused.txt"


def test_training_crops_and_validation_batches(frames: Path) -> None:
    config = stereo(frames, "search.validation_batches=2", "search.batch_size=2", "augmentation.scale=2")
    data = build_data(config)
    for index in range(len(data.weight_half)):
        sample = data.transform(data.weight_half[index], np.random.default_rng(index))
        assert [plane.shape[-2:] for plane in sample] == 6 * [(32, 48)]
    first, second = list(data.validation), list(data.validation)
    assert [len(batch.left) for batch in first] == [2, 2]
    for one, other in zip(first, second, strict=True):
        assert same(one, other)
    # what is validated on is the middle of pictures of the architecture half, as they are
    top, left = (HEIGHT - 32) // 2, (WIDTH - 48) // 2
    middles = [
        [plane[:, top : top + 32, left : left + 48] for plane in data.alpha_half[index][:4]]
        for index in range(len(data.alpha_half))
    ]
    for batch in first:
        for position in range(2):
            sample = [plane[position] for plane in batch[:4]]
            assert any(all(map(torch.equal, sample, middle)) for middle in middles)


def test_all_of_the_architecture_half_is_validated_on(frames: Path) -> None:
    config = stereo(frames, "search.validation_batches=null", "search.batch_size=4", "dataset.crop=null")
    batches = list(build_data(config).validation)
    assert [len(batch.left) for batch in batches] == [4, 2]
    assert batches[0].left.shape[-2:] == (HEIGHT, WIDTH)


def test_validation_spans_the_half(frames: Path) -> None:
    """Not the first frames in path order, which are all of one scene."""
    config = stereo(frames, "search.validation_batches=2", "search.batch_size=1", "dataset.crop=null")
    data = build_data(config)
    half = [data.alpha_half[place].left for place in range(len(data.alpha_half))]
    chosen = [[torch.equal(left, batch.left[0]) for left in half].index(True) for batch in data.validation]
    assert len(set(chosen)) == 2
    assert chosen != [0, 1]


def test_pictures_leave_the_random_state_alone(tmp_path: Path, frames: Path) -> None:
    """They come by the clock, and a noise operation draws."""

    def noisy(data: dict[str, Any]) -> None:
        data["cells"]["normal"]["nodes"][0][0][1] = ["noise", "skip_connect"]

    file = own_space(tmp_path / "space.json", noisy)
    parts = whole(stereo(frames, f"space.file={file}"), tmp_path / "run")
    try:
        assert parts.folder.pictures is not None
        before = torch.get_rng_state()
        parts.folder.pictures()
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        parts.close()


def test_half_resolution_reaches_the_reader(frames: Path) -> None:
    config = stereo(frames, "dataset.half_resolution=true", "dataset.crop=null")
    assert build_data(config).weight_half[0].disparity.shape == (1, HEIGHT // 2, WIDTH // 2)


def test_shapes3d_takes_the_numbers_of_its_config() -> None:
    config = smoke("dataset.length=6", "dataset.height=32", "dataset.width=64", "dataset.max_disparity=12", "seed=3")
    data = build_data(config)
    assert (len(data.weight_half), len(data.alpha_half)) == (3, 3)
    assert data.weight_half[0].left.shape == (3, 32, 64)
    assert all(data.weight_half[index].disparity.max() <= 12 for index in range(3))
    other = build_data(smoke("dataset.length=6", "dataset.height=32", "dataset.width=64", "dataset.max_disparity=12"))
    assert not torch.equal(data.alpha_half[0].left, other.alpha_half[0].left)


def test_images_are_halved_and_cropped_to_their_own_size(tmp_path: Path) -> None:
    images, _ = write_cifar10(tmp_path)
    config = smoke("task=classification", f"dataset.root={tmp_path}", "dataset.limit=20", "search.batch_size=4")
    data = build_data(config)
    weights, alphas = data.weight_half.indices, data.alpha_half.indices
    assert len(weights) == len(alphas) == 10
    assert not set(weights) & set(alphas)
    (batch,) = data.validation
    for image, label in zip(batch.image, batch.label.tolist(), strict=True):
        (found,) = (index for index in alphas if torch.equal(image, torch.from_numpy(images[index]) / 255))
        assert label == found % 10
    assert data.transform(data.weight_half[0], np.random.default_rng(0)).image.shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("dataset", "write", "mean", "flip"),
    [
        ("cifar10", write_cifar10, (0.4914, 0.4822, 0.4465), 0.5),
        ("svhn", write_svhn, (0.4377, 0.4438, 0.4728), 0.5),  # as RobustDARTS does
    ],
)
def test_what_a_dataset_says_of_itself_reaches_network_and_augmentation(
    tmp_path: Path, dataset: str, write: Callable[[Path], Any], mean: tuple[float, ...], flip: float
) -> None:
    write(tmp_path)
    config = smoke("task=classification", f"dataset={dataset}", f"dataset.root={tmp_path}")
    data = build_data(config)
    space = SPACES["darts"]
    network: Any = build_search_task(config, data).build_network(
        MixedCells(space, style=build_style(config.network, space))
    )
    assert network.classifier.out_features == data.facts["classes"] == 10
    assert network.mean.flatten().tolist() == pytest.approx(mean, abs=1e-4)
    assert network.std.flatten().tolist() == pytest.approx(data.facts["std"])
    assert all(0.1 < value < 0.3 for value in data.facts["std"])
    transform: Any = data.transform
    assert transform.flip_share == flip
    still: Any = build_data(replace(config, dataset=replace(config.dataset, flip=False))).transform
    assert still.flip_share == 0
    assert transform._fill.flatten().tolist() == pytest.approx(mean, abs=1e-4)


def test_the_network_has_the_numbers_of_its_config() -> None:
    config = config_of(
        "network=disparity_tiny", "network.channels=3", "network.encoder_cells=4", "network.decoder_cells=2",
        "network.max_displacement=5", "network.head=regression", "dataset.max_disparity=20",
    )  # fmt: skip
    space = build_space(config)
    network = task_in(config).build_network(MixedCells(space, style=build_style(config.network, space)))
    assert (len(network.encoder), len(network.decoder), network.max_displacement) == (4, 2, 5)
    assert network.siamese.channels == 6
    assert network.matching is None
    matching = task_in(config_of("dataset.max_disparity=20"))
    head = matching.build_network(MixedCells(space, style=build_style(config.network, space))).matching
    assert head.bins == 6  # 0, 4, ..., 20


@pytest.mark.parametrize(("given", "expected"), [("null", 1.0), ("0.5", 0.5)])
def test_the_weight_of_the_volume(given: str, expected: float) -> None:
    assert task_in(config_of(f"task.volume_weight={given}")).volume_weight == expected


def supernet_of(config: SearchConfig, space: SearchSpace, *, seed: int = 0) -> Supernet:
    task = task_in(config, **config.kit.datasets[config.dataset.name].facts)
    cells = MixedCells(space, style=build_style(config.network, space))
    return build_supernet(task, cells, space, seed=seed, device=torch.device("cpu"))


def config_in(space: str, *overrides: str) -> SearchConfig:
    return smoke(*([] if "upsample" in SPACES[space].kinds else ["task=classification"]), f"space={space}", *overrides)


@pytest.mark.parametrize("space", SPACES)
def test_weights_and_alphas_are_disjoint_and_complete(space: str) -> None:
    """Every parameter is moved by one optimizer and by one only; alphas are as many as the space says."""
    config = config_in(space)
    supernet = supernet_of(config, build_space(config))
    moved = [
        [id(leaf) for group in optimizer.param_groups for leaf in group["params"]]
        for optimizer in (build_weight_optimizer(config, supernet), build_alpha_optimizer(config, supernet))
    ]
    weights, alphas = list(supernet.network.parameters()), list(supernet.architecture.parameters())
    assert sorted(moved[0]) == sorted(map(id, weights))
    assert sorted(moved[1]) == sorted(map(id, alphas))
    assert not set(moved[0]) & set(moved[1])
    assert sum(leaf.numel() for leaf in alphas) == SPACES[space].alphas
    assert all(leaf.requires_grad and leaf.is_leaf for leaf in [*weights, *alphas])


def test_the_seed_decides_weights_and_alphas() -> None:
    config = config_in("tiny81")
    torch.manual_seed(123)
    first, again, other = (supernet_of(config, SPACES["tiny81"], seed=seed) for seed in (5, 5, 6))
    for parts in ("network", "architecture"):
        one, equal, different = (getattr(net, parts).parameters() for net in (first, again, other))
        one = list(one)
        assert same(one, equal)
        assert not same(one, different)


def test_sgd_has_the_numbers_of_its_config() -> None:
    config = config_in(
        "tiny81", "optimizer.weights.learning_rate=0.02", "optimizer.weights.momentum=0.8",
        "optimizer.weights.weight_decay=0.003", "optimizer.alphas.learning_rate=0.004",
        "optimizer.alphas.betas=[0.6,0.99]", "optimizer.alphas.weight_decay=0.005",
    )  # fmt: skip
    supernet = supernet_of(config, SPACES["tiny81"])
    weights, alphas = build_weight_optimizer(config, supernet), build_alpha_optimizer(config, supernet)
    assert isinstance(weights, torch.optim.SGD)
    (group,) = weights.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.02, 0.8, 0.003)
    # the unrolled step of a second-order search is the one of plain momentum
    assert (group["dampening"], group["nesterov"]) == (0, False)
    assert isinstance(alphas, torch.optim.Adam)
    (group,) = alphas.param_groups
    assert (group["lr"], tuple(group["betas"]), group["weight_decay"]) == (0.004, (0.6, 0.99), 0.005)


def test_adamw_has_the_numbers_of_its_config() -> None:
    config = config_of("optimizer.weights.learning_rate=0.01", "optimizer.weights.weight_decay=0.2")
    weights = build_weight_optimizer(config, supernet_of(config, SPACES["autodispnet"]))
    assert isinstance(weights, torch.optim.AdamW)
    (group,) = weights.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.01, 0.2)


def test_ada_raises_an_l2_term_of_the_loss() -> None:
    """The default disparity search, three steps: as Adam without decay on L(w) + d/2 |w|^2, at the raised d too."""
    config = config_of("regularization=ada", "optimizer.weights.weight_decay=0.02")
    torch.manual_seed(0)
    layers = [nn.Linear(4, 3).double() for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    inputs = torch.rand(5, 4, dtype=torch.float64)
    built = build_weight_optimizer(config, SimpleNamespace(network=layers[0]))  # type: ignore[arg-type]
    settings = config.optimizer.weights
    plain = torch.optim.Adam(layers[1].parameters(), lr=settings.learning_rate, betas=(settings.momentum, 0.999))
    for decay in (0.02, 0.02, 0.2):
        built.param_groups[0]["weight_decay"] = decay  # as a roll-back sets it
        penalty = decay / 2 * sum(weight.square().sum() for weight in layers[1].parameters())
        losses = [layer(inputs).square().mean() for layer in layers]
        for optimizer, loss in ((built, losses[0]), (plain, losses[1] + penalty)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found, expected = (list(layer.parameters()) for layer in layers)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_without_ada_adamw_keeps_its_decoupled_decay_unless_told() -> None:
    network = SimpleNamespace(network=nn.Linear(2, 2))
    for words, kind in (
        ([], torch.optim.AdamW),
        (["regularization=es"], torch.optim.AdamW),
        (["optimizer.weights.decay=l2"], torch.optim.Adam),
        (["regularization=ada", "optimizer=sgd"], torch.optim.SGD),
    ):
        assert type(build_weight_optimizer(config_of(*words), network)) is kind  # type: ignore[arg-type]


def test_the_loop_has_the_numbers_of_its_config() -> None:
    config = config_of(
        "optimizer=sgd", "search.epochs=7", "search.warmup_epochs=2", "search.drop_path=0.25",
        "optimizer.weights.clip=3", "optimizer.alphas.order=finite_difference", "optimizer.alphas.first_order_epochs=1",
        "optimizer.alphas.weight_decay=0.004", "curvature.every=3", "curvature.method=hessian",
        "curvature.tolerance=0.01", "curvature.with_weight_decay=true", "search.precision=bfloat16",
    )  # fmt: skip
    settings = build_settings(config, 11)
    assert vars(settings) == {
        "epochs": 7, "steps_per_epoch": 11, "warmup_epochs": 2, "drop_path": 0.25, "clip": 3.0,
        "order": "finite_difference", "first_order_epochs": 1, "curvature_every": 3, "curvature_full": True,
        "curvature_tolerance": 0.01, "alpha_decay_in_curvature": 0.004, "precision": "bfloat16",
    }  # fmt: skip
    assert build_settings(config_of("search.steps_per_epoch=5"), 11).steps_per_epoch == 5
    assert build_settings(config_of(), 11).alpha_decay_in_curvature == 0.0
    assert not build_settings(config_of(), 11).curvature_full


def test_policies_have_the_numbers_of_their_config() -> None:
    none, es, ada = (
        build_regularization(config_of(f"regularization={name}", "curvature.every=3", *more))
        for name, more in (
            ("none", []),
            ("es", ["regularization.rule=paper", "regularization.window=3", "regularization.start_epoch=1"]),
            ("ada", ["regularization.raise_by=4", "regularization.cap=0.5", "regularization.factor=1.7"]),
        )
    )
    assert (none.early_stopping, none.adaptive) == (None, None)
    assert es.early_stopping is not None
    assert es.adaptive is None
    rule = es.early_stopping
    assert (rule.rule, rule.window, rule.start_epoch, rule.delta, rule.every) == ("paper", 3, 1, 5, 3)
    assert ada.early_stopping is not None
    assert ada.adaptive is not None
    assert (ada.early_stopping.factor, ada.adaptive.factor, ada.adaptive.cap) == (1.7, 4, 0.5)


def test_provenance_says_where_a_genotype_is_from(tmp_path: Path) -> None:
    config = smoke("seed=9")
    said = provenance(config, tmp_path / "runs" / "mine")
    assert (said["run"], said["task"], said["dataset"], said["seed"]) == ("mine", "disparity", "shapes3d", 9)
    assert said["config_hash"] == config.fingerprint()
    assert (said["autodisp"], said["torch"]) == (autodisp.__version__, torch.__version__)
    json.dumps(said)


def whole(config: SearchConfig, folder: Path) -> SearchParts:
    folder.mkdir()
    return build_search(config, build_data(config), folder, ConsoleProgress(io.StringIO()))


@pytest.mark.parametrize(
    ("overrides", "covered"),
    [(["search.drop_path=0.5"], [0, 0, 3, 3]), (["augmentation.cutout=16"], [0, 0, 3, 3]), ([], [0, 0, 0, 0])],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_cut_out_grows_with_the_epochs(tmp_path: Path, overrides: list[str], covered: list[int], workers: int) -> None:
    """From no image in the first epoch to every image in the last one, in both streams, whatever is read ahead."""
    write_cifar10(tmp_path)
    config = smoke(
        "task=classification", f"dataset.root={tmp_path}", f"run.workers={workers}", "search.batch_size=3",
        "search.steps_per_epoch=2", "search.warmup_epochs=1", "optimizer.alphas.first_order_epochs=0", *overrides,
    )  # fmt: skip
    parts = whole(config, tmp_path / "run")
    data = build_data(config)
    fill = torch.tensor(data.facts["mean"])[:, None, None]

    def count(image: torch.Tensor) -> int:
        return int((image == fill).all(1).flatten(1).any(1).sum())

    try:
        weights, alphas = parts.search.weight_stream, parts.search.alpha_stream
        assert [count(weights.next().image) for _ in range(4)] == covered
        assert [count(alphas.next().image) for _ in range(2)] == covered[2:], "alphas begin in the second epoch"
        weights.seek(1)
        assert [count(weights.next().image) for _ in range(3)] == covered[1:]
    finally:
        parts.close()


def own_space(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    data = {**SPACES["autodispnet"].to_json(), "name": "mine"}
    data = json.loads(json.dumps(data))
    change(data)
    path.write_text(json.dumps(data))
    return path


@pytest.mark.slow
def test_a_space_of_ones_own_is_searched(tmp_path: Path, frames: Path) -> None:
    """Reduction cells of one node, upsampling cells with another choice; the genotype is checked against the file."""

    def change(data: dict[str, Any]) -> None:
        data["cells"]["reduce"] = {"keep": [1], "nodes": [[[0, ["conv_3x3", "skip_connect"]], [1, ["conv_1x1"]]]]}
        data["cells"]["upsample"]["nodes"][0] = [[source, ["none", "sep_conv_7x7"]] for source in range(4)]

    file = own_space(tmp_path / "space.json", change)
    brief = ["search.epochs=1", "search.steps_per_epoch=1", "curvature.tolerance=0.5", "optimizer.alphas.order=first"]
    brief += ["optimizer.alphas.first_order_epochs=0"]
    config = stereo(frames, f"space.file={file}", *brief)
    parts = whole(config, tmp_path / "run")
    try:
        start = parts.begin()
        outcome = parts.search.run()
        path = parts.folder.finish(outcome.genotype, outcome.record)
    finally:
        parts.close()
    space = SearchSpace.load(file)
    assert (
        sum(alphas.numel() for alphas in parts.search.supernet.alphas) == space.alphas != SPACES["autodispnet"].alphas
    )
    genotype = load(path, space=space)
    assert (genotype.space, len(genotype.cells["reduce"])) == ("mine", 1)
    assert {name for name, _ in genotype.cells["upsample"][0]} == {"sep_conv_7x7"}
    assert start.keys() >= {"constant", "valid/epe", "valid/loss"}
    with pytest.raises(InputError, match=r"space 'mine'.*space_file="):
        load(path)


def test_a_space_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file = own_space(tmp_path / "space.json", lambda data: data["cells"].pop("upsample"))
    says = f"{file}.* has the cells normal, reduce but task=disparity needs normal, reduce, upsample"
    with pytest.raises(InputError, match=says):
        build_space(smoke(f"space.file={file}"))


def test_what_a_whole_search_is_made_of(tmp_path: Path, frames: Path) -> None:
    config = stereo(
        frames, "search.batch_size=3", "search.steps_per_epoch=null", "seed=4", "search.epochs=3",
        "network.batch_norm=false",
    )  # fmt: skip
    parts = whole(config, tmp_path / "run")
    search = parts.search
    try:
        weights, alphas = search.weight_stream.next(), search.alpha_stream.next()
    finally:
        parts.close()
    assert search.settings.steps_per_epoch == 2  # of six samples a half
    assert weights.left.shape == alphas.left.shape == (3, 3, 32, 48)
    assert not torch.equal(weights.left, alphas.left)
    orders = [
        [draw.index for k in range(4) for draw in stream._sampler.batch(k)]
        for stream in (search.weight_stream, search.alpha_stream)
    ]
    assert orders[0] != orders[1], "the halves are drawn from independently"
    assert search.supernet.device == torch.device("cpu")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in search.supernet.network.modules())
    expected = Architecture(SPACES["autodispnet"], seed=4).alphas.values()
    assert same(search.supernet.alphas, expected)
    rates = []
    for _ in range(3):
        rates.append(search.weight_optimizer.param_groups[0]["lr"])
        search.weight_optimizer.step()
        search.schedule.step()
    last = search.weight_optimizer.param_groups[0]["lr"]
    # 0.001 + 0.004 (1 + cos(pi k / 3)) / 2
    assert [*rates, last] == pytest.approx([0.005, 0.004, 0.002, 0.001])


def test_graphs_are_for_a_gpu() -> None:
    lines: list[str] = []
    assert build_graphs(smoke(), torch.device("cpu"), lines.append)._recorder is None
    with pytest.raises(InputError, match=r"run\.graphs=true: must be auto or false with run\.device=cpu"):
        build_graphs(smoke("run.graphs=true"), torch.device("cpu"), lines.append)
    half = smoke("search.precision=float16")
    assert build_graphs(half, torch.device("cuda"), lines.append)._recorder is None
    assert lines == ["steps run without CUDA graphs: float16 scales the loss on the host"]
    assert build_graphs(smoke("run.graphs=false"), torch.device("cuda"), lines.append)._recorder is None
    assert len(lines) == 1
