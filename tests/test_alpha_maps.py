"""The heat maps of the alphas: the right number at the right place."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autodisp.cells.architecture import Architecture
from autodisp.cells.spaces import SPACES
from autodisp.report.alpha_maps import MOST_COLUMNS, alpha_maps, maps_figure, thinned, weights_figure
from autodisp.report.reading import Run, read_run
from tests.made_runs import config_of, record_of, write_run, write_search


def search(tmp_path: Path, records: list[dict[str, Any]], **settings: Any) -> Run:
    return read_run(write_run(tmp_path / "run", records, config=config_of(**settings)))


@pytest.mark.parametrize("space", ["s1", "autodispnet"])
def test_the_weights_are_those_of_the_architecture(tmp_path: Path, space: str) -> None:
    architecture = Architecture(SPACES[space], seed=3, scale=1.0)
    alphas = {kind: values.detach().tolist() for kind, values in architecture.alphas.items()}
    run = search(tmp_path, [record_of(0, space=space), record_of(1, space=space, alphas=alphas)], space=space)
    maps = {cell.kind: cell for cell in alpha_maps(run)}
    for kind, table in architecture.weights().items():
        edges = SPACES[space].cells[kind].edges
        assert len(maps[kind].edges) == len(edges)
        for row, (edge, drawn) in enumerate(zip(edges, maps[kind].edges, strict=True)):
            assert drawn.operations == edge.operations
            np.testing.assert_allclose(drawn.weights[:, 1], table[row, : len(edge.operations)].detach(), rtol=1e-6)
    assert maps["normal"].edges[2].edge == "in0 → n1"


def test_the_picture_shows_each_weight_at_its_operation_and_epoch(tmp_path: Path) -> None:
    alphas = {"normal": [math.log(3.0), 0.0] * 14}
    cell = alpha_maps(search(tmp_path, [record_of(0, alphas=alphas)]))[0]
    assert cell.limits == pytest.approx((0.25, 0.75))
    axes = maps_figure(cell).axes
    assert axes[0].get_title(loc="left") == "in0 → n0"
    (image,) = axes[0].images
    np.testing.assert_allclose(image.get_array(), [[0.75], [0.25]])
    assert image.get_clim() == cell.limits
    assert [label.get_text() for label in axes[0].get_yticklabels()] == list(cell.edges[0].operations)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_grey(tmp_path: Path, value: float) -> None:
    alphas = {"normal": [0.0] * 27 + [value]}
    cell = alpha_maps(search(tmp_path, [record_of(0, alphas=alphas)]))[0]
    assert np.isnan(cell.edges[13].weights).all()
    assert np.isfinite(cell.edges[0].weights).all()
    assert 0 < cell.limits[0] < cell.limits[1] < 1


def test_all_unknown(tmp_path: Path) -> None:
    cell = alpha_maps(search(tmp_path, [record_of(0, alphas={"normal": [math.nan] * 28})]))[0]
    assert cell.limits == (0.0, 1.0)
    maps_figure(cell).draw_without_rendering()


@pytest.mark.parametrize(
    "settings", [{"space": {"name": "unheard_of"}}, {"space": {"name": ["s2"]}}, {"space": {"file": "/gone"}}]
)
def test_without_a_known_space_there_are_none(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert alpha_maps(read_run(write_run(tmp_path / "run", [record_of(0)], config={"search": {}, **settings}))) == []


def test_alphas_of_another_space_are_left_out(tmp_path: Path) -> None:
    assert alpha_maps(search(tmp_path, [record_of(0, alphas={"normal": [0.0] * 5})])) == []


def test_a_long_search_is_thinned_out(tmp_path: Path) -> None:
    run = read_run(write_search(tmp_path / "run", epochs=400))
    cell = alpha_maps(run)[0]
    assert len(cell.epochs) == MOST_COLUMNS
    assert (cell.epochs[0], cell.epochs[-1]) == (0, 399)
    assert list(cell.epochs) == sorted(set(cell.epochs))
    assert thinned(run.moments, 1000) == list(run.moments)


@pytest.mark.parametrize("name", ["s1", "autodispnet"])
def test_the_table_shows_each_weight_at_its_edge_and_operation(name: str) -> None:
    architecture = Architecture(SPACES[name], seed=3, scale=1.0)
    for kind, weights in architecture.weights().items():
        cell = SPACES[name].cells[kind]
        (axes,) = weights_figure(kind, cell, weights).axes
        columns, rows = ([t.get_text() for t in labels] for labels in (axes.get_xticklabels(), axes.get_yticklabels()))
        shown = {(rows[y], columns[x]): t.get_text() for t in axes.texts for x, y in [map(int, t.get_position())]}
        alphas, start, expected = architecture.alphas[kind].tolist(), 0, {}
        inputs = 4 if kind == "upsample" else 2
        for target, node in enumerate(cell.nodes):
            for edge in node:
                powers = np.exp(alphas[start : start + len(edge.operations)])
                start += len(edge.operations)
                source = f"in{edge.source}" if edge.source < inputs else f"n{edge.source - inputs}"
                for operation, power in zip(edge.operations, powers, strict=True):
                    expected[f"{source} → n{target}", operation] = f"{power / powers.sum():.2f}"
        assert shown == expected
        (image,) = axes.images
        assert image.get_clim() == (0.0, 1.0)
        assert np.ma.count(image.get_array()) == len(expected)
