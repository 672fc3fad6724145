"""The page of a run: whole in itself, and nothing in it that a run folder could have smuggled in."""

import html
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from autodisp.observers.picture import keep_picture
from autodisp.report.reading import read_run
from autodisp.report.run_page import told_events, write_run_page
from autodisp.run_lock import locked
from tests.made_runs import config_of, record_of, write_run, write_search, write_training

pytestmark = pytest.mark.usefixtures("empty_figures")

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Elements(HTMLParser):
    """What a browser would make of a page, and whether everything that opens closes."""

    VOID = frozenset({"meta", "link", "input", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page(folder: Path, out: Path, **settings: Any) -> tuple[str, list[str]]:
    out.mkdir(exist_ok=True)
    files = write_run_page(read_run(folder), out, **{"with_animation": False, **settings})
    assert sorted(files) == sorted(path.name for path in out.iterdir())
    return (out / "index.html").read_text(encoding="utf-8"), files


def assert_whole(text: str) -> Elements:
    """It loads nothing, and runs no script but the one that its policy names."""
    elements = Elements(text)
    assert elements.open == []
    for attributes in elements.all("img"):
        assert str(attributes["src"]).startswith(("data:image/png;base64,", "data:image/svg+xml;base64,"))
    assert all(str(attributes["href"]).startswith("data:") for attributes in elements.all("link"))
    for attributes in elements.all("a"):
        assert re.fullmatch(r"[\w.]+\.(svg|png|gif|mp4)", str(attributes["href"]))
    scripts = elements.all("script")
    assert [attributes.get("type") for attributes in scripts] in ([], ["application/json", None])
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    return elements


@pytest.mark.slow
def test_a_search(tmp_path: Path) -> None:
    folder = write_search(tmp_path / "my run")
    (folder / "command.txt").write_text("autodisp-search task=classification\n")
    text, files = page(folder, tmp_path / "out", sizes=[("supernet: parameters", "1,234")])
    elements = assert_whole(text)
    words = html.unescape(re.sub(r"<[^>]+>", " ", text))
    train = ["autodisp-train", "task=classification", "dataset=cifar10", f"genotype={folder}/genotype.json"]
    for expected in (
        "my run", "search · classification · cifar10 · space s2 · regularization none · seed 0", "complete", "33 %",
        "23 %", "autodisp-search task=classification", "supernet: parameters", "1,234", "4.0 min", "torch", "2.14",
        "optimizer.weights.weight_decay", "0.0003", shlex.join(train),
    ):  # fmt: skip
        assert expected in words, expected
    pictures = {name for name in files if name.endswith(".svg")}
    assert {
        "cell_normal.svg",
        "cell_reduce.svg",
        "eigenvalue.svg",
        "alphas_normal.svg",
        "alphas_reduce.svg",
    } <= pictures
    assert {name.replace(".svg", ".png") for name in pictures} <= set(files)
    # the viewer's chart, and each picture that has files
    assert len(elements.all("img")) == 1 + len(pictures)
    data = json.loads(re.findall(r'id="viewer-data">(.*?)</script>', text)[0])
    assert len(data["frames"]) == 4


@pytest.mark.slow
def test_the_image_of_the_task_and_the_animation_are_shown(tmp_path: Path) -> None:
    folder = write_search(tmp_path / "run", task="disparity", space="autodispnet", epochs=2)
    keep_picture(folder, "prediction", np.full((6, 9, 3), 7, dtype=np.uint8))
    text, files = page(folder, tmp_path / "out", with_animation=True)
    assert_whole(text)
    assert 'id="prediction"' in text
    assert {"prediction.png", "cell_upsample.svg", "search.gif", "search.mp4"} <= set(files)


def test_a_training(tmp_path: Path) -> None:
    text, files = page(write_training(tmp_path / "run"), tmp_path / "out")
    assert_whole(text)
    assert "viewer" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert {"metric.svg", "loss.svg", "learning_rate.svg"} <= set(files)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_that_has_hardly_begun(tmp_path: Path, epochs: int) -> None:
    folder = write_search(tmp_path / "run", epochs=epochs, finished=False, space="tiny81")
    text, _ = page(folder, tmp_path / "out", with_animation=True)
    assert_whole(text)
    assert f"running or stopped: {epochs} of 4 epochs" in text
    assert ("nothing has been recorded yet" in text) == (epochs == 0)
    with locked(folder):
        assert read_run(folder).state == "running"
    assert read_run(folder).state == "stopped"


def test_nothing_known_but_the_records(tmp_path: Path) -> None:
    text, _ = page(write_run(tmp_path / "run", [record_of(0), record_of(1)]), tmp_path / "out")
    assert_whole(text)
    assert "settings are not known" in text
    assert "the search space is not known" in text


def test_whatever_a_folder_says_is_words(tmp_path: Path) -> None:
    name = EVIL.replace("/", "")
    config = config_of(
        **{"dataset": {"name": EVIL, "root": EVIL}, EVIL: {EVIL: EVIL}, "regularization": {"name": EVIL}}
    )
    provenance = {"epoch": 1, EVIL: EVIL, "torch": "</script>"}
    genotype = {"schema": "autodisp/genotype", "cells": {"normal": [[["skip_connect", 0]]]}, "provenance": provenance}
    records = [record_of(i, space="tiny81", **{f"valid/{EVIL}": 1.0}) for i in (0, 1)]
    records.append({"event": EVIL, "decided_epoch": 1})
    folder = write_run(tmp_path / name, records, config=config, genotype=genotype)
    (folder / "command.txt").write_text(EVIL)
    text, _ = page(folder, tmp_path / "out")
    elements = assert_whole(text)
    assert len(elements.all("script")) == 2
    assert "alert(1)" in html.unescape(text)


def test_a_metric_with_a_wild_name(tmp_path: Path) -> None:
    record = {"epoch": 0, f"valid/{EVIL}$x_": 1.0, f"train/{EVIL}$x_": 2.0, "alphas": {}}
    assert_whole(page(write_run(tmp_path / "run", [record], config={"task": {"name": 1}}), tmp_path / "out")[0])


@pytest.mark.parametrize(
    "config",
    [
        {"seed": [1], "search": 3, "space": {"name": {}}, "curvature": {"every": 0}, "task": 5},
        {"search": {"epochs": "many"}, "regularization": {"name": None, "window": "wide"}, "dataset": None},
        {str(i): "x" * 1000 for i in range(1000)},
        {"search": {}, "half": "\ud800"},
        {"search": {}, "a": {1: {2.5: [None, {"b": ()}]}}},
    ],
)
def test_odd_settings_are_shown_as_they_are(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = write_run(tmp_path / "run", [{"epoch": 0, "alphas": {}, "valid/accuracy": 1.0, "eigenvalue": 2.0}])
    (folder / "config.yaml").write_text(yaml.dump(config))
    text, _ = page(folder, tmp_path / "out")
    assert_whole(text)
    assert len(text) < 3_000_000


@pytest.mark.slow
def test_a_long_search_makes_no_long_page(tmp_path: Path) -> None:
    """A hundred drawings are 2 MB; five hundred of them would be five times that."""
    cells = [{"normal": [[["skip_connect", i % 2]]], "reduce": [[["skip_connect", 0]]]} for i in range(500)]
    records = [record_of(i, space="tiny81", genotype=cells[i]) for i in range(500)]
    text, _ = page(write_run(tmp_path / "run", records, config=config_of(space="tiny81")), tmp_path / "out")
    assert len(text) < 3_000_000


def test_decisions_in_words(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [record_of(0)]
    records += [{"event": "restart", "decided_epoch": 22, "returned_epoch": 10, "weight_decay": 3e-3, "ratio": 1.96}]
    records += [{"event": "early_stop", "decided_epoch": 24, "returned_epoch": 12, "ratio": 1.5}, {"event": "odd_one"}]
    assert told_events(read_run(write_run(tmp_path / "run", records, config=config_of()))) == [
        "ADA raised the weight decay to 0.003 after epoch 22, the local average having grown 1.96-fold: "
        "back to epoch 10",
        "ES stopped the search after epoch 24, the local average having grown 1.5-fold, "
        "and returned the cells of epoch 12",
        "odd one",
    ]
