"""Heat maps of the alphas: the right number at the right place."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autodisp.cells.architecture import Architecture
from autodisp.cells.spaces import SPACES
from autodisp.report.alphas import MOST_COLUMNS, alpha_maps, colour_limits, maps_figure, weights_figure
from autodisp.report.reading import Run, read_run
from autodisp.search.relaxations import Sigmoid
from tests.made_runs import config_of, record_of, write_run, write_search


def search(tmp_path: Path, records: list[dict[str, Any]], **settings: Any) -> Run:
    return read_run(write_run(tmp_path / "run", records, config=config_of(**settings)))


@pytest.mark.parametrize("space", ["s1", "autodispnet"])
def test_the_weights_are_those_of_the_architecture(tmp_path: Path, space: str) -> None:
    architecture = Architecture(SPACES[space], seed=3, scale=1.0)
    alphas = {kind: values.detach().tolist() for kind, values in architecture.alphas.items()}
    run = search(tmp_path, [record_of(0, space=space), record_of(1, space=space, alphas=alphas)], space=space)
    maps = alpha_maps(run)
    for kind, table in architecture.weights().items():
        edges, epochs = maps[kind]
        assert epochs == [0, 1]
        figure = weights_figure(kind, SPACES[space].cells[kind], table)
        for row, (edge, drawn) in enumerate(zip(SPACES[space].cells[kind].edges, edges, strict=True)):
            assert drawn.operations == edge.operations
            expected = table[row, : len(edge.operations)].detach().numpy()
            np.testing.assert_allclose(drawn.weights[:, 1], expected, rtol=1e-6)
            axes = figure.axes[row]
            assert axes.get_title(loc="left") == drawn.edge
            assert [text.get_text() for text in axes.texts] == [f"{weight:.2f}" for weight in expected]
    assert maps["normal"][0][2].edge == "in0 → n1"


def test_recorded_weights_are_shown_whatever_the_relaxation(tmp_path: Path) -> None:
    architecture = Architecture(SPACES["s1"], seed=3, scale=1.0)
    mixture = Sigmoid().mean(architecture)
    run = search(tmp_path, [record_of(0, space="s1", **architecture.as_record(mixture))], space="s1")
    for kind, (edges, _) in alpha_maps(run).items():
        drawn = np.concatenate([edge.weights[:, 0] for edge in edges])
        np.testing.assert_allclose(drawn, architecture.alphas[kind].sigmoid().detach(), rtol=1e-6)


def test_the_map_shows_each_weight_at_its_operation_and_epoch(tmp_path: Path) -> None:
    edges, epochs = alpha_maps(search(tmp_path, [record_of(0, alphas={"normal": [math.log(3.0), 0.0] * 14})]))["normal"]
    assert colour_limits(edges) == pytest.approx((0.25, 0.75))
    axes = maps_figure("normal", edges, epochs).axes[0]
    assert axes.get_title(loc="left") == "in0 → n0"
    (image,) = axes.images
    np.testing.assert_allclose(image.get_array(), [[0.75], [0.25]])
    assert image.get_clim() == colour_limits(edges)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(edges[0].operations)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_grey(tmp_path: Path, value: float) -> None:
    edges, _ = alpha_maps(search(tmp_path, [record_of(0, alphas={"normal": [0.0] * 27 + [value]})]))["normal"]
    assert np.isnan(edges[13].weights).all()
    assert np.isfinite(edges[0].weights).all()
    low, high = colour_limits(edges)
    assert 0 < low < high < 1


def test_all_unknown(tmp_path: Path) -> None:
    edges, epochs = alpha_maps(search(tmp_path, [record_of(0, alphas={"normal": [math.nan] * 28})]))["normal"]
    assert colour_limits(edges) == (0.0, 1.0)
    maps_figure("normal", edges, epochs).draw_without_rendering()


@pytest.mark.parametrize(
    "settings", [{"space": {"name": "unheard_of"}}, {"space": {"name": ["s2"]}}, {"space": {"file": "/gone"}}]
)
def test_without_a_known_space_there_are_none(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert alpha_maps(read_run(write_run(tmp_path / "run", [record_of(0)], config={"search": {}, **settings}))) == {}


def test_alphas_of_another_space_are_left_out(tmp_path: Path) -> None:
    assert alpha_maps(search(tmp_path, [record_of(0, alphas={"normal": [0.0] * 5})])) == {}


def test_a_long_search_is_thinned_out(tmp_path: Path) -> None:
    _, epochs = alpha_maps(read_run(write_search(tmp_path / "run", epochs=400)))["normal"]
    assert len(epochs) == MOST_COLUMNS
    assert (epochs[0], epochs[-1]) == (0, 399)
    assert epochs == sorted(set(epochs))
