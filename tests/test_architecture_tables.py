"""Tables of a space: questions to them, and the statistics of studies, against independent computations."""

import json
import math
import random
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from autodisp.cells.genotype import Genotype
from autodisp.cells.spaces import SPACES
from autodisp.errors import InputError
from autodisp.studies.table import TableStudy
from autodisp.tables import Entry, Table, Trained, deviation, load, mean, rank_correlation, reading
from autodisp.tasks.base import Figure

SPACE = SPACES["tiny81"]
METRICS = np.random.default_rng(1).normal(10, 2, (81, 3)).round(6)


def table_of(direction: str = "min", metrics: np.ndarray = METRICS) -> Table:
    entries = [
        Entry(index, 100 + index, None, [Trained(seed, value, [(10, value)]) for seed, value in enumerate(row)])
        for index, row in enumerate(metrics.tolist())
    ]  # fmt: skip
    figure = Figure("epe", direction, "px")  # type: ignore[arg-type]
    return Table(SPACE, figure, random.Random(0).sample(entries, len(entries)), {"task": "any"})


def cells_of(index: int) -> Genotype:
    """The cells with the edges of each node the other way round, as a search may order them."""
    return Genotype(SPACE.name, {kind: tuple(node[::-1] for node in nodes) for kind, nodes in SPACE.at(index).items()})


@pytest.mark.parametrize("direction", ["min", "max"])
def test_rank_and_regret(direction: str) -> None:
    table, means = table_of(direction), METRICS.mean(axis=1)
    ranks = stats.rankdata(means if direction == "min" else -means)
    best = means.min() if direction == "min" else means.max()
    assert [table.rank(cells_of(index)) for index in range(81)] == ranks.tolist()
    regrets = [table.regret(cells_of(index)) for index in range(81)]
    assert regrets == pytest.approx(np.abs(means - best))
    assert table.best().index == int(np.argmin(ranks))
    assert table.best(81).index == int(np.argmax(ranks))
    assert table.find(cells_of(7)).deviation == pytest.approx(METRICS[7].std(ddof=1))


def test_spread_of_architectures_and_seeds() -> None:
    spread = table_of().spread()
    assert spread.architectures == pytest.approx(METRICS.mean(axis=1).std(ddof=1))
    assert spread.seeds == pytest.approx(math.sqrt(METRICS.var(axis=1, ddof=1).mean()))
    assert table_of(metrics=METRICS[:, :1]).spread().seeds is None


def test_agreement_of_seeds_and_of_two_tables() -> None:
    pairs = [stats.spearmanr(METRICS[:, one], METRICS[:, two]).statistic for one, two in ((1, 0), (2, 0), (2, 1))]
    assert table_of().agreement_of_seeds() == pytest.approx(np.mean(pairs))
    assert table_of(metrics=METRICS[:, :1]).agreement_of_seeds() is None
    found = table_of(metrics=METRICS[:, :1]).agreement(table_of(metrics=METRICS[:40, 1:2]))
    assert found is not None
    assert found.pairs == 40
    assert found.value == pytest.approx(stats.spearmanr(METRICS[:40, 0], METRICS[:40, 1]).statistic)


def test_agreement_of_tables_with_other_metrics_and_spaces() -> None:
    accuracy = table_of("max", metrics=100 - METRICS)
    found = table_of().agreement(accuracy)
    assert found is not None
    assert found.value == pytest.approx(1.0), "a low error is a high accuracy"
    other = Table(SPACES["tiny81_disparity"], Figure("epe", "min", "px"), accuracy.entries, {})
    with pytest.raises(InputError, match="of the space 'tiny81_disparity' cannot be compared with one of 'tiny81'"):
        table_of().agreement(other)


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    table, path = table_of(), tmp_path / "table.json"
    path.write_text(json.dumps(table.to_json()))
    assert load(path).to_json() == load(str(path)).to_json() == table.to_json()
    assert load(path).best() == table.best()


def test_a_table_of_the_package_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_table.json").write_text(json.dumps(table_of().to_json()))
    monkeypatch.setattr(reading.resources, "files", lambda package: tmp_path)
    assert load("some_table").best() == table_of().best()
    with pytest.raises(InputError, match=r"^table other: .* study=table, or some_table$"):
        load("other")


def test_shipped_tables_tell_how_they_were_made() -> None:
    for file in Path(str(resources.files("autodisp.tables"))).glob("*.json"):
        table = load(file.stem)
        assert file.stem == f"tiny81_{table.about['dataset']}"
        assert len(table.entries) == table.space.size
        assert all(len(entry.runs) >= 2 for entry in table.entries)
        assert {"command", "commit", "machine", "training", "check", "torch"} <= set(table.about)
        assert "dirty" not in table.about["commit"]
        assert file.stat().st_size < 500_000


def test_cells_that_a_table_lacks() -> None:
    with pytest.raises(InputError, match=r"are not among the 5 architectures of the table of space 'tiny81'"):
        table_of(metrics=METRICS[:5]).regret(cells_of(50))
    for place in (0, 6):
        with pytest.raises(InputError, match=rf"^place={place}: must be 1, the best, to 5, the architectures of the"):
            table_of(metrics=METRICS[:5]).best(place)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "autodisp/table", "version": 2}', "null"])
def test_what_is_no_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"table\.json: cannot be read \(.*; take a table.json of autodisp-study"):
        load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"about": []}, "about must be an object"),
        ({"architectures": 2}, "an architecture is in it twice"),
        ({"metric": {"name": "epe", "direction": "up", "unit": "px"}}, "direction is 'up', must be 'min' or 'max'"),
        ({"metric of one": math.inf}, "a metric or latency is not a finite number"),
        ({"metric of one": 1e200}, "a metric or latency is not a finite number"),
        ({"seed of one": None}, "parameters or a seed is not a whole number"),
        ({"parameters of one": "3"}, "parameters or a seed is not a whole number"),
        ({"latency of one": "3"}, "TypeError"),
        ({"index of one": 81}, "indices must be below 81"),
    ],
)
def test_a_table_with_wrong_content(tmp_path: Path, change: dict[str, object], says: str) -> None:
    data = json.loads(json.dumps(table_of().to_json()))
    for key, value in change.items():
        name, _, _ = key.partition(" of one")
        if key == "architectures":
            data[key] += data[key][:1]
        elif key in ("metric of one", "seed of one"):
            data["architectures"][0]["runs"][0][name] = value
        elif key.endswith("of one"):
            data["architectures"][0][name] = value
        else:
            data[key] = value
    (tmp_path / "table.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"table\.json: cannot be read \(.*") as caught:
        load(tmp_path / "table.json")
    assert says in str(caught.value)


def test_rank_correlation_and_its_interval() -> None:
    """The interval is near that of Fisher's transformation with the variance of Bonett and Wright (2000)."""
    draw = np.random.default_rng(0)
    first = draw.normal(size=200)
    second = first + draw.normal(size=200)
    found = rank_correlation(list(zip(first.tolist(), second.tolist(), strict=True)))
    assert found is not None
    value = stats.spearmanr(first, second).statistic
    assert found.value == pytest.approx(value)
    width = 1.96 * math.sqrt((1 + value**2 / 2) / (200 - 3))
    expected = np.tanh([np.arctanh(value) - width, np.arctanh(value) + width])
    assert [found.low, found.high] == pytest.approx(expected, abs=0.03)
    assert str(found).endswith("over 200 pairs")


def test_rank_correlation_against_ranks_counted_by_hand() -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 6, 15).astype(float), draw.integers(0, 6, 15).astype(float)

    def ranks(values: np.ndarray) -> np.ndarray:
        return np.array([np.sum(values < value) + (np.sum(values == value) + 1) / 2 for value in values])

    expected = np.corrcoef(ranks(x), ranks(y))[0, 1]
    for pairs, value in ((list(zip(x, y, strict=True)), expected), ([(1, 10), (2, 100), (5, 1000)], 1.0)):
        found = rank_correlation(pairs)
        assert found is not None
        assert found.value == pytest.approx(value)


@pytest.mark.parametrize("pairs", [[], [(1, 2), (2, 3)], [(1, 2), (1, 3), (1, 4)], [(1, 2), (2, 2), (3, 2)]])
def test_rank_correlation_that_is_undefined(pairs: list[tuple[float, float]]) -> None:
    assert rank_correlation(pairs) is None


def test_mean_and_deviation_of_few() -> None:
    assert (mean([]), deviation([]), deviation([1.0])) == (None, None, None)
    assert (mean([1.0, 2.0]), deviation([1.0, 3.0])) == (1.5, pytest.approx(math.sqrt(2)))


def test_samples_of_a_table_are_distinct_and_spread() -> None:
    assert sorted(TableStudy("", SPACE, None).indices()) == list(range(81))
    ten = TableStudy("", SPACE, 10).indices()
    assert TableStudy("", SPACE, 20).indices()[:10] == ten
    normal, reduce = ({index // 9 for index in ten}, {index % 9 for index in ten})
    assert len(ten) == 10
    assert min(len(normal), len(reduce)) >= 6
    large = TableStudy("", SPACES["autodispnet"], 50).indices()
    assert len(set(large)) == 50
    assert max(large) > SPACES["autodispnet"].size // 2


def test_the_shipped_table_is_of_the_whole_space() -> None:
    table = load("tiny81_shapes3d")
    assert table.space == SPACES["tiny81_disparity"]
    assert [entry.index for entry in table.entries] == list(range(table.space.size))
    assert table.rank(table.space.at(table.best().index)) == 1
