"""What a search leaves behind, from a search that is only told: records, files, provenance, curves, pictures."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from autodisp.cells.architecture import Architecture
from autodisp.cells.genotype import Genotype, derive, load
from autodisp.cells.spaces import SPACES, SearchSpace
from autodisp.observers import search_folder
from autodisp.observers.search_folder import PICTURE_SECONDS, SearchFolder
from autodisp.records import read_json_lines
from autodisp.report.reading import read_run
from autodisp.search.early_stopping import EarlyStopping
from autodisp.tasks.base import Figure
from autodisp.tracking import ConsoleProgress, Tracker
from tests.programs import tensorboard

NAN, INF = float("nan"), float("inf")
TINY = SPACES["tiny81"]
PROVENANCE = {"run": "told", "seed": 3, "config_hash": "0123456789ab"}


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(search_folder, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture(autouse=True)
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show blank images in TensorBoard, since rendering them takes most of the time."""
    monkeypatch.setattr(search_folder, "rendered", lambda figure: np.zeros((2, 3, 3), np.uint8))


class Told:
    """A run folder and what the console showed."""

    def __init__(self, root: Path, *, space: SearchSpace = TINY, rule: EarlyStopping | None = None) -> None:
        self.root, self.console = root / "told", io.StringIO()
        self.root.mkdir()
        self.drawn: list[int] = []
        self.tracker = Tracker(self.root, console=ConsoleProgress(self.console))
        self.architecture = Architecture(space, scale=1.0)
        self.folder = SearchFolder(
            self.tracker, space=space, figure=Figure("epe", "min", "px"), early_stopping=rule,
            provenance=PROVENANCE, pictures=self.pictures,
        )  # fmt: skip

    def pictures(self) -> Mapping[str, Any]:
        self.drawn.append(self.tracker.tensorboard_step)
        return {"prediction": np.zeros((4, 6, 3), dtype=np.uint8)}

    @property
    def genotype(self) -> Genotype:
        return derive(self.architecture.space, self.architecture.weights())

    def epoch(self, number: int, eigenvalue: float | None = None, **entries: Any) -> dict[str, Any]:
        record = record_of(number, eigenvalue, **entries)
        self.folder.epoch(record, self.genotype, self.architecture.weights())
        return record


def record_of(number: int, eigenvalue: float | None = None, **entries: Any) -> dict[str, Any]:
    return {
        "epoch": number,
        "restart": 0,
        "train/loss": 2.5,
        "train/epe": 4.0 - 0.25 * number,
        "valid/epe": 5.0 - 0.25 * number,
        "valid/loss": 2.0,
        "valid_discrete/epe": 6.0 - 0.25 * number,
        "weight_decay": 3e-4,
        "spectrum": None,
        "seconds": 1.2,
        **({} if eigenvalue is None else {"eigenvalue": eigenvalue}),
        **entries,
    }


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    told = Told(tmp_path)
    yield told
    told.tracker.close()


def test_every_epoch_leaves_a_record_a_genotype_and_a_line(told: Told) -> None:
    for number, eigenvalue in enumerate((0.5, None, 0.75)):
        told.epoch(number, eigenvalue)
    records = read_json_lines(told.root / "metrics.jsonl")
    assert [record["epoch"] for record in records] == [0, 1, 2]
    assert records[2] == {key: value for key, value in record_of(2, 0.75).items() if value is not None}
    assert [path.name for path in sorted((told.root / "genotypes").iterdir())] == [
        "epoch_0000.json", "epoch_0001.json", "epoch_0002.json",
    ]  # fmt: skip
    lines = told.console.getvalue().splitlines()
    assert "epe 3.75 · valid epe 4.75 px · discretised 5.75" in lines[1]
    assert ["eigenvalue" in line for line in lines] == [True, False, True]


def test_a_genotype_says_where_it_is_from(told: Told) -> None:
    told.epoch(4, 0.5)
    found = load(told.root / "genotypes" / "epoch_0004.json")
    assert found.cells == told.genotype.cells
    assert found.provenance == {
        **PROVENANCE,
        "epoch": 4,
        "figure": {"name": "epe", "value": 5.0, "of": "architecture split, discretised"},
        "eigenvalue": 0.5,
    }


def test_a_ranked_genotype_keeps_its_score(told: Told) -> None:
    ranked = {"figure": {"name": "epe", "value": 2.5, "of": "all"}, "ranking": {"rounds": 1}}
    told.folder.finish(told.genotype.with_provenance(**ranked), told.epoch(1))
    found = load(told.root / "genotype.json")
    assert found.provenance == {**PROVENANCE, "epoch": 1, "eigenvalue": None, **ranked}
    assert read_run(told.root).metric == 2.5, "not that of the epoch"


def test_what_is_not_finite_is_null_in_a_genotype(told: Told) -> None:
    for number, unknown in enumerate((NAN, INF, -INF, None)):
        told.epoch(number, unknown, **{"valid_discrete/epe": NAN})
        text = (told.root / "genotypes" / f"epoch_{number:04d}.json").read_text()
        said = json.loads(text, parse_constant=pytest.fail)["provenance"]
        assert said["eigenvalue"] is None
        assert said["figure"]["value"] is None


def test_the_end_leaves_cells_drawings_and_curves(told: Told) -> None:
    told.epoch(0, 0.5)
    record = told.epoch(1)
    found = told.genotype
    with torch.no_grad():
        told.architecture.alphas["normal"].neg_()
    assert told.genotype != found, "a search that was stopped returns another genotype than its last"
    (told.root / "curves.png").unlink()
    path = told.folder.finish(found, record)
    assert path == told.root / "genotype.json"
    genotype = load(path)
    assert genotype == found
    assert (genotype.provenance["epoch"], genotype.provenance["run"]) == (1, "told")
    assert sorted(file.name for file in told.root.glob("cell_*")) == [
        "cell_normal.png", "cell_normal.svg", "cell_reduce.png", "cell_reduce.svg",
    ]  # fmt: skip
    for file in [*told.root.glob("*.png"), told.root / "curves.png"]:
        assert file.read_bytes().startswith(b"\x89PNG")
    for operation in {name for node in found.cells["normal"] for name, _ in node}:
        assert operation.split("_")[0] in (told.root / "cell_normal.svg").read_text()


def test_an_event_is_recorded_and_said(told: Told) -> None:
    told.folder.event("early_stop", decided_epoch=6, returned_epoch=2, ratio=1.5)
    (event,) = read_json_lines(told.root / "metrics.jsonl")
    assert event == {"event": "early_stop", "decided_epoch": 6, "returned_epoch": 2, "ratio": 1.5}
    assert told.console.getvalue() == "early stop: decided_epoch 6, returned_epoch 2, ratio 1.5\n"


class Drawn:
    """What the curves were drawn from."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.averages: list[tuple[int, float]] = []
        self.events: list[Any] = []
        self.records: list[Any] = []
        monkeypatch.setattr(search_folder, "draw_curves", self)

    def __call__(self, records: Any, path: Path, *, metric: str, averages: Any, events: Any) -> None:
        self.records, self.averages, self.events = list(records), list(averages), list(events)


def test_the_average_without_a_rule_is_none(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn(monkeypatch)
    told.epoch(0, 0.5)
    assert (drawn.averages, drawn.events) == ([], [])


def test_after_a_roll_back_the_average_is_of_the_path_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Measured every second epoch, averaged over three; the path 0 1 2 3 4 5 6 | 3 4 5 6 | 5 6."""
    told = Told(tmp_path, rule=EarlyStopping(window=3, start_epoch=0, delta=1, every=2))
    drawn = Drawn(monkeypatch)
    told.tracker.event("start", constant=9.0)
    for number, eigenvalue in ((0, 1.0), (1, None), (2, 2.0), (3, None), (4, 30.0), (5, None), (6, 300.0)):
        told.epoch(number, eigenvalue)
    told.folder.draw_curves()
    # each average belongs to the middle of its window; two values make more than half a window
    assert drawn.averages == [(0, pytest.approx(1.5)), (2, pytest.approx(11.0)), (4, pytest.approx(332 / 3))]

    told.folder.event("restart", decided_epoch=6, returned_epoch=2, ratio=3.0, weight_decay=3e-3)
    told.epoch(3, restart=1)
    told.folder.draw_curves()
    assert drawn.averages == [(0, pytest.approx(1.5))], "4 and 6 were thrown away"
    told.epoch(4, 3.0, restart=1)
    told.folder.draw_curves()
    assert drawn.averages == [(0, pytest.approx(1.5)), (2, pytest.approx(2.0))]
    told.epoch(5, restart=1)
    told.epoch(6, 90.0, restart=1)
    told.folder.event("restart", decided_epoch=6, returned_epoch=4, ratio=3.0, weight_decay=3e-2)
    told.epoch(5, restart=2)
    told.epoch(6, 4.0, restart=2)
    told.folder.finish(told.genotype, record_of(6, 4.0))
    told.tracker.close()
    assert drawn.averages == [(0, pytest.approx(1.5)), (2, pytest.approx(2.0)), (4, pytest.approx(3.0))]
    assert [event["event"] for event in drawn.events] == ["restart", "restart"]
    assert [record["epoch"] for record in drawn.records] == [0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 5, 6]


def test_an_unknown_eigenvalue_leaves_the_average_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    told = Told(tmp_path, rule=EarlyStopping(window=3, start_epoch=0, delta=1, every=1))
    drawn = Drawn(monkeypatch)
    for number, eigenvalue in enumerate((1.0, NAN, 3.0)):
        told.epoch(number, eigenvalue)
    told.folder.draw_curves()
    told.tracker.close()
    assert drawn.averages == [(1, pytest.approx(2.0))]


def test_pictures_are_drawn_now_and_then(told: Told, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch, then the first one that ends half a minute after the last pictures."""
    monkeypatch.setattr(search_folder, "draw_curves", lambda _, path, **__: path.touch())
    curves = told.root / "curves.png"
    redrawn = []
    for number, pause in enumerate((0.0, 0.4, 0.4, 0.4, 0.99, 0.01)):
        clock.now += pause * PICTURE_SECONDS
        curves.unlink(missing_ok=True)
        told.epoch(number, 0.5)
        redrawn.append(curves.is_file())
    assert redrawn == [True, False, False, True, False, True]
    assert told.drawn == [0, 3, 5]
    assert len(read_json_lines(told.root / "metrics.jsonl")) == 6, "records are never left out"


def test_the_newest_prediction_lies_in_the_folder(told: Told) -> None:
    told.epoch(0)
    assert cv2.imread(str(told.root / "prediction.png")).shape == (4, 6, 3)


def test_tensorboard_tells_the_cells_in_words(told: Told) -> None:
    told.epoch(0)
    found = told.genotype
    record = told.epoch(1)
    told.folder.finish(found, record)
    told.tracker.close()
    board = tensorboard(told.root / "tensorboard")
    texts = {
        tag: [event.tensor_proto.string_val[0].decode() for event in board.Tensors(f"{tag}/text_summary")]
        for tag in ("genotype", "found")
    }
    words = "\n".join(f"    {line}" for line in found.in_words().splitlines())
    assert texts == {"genotype": [words, words], "found": [words]}
    assert [event.value for event in board.Scalars("found/epe")] == [5.75]
