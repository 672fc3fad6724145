import io
import itertools
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer import event_file_writer

from autodisp.errors import InputError
from autodisp.records import read_json_lines
from autodisp.tracking import ConsoleProgress, TensorBoard, Tracker, Verbosity
from tests.programs import tensorboard

NAN, INF = math.nan, math.inf


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Ascii(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii")

    def written(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ConsoleProgress, Terminal, Clock]]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    terminal, clock = Terminal(), Clock()
    with ConsoleProgress(terminal, clock=clock) as progress:
        yield progress, terminal, clock


def same(a: object, b: object) -> bool:
    return repr(a) == repr(b)  # NaN equals itself in print


# -- the console


def test_a_long_wait_for_data_is_told_once(tmp_path: Path) -> None:
    records = [
        {"epoch": 0, "seconds": 20.0, "seconds_waiting": 19.0},  # may be the first pass over data that is then kept
        {"epoch": 1, "seconds": 20.0, "seconds_waiting": 5.0},
        {"epoch": 2, "seconds": 2.0, "seconds_waiting": 1.9},
        {"epoch": 3},
        {"epoch": 4, "seconds": 20.0, "seconds_waiting": 7.0},
        {"epoch": 5, "seconds": 20.0, "seconds_waiting": 8.0},
    ]
    stream = io.StringIO()
    with closing(Tracker(tmp_path, console=ConsoleProgress(stream, unit="interval"), remedy="do better")) as tracker:
        for record in records:
            tracker.epoch(record, "a line")
    assert stream.getvalue().count("waiting") == 1
    assert "interval 4 [5/0]  a line\n35% of this interval was spent waiting for data; do better\n" in stream.getvalue()


def test_plain_lines_where_there_is_no_terminal() -> None:
    stream, clock, asked = io.StringIO(), Clock(), []

    def figures() -> dict[str, float | None]:
        asked.append(clock.now)
        return {"loss": 1.23456, "epe": None, "eigenvalue": NAN}

    with ConsoleProgress(stream, clock=clock) as progress:
        progress.start(epochs=2, steps_per_epoch=50)
        for epoch in range(2):
            for step in range(50):
                clock.now += 1
                progress.step(epoch, step, figures)
            progress.epoch_done(epoch, "loss 1.2")
    assert stream.getvalue().splitlines() == [
        "epoch 0 [1/2]  step 10/50  0:01:30 left  loss 1.235  eigenvalue nan",
        "epoch 0 [1/2]  step 40/50  0:01:00 left  loss 1.235  eigenvalue nan",
        "epoch 0 [1/2]  loss 1.2",
        "epoch 1 [2/2]  step 30/50  0:00:20 left  loss 1.235  eigenvalue nan",
        "epoch 1 [2/2]  loss 1.2",
    ]
    assert len(asked) == 3


def test_the_time_left_of_a_resumed_or_rolled_back_run_counts_steps_that_were_done() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = ConsoleProgress(stream, clock=clock)
    progress.start(epochs=10, steps_per_epoch=10)
    for epoch, step in [*((8, s) for s in range(10)), *((5, s) for s in range(10))]:
        clock.now += 2
        progress.step(epoch, step, {})
    _, line = stream.getvalue().splitlines()
    # 20 steps in 40 s; after epoch 5 there are 40 left
    assert line == "epoch 5 [6/10]  step 10/10  0:01:20 left"


def test_a_terminal_has_a_bar_that_asks_four_times_a_second(console: tuple[ConsoleProgress, Terminal, Clock]) -> None:
    progress, terminal, clock = console
    asked = []
    progress.start(epochs=2, steps_per_epoch=100)
    for step in range(100):
        clock.now += 1 / 64
        progress.step(0, step, lambda: asked.append(clock.now) or {"epe": 3.25})
    assert [later - earlier for earlier, later in itertools.pairwise(asked)] == [0.25] * 6
    assert "epoch 0 [1/2]  step 97/100" in terminal.getvalue()
    assert "epe 3.25" in terminal.getvalue()
    assert "━" in terminal.getvalue()
    progress.epoch_done(0, "epe [3] [bold]done[/bold]")
    assert "epoch 0 [1/2]  epe [3] [bold]done[/bold]\n" in terminal.getvalue()
    progress.close()
    progress.close()


def test_a_bar_follows_a_roll_back_and_a_new_start(console: tuple[ConsoleProgress, Terminal, Clock]) -> None:
    progress, terminal, clock = console
    progress.start(epochs=4, steps_per_epoch=10)
    for epoch in (3, 1):
        clock.now += 1
        progress.step(epoch, 9, {})
    assert terminal.getvalue().index("100%") < terminal.getvalue().index(" 50%")
    progress.start(epochs=1, steps_per_epoch=4)
    progress.step(0, 0, {})
    assert terminal.getvalue().rindex(" 25%") > terminal.getvalue().index(" 50%")


@pytest.mark.parametrize("no_color", [None, "1"])
def test_no_color_is_honoured(no_color: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    terminal, clock = Terminal(), Clock()
    with ConsoleProgress(terminal, clock=clock) as progress:
        progress.start(epochs=2, steps_per_epoch=2)
        progress.step(0, 1, {"loss": 1.0})
    assert "loss 1" in terminal.getvalue()
    assert ("\x1b[9" in terminal.getvalue() or "\x1b[3" in terminal.getvalue()) == (no_color is None)


def test_a_terminal_that_cannot_draw_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with ConsoleProgress(stream) as progress:
        progress.start(epochs=1, steps_per_epoch=1)
        progress.step(0, 0, {})
        progress.message("plain")
    assert stream.getvalue() == "plain\n"


def test_a_stream_without_the_letters_gets_substitutes() -> None:
    stream = Ascii()
    progress = ConsoleProgress(stream)
    progress.message("λ 0.1 ⇒ 3×3")
    assert stream.written() == "? 0.1 ? 3?3\n"


def test_standard_output_is_taken_when_it_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleProgress().message("here")
    assert capsys.readouterr().out == "here\n"


def told(verbosity: Verbosity, stream: io.StringIO, clock: Clock, seconds: int = 12) -> list[str]:
    with ConsoleProgress(stream, clock=clock, verbosity=verbosity) as progress:
        progress.start(epochs=1, steps_per_epoch=seconds)
        for step in range(seconds):
            clock.now += 1
            progress.step(0, step, {"loss": 0.5})
        progress.note("a remark")
        progress.epoch_done(0, "done")
        progress.message("a warning")
    return stream.getvalue().splitlines()


def test_quiet_leaves_warnings_only_and_verbose_a_line_every_five_seconds() -> None:
    fifth, tenth = (f"epoch 0 [1/1]  step {step}/12  0:00:{12 - step:02d} left  loss 0.5" for step in (5, 10))
    rest = ["a remark", "epoch 0 [1/1]  done", "a warning"]
    assert told("quiet", io.StringIO(), Clock()) == ["a warning"]
    assert told("normal", io.StringIO(), Clock()) == [tenth, *rest]
    assert told("verbose", io.StringIO(), Clock()) == [fifth, tenth, *rest]


@pytest.mark.parametrize(("verbosity", "bars", "lines"), [("quiet", 0, 0), ("normal", 1, 0), ("verbose", 1, 2)])
def test_the_same_on_a_terminal(
    verbosity: Verbosity, bars: int, lines: int, console: tuple[ConsoleProgress, Terminal, Clock]
) -> None:
    shown = told(verbosity, Terminal(), console[2])
    assert any("━" in line for line in shown) == bool(bars)
    # a line that stays has no bar before it
    assert sum(line.lstrip("\r\x1b[2K").startswith("epoch 0 [1/1]  step") for line in shown) == lines
    assert shown[-1].endswith("a warning") or bars


# -- TensorBoard


def decoded(accumulator: EventAccumulator, tag: str) -> np.ndarray:
    (image,) = accumulator.Images(tag)
    return cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)
    board = TensorBoard(tmp_path)
    board.scalars({"train/loss": 1.5, "none": None, "text": "x", "list": [1], "flag": True, "n": np.float32(2)}, 3)
    board.scalars({"train/loss": NAN}, 4)
    board.image("picture", picture, 3)
    board.text("note", "**hello**", 3)
    board.close()
    accumulator = tensorboard(tmp_path)
    assert set(accumulator.Tags()["scalars"]) == {"train/loss", "n"}
    loss = accumulator.Scalars("train/loss")
    assert [event.step for event in loss] == [3, 4]
    assert loss[0].value == 1.5
    assert math.isnan(loss[1].value)
    assert (decoded(accumulator, "picture") == picture).all()
    (text,) = accumulator.Tensors("note/text_summary")
    assert text.tensor_proto.string_val[0] == b"**hello**"


def test_the_settings_are_a_text_and_hyperparameters(tmp_path: Path) -> None:
    values = {
        "seed": 3,
        "dataset": {"name": "cifar10", "root": "/ä: #1", "crop": [1, 2], "limit": None, "flip": True},
        "optimizer": {"weights": {"name": "sgd", "weight_decay": 3e-4}},
    }
    board = TensorBoard(tmp_path)
    board.settings(values, metrics=["valid/accuracy"])
    board.scalars({"valid/accuracy": 41.5}, 1)
    board.close()
    accumulator = tensorboard(tmp_path)
    (text,) = accumulator.Tensors("config/text_summary")
    written = text.tensor_proto.string_val[0].decode()
    assert all(line.startswith("    ") for line in written.splitlines()), "Markdown leaves it as it is"
    assert yaml.safe_load(written) == values
    data = {
        tag: accumulator.SummaryMetadata(tag).plugin_data.content for tag in accumulator.PluginTagToContent("hparams")
    }
    started = HParamsPluginData.FromString(data["_hparams_/session_start_info"]).session_start_info.hparams
    found = {key: value.number_value or value.string_value for key, value in started.items()}
    assert found == {
        "seed": 3.0, "dataset.name": "cifar10", "optimizer.weights.name": "sgd", "optimizer.weights.weight_decay": 3e-4,
    }  # fmt: skip
    experiment = HParamsPluginData.FromString(data["_hparams_/experiment"]).experiment
    assert [info.name.tag for info in experiment.metric_infos] == ["valid/accuracy"]
    assert accumulator.Scalars("valid/accuracy")[-1].value == 41.5


# -- the three together


def test_a_tracker_tells_all_three(tmp_path: Path) -> None:
    stream = io.StringIO()
    run = tmp_path / "runs" / "one"
    with closing(Tracker(run, console=ConsoleProgress(stream))) as tracker:
        tracker.console.start(epochs=3, steps_per_epoch=1)
        tracker.console.step(0, 0, {"loss": 1.0})
        tracker.epoch({"epoch": 0, "valid/epe": 9.0, "alphas": [[0.5]], "genotype": "..."}, "first")
        tracker.epoch({"epoch": 1, "valid/epe": NAN}, line="as told")
        tracker.event("ada_raised", epoch=1, returned_epoch=0, weight_decay=3e-3)
        tracker.console.message("back to epoch 0")
        assert tracker.tensorboard_step == 2
        tracker.epoch({"epoch": 1, "valid/epe": 7.0}, "again")
        assert len(tracker.records) == 4
    assert same(
        read_json_lines(run / "metrics.jsonl"),
        [
            {"epoch": 0, "valid/epe": 9.0, "alphas": [[0.5]], "genotype": "..."},
            {"epoch": 1, "valid/epe": NAN},
            {"event": "ada_raised", "epoch": 1, "returned_epoch": 0, "weight_decay": 0.003},
            {"epoch": 1, "valid/epe": 7.0},
        ],
    )
    assert stream.getvalue().splitlines() == [
        "epoch 0 [1/3]  first",
        "epoch 1 [2/3]  as told",
        "back to epoch 0",
        "epoch 1 [2/3]  again",
    ]
    accumulator = tensorboard(run / "tensorboard")
    assert [event.step for event in accumulator.Scalars("valid/epe")] == [0, 1, 2]
    assert [event.value for event in accumulator.Scalars("epoch")] == [0, 1, 1]
    (text,) = accumulator.Tensors("events/text_summary")
    assert text.tensor_proto.string_val[0] == b"ada_raised: epoch 1, returned_epoch 0, weight_decay 0.003"


def test_a_resumed_run_leaves_the_same_record_as_one_that_was_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # within a second, TensorBoard orders its files by the digits of this counter
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(100))

    def go(folder: Path, steps: range, keep: int | None) -> int:
        with closing(Tracker(folder, console=ConsoleProgress(io.StringIO()), keep=keep)) as tracker:
            for epoch in steps:
                tracker.epoch({"epoch": epoch, "loss": 1.0 / (epoch + 1)}, "")
                if epoch == 1:
                    tracker.event("noted", epoch=epoch)
            return len(tracker.records)

    go(tmp_path / "whole", range(6), None)
    checkpoint = go(tmp_path / "parts", range(3), None)
    go(tmp_path / "parts", range(3, 5), None)
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 5, "lo')
    go(tmp_path / "parts", range(3, 6), checkpoint)
    whole, parts = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts"))
    assert whole == parts
    losses = tensorboard(tmp_path / "parts" / "tensorboard").Scalars("loss")
    assert [event.step for event in losses] == list(range(6))
    assert [event.value for event in losses] == pytest.approx([1 / (epoch + 1) for epoch in range(6)])


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    with closing(Tracker(tmp_path, console=ConsoleProgress(io.StringIO()))) as tracker:
        tracker.epoch({"epoch": 0}, "")
    with pytest.raises(InputError, match="1 records, but the checkpoint was written after 2"):
        Tracker(tmp_path, console=ConsoleProgress(io.StringIO()), keep=2)
