"""What a person, a JSON reader and a spreadsheet get to see of the same figures."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from autodisp.datasets.samples import LabelledImage, StereoSample
from autodisp.evaluation.classification_metrics import ClassificationFigures, ClassificationMetrics
from autodisp.evaluation.pooled_metrics import PooledFigures
from autodisp.evaluation.runner import Evaluation
from autodisp.evaluation.stereo_metrics import FIGURES, StereoFigures, StereoMetrics
from autodisp.evaluation.tables import Evaluations, print_table, write_csv, write_json


def stereo(error: float) -> Evaluation[StereoFigures]:
    """Two images of truth 20, no pixel beyond 40, one without a finite prediction."""
    truth = torch.full((2, 1, 4, 5), 20.0)
    valid = truth > 0
    views = torch.zeros(2, 3, 4, 5)
    prediction = truth + error
    prediction[0, 0, 0, 0] = math.nan
    metrics = StereoMetrics(has_occlusion=True)
    metrics.update(prediction, StereoSample(views, views, truth, valid, ~valid, ~valid))
    return Evaluation(metrics.figures(), 2, 0.5, 3 * 2**20, "process")


def classes() -> Evaluation[ClassificationFigures]:
    metrics = ClassificationMetrics(["cat", "[red]dog", "bird"])
    scores = torch.tensor([[3.0, 2, 1], [3, 2, 1], [1, 2, math.nan]])
    metrics.update(scores, LabelledImage(torch.zeros(3, 3, 2, 2), torch.tensor([0, 1, 0])))  # type: ignore[arg-type]
    return Evaluation(metrics.figures(), 3, 1.0, 2**30, "device")


def printed(evaluations: Evaluations, **settings: str) -> str:
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as capture:
        print_table(evaluations, console, **settings)
    return capture.get()


def test_the_terminal_shows_every_region_twice() -> None:
    text = printed({"network": stereo(1.5), "sgbm": stereo(4.0)}, title="shapes3d [test]")
    assert "shapes3d [test]" in text
    lines = [line.split() for line in text.splitlines()]
    headings = [[method, "(by", f"{average})"] for method in ("network", "sgbm") for average in ("pixel", "image")]
    places = [lines.index(heading) for heading in headings]
    assert places == sorted(places)
    pixels = ["2", "40", "1", "1.50", "100.00", "2.50", "2.50", "2.50"]
    for place in places[:2]:
        section = lines[place + 1 : place + 8]
        assert section[:4] == [
            ["all", *pixels],
            ["non-occluded", *pixels],
            ["occluded", *"000", *["–"] * 5],
            ["out-of-frame", *"000", *["–"] * 5],
        ]
        assert [line[:2] for line in section[4:]] == [["0-10", "px"], ["10-40", "px"], ["40-", "px"]]
    assert lines[places[2] + 1][:5] == ["all", "2", "40", "1", "4.00"]
    head = text[: text.index("network")].split()
    assert [word for word in head if word in ("px", "%")] == ["px", "%", "%", "%", "%"]
    assert [word for word in head if word in ("EPE", "bad-1", "bad-2", "bad-3", "D1", "not", "finite")] == [
        *("not", "EPE", "bad-1", "bad-2", "bad-3", "D1", "finite"),
    ]
    assert "sgbm: 4 images/s (250 ms), peak memory 3 MiB of the whole process" in text


def test_the_widest_figures_fit_a_terminal_and_a_needless_column_is_left_out() -> None:
    figures = stereo(100.0).figures
    region = replace(figures.regions["all"], images=21_818, pixels=11_310_451_200, not_finite=0)
    text = printed({"network": Evaluation(StereoFigures(21_818, {"non_occluded": region}), 1, 1.0, 1, "process")})
    row = next(line for line in text.splitlines() if "non-occluded" in line).split()
    assert row[:4] == ["non-occluded", "21818", "11310451200", "100.00"]
    assert "finite" not in text


def test_the_terminal_shows_every_class() -> None:
    text = printed({"network_v2": classes()})
    lines = [line.split() for line in text.splitlines()]
    start = lines.index(["network_v2"])
    assert lines[start + 1 : start + 6] == [
        ["all", "3", "33.33", "66.67"],
        ["mean", "per", "class", "3", "25.00", "75.00"],
        ["cat", "2", "50.00", "50.00"],
        ["[red]dog", "1", "0.00", "100.00"],
        ["bird", "0", "–", "–"],
    ]
    assert lines[start - 3] == ["top-1", "top-3"]
    assert "1,024 MiB on the device" in text


def test_a_heading_without_a_number_ends_without_a_dash() -> None:
    figures = PooledFigures(1, {"iou": 1.0, "mae": 2.0, "bad3": 3.0}, {"mae": "px"}, {})
    lines = [line.split() for line in printed({"network": Evaluation(figures, 1, 1.0, 1, "process")}).splitlines()]
    assert lines[:2] == [["IoU", "mae", "bad-3"], ["region", "images", "%", "px", "%"]]


def test_json_is_strict_and_complete(tmp_path: Path) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    evaluation = stereo(1.5)
    write_json(tmp_path / "x.json", {"network": evaluation}, about={"dataset": "sintel", "best": math.inf})
    content = json.loads((tmp_path / "x.json").read_text(), parse_constant=refuse)
    assert content["about"] == {"dataset": "sintel", "best": None}
    method = content["methods"]["network"]
    assert (method["images"], method["images_per_second"], method["peak_memory_bytes"]) == (2, 4.0, 3 * 2**20)
    for name, region in evaluation.figures.regions.items():
        read = method["figures"]["regions"][name]
        assert (read["images"], read["pixels"], read["not_finite"]) == (region.images, region.pixels, region.not_finite)
        for average, values in (("pooled", region.pooled), ("per_image", region.per_image)):
            assert read[average] == {k: None if math.isnan(v) else v for k, v in values.items()}
    assert method["figures"]["regions"]["40-"]["pooled"]["epe"] is None

    write_json(tmp_path / "y.json", {"network": classes()})
    figures = json.loads((tmp_path / "y.json").read_text(), parse_constant=refuse)["methods"]["network"]["figures"]
    assert figures["confusion"] == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert figures["unanswered"] == 1
    assert figures["classes"]["bird"] == {"images": 0, "accuracy": {"top1": None, "top3": None}}


def test_csv_is_unrounded(tmp_path: Path) -> None:
    evaluations = {"network": stereo(1 / 3), "sgbm": stereo(4.0)}
    write_csv(tmp_path / "x.csv", evaluations)
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 7
    for row in rows:
        region = evaluations[row["method"]].figures.regions[row["region"]]
        values = region.pooled if row["average"] == "pixels" else region.per_image
        assert (int(row["images"]), int(row["pixels"]), int(row["not_finite"])) == (
            region.images,
            region.pixels,
            region.not_finite,
        )
        for name in FIGURES:
            read = row["epe_px" if name == "epe" else f"{name}_percent"]
            assert math.isnan(values[name]) if read == "" else float(read) == values[name]
        assert float(row["images_per_second"]) == 4.0
        assert float(row["peak_memory_mib"]) == 3.0
        assert row["memory_of"] == "process"

    write_csv(tmp_path / "y.csv", {"network": classes()})
    with (tmp_path / "y.csv").open(newline="") as file:
        by_class = {row["class"]: row for row in csv.DictReader(file)}
    assert list(by_class) == ["all", "mean per class", "cat", "[red]dog", "bird"]
    assert (by_class["cat"]["top1_percent"], by_class["bird"]["top1_percent"]) == ("50.0", "")


def test_nothing_to_show(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {})
    assert json.loads((tmp_path / "x.json").read_text())["methods"] == {}
    write_csv(tmp_path / "x.csv", {})
    assert not (tmp_path / "x.csv").read_text().strip()
    assert not printed({}).strip()
