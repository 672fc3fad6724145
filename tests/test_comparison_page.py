"""The page of a comparison: its table, its notes, its links."""

import html
import math
import re
from pathlib import Path

import pytest

from autodisp.errors import InputError
from autodisp.report.comparison import find_runs
from autodisp.report.comparison_page import write_comparison
from tests.made_runs import config_of, record_of, write_evaluation, write_run, write_search, write_training

pytestmark = pytest.mark.usefixtures("empty_figures")

EVIL = '"><script>alert(1)</script>'


def page(root: Path, out: Path, *, key: str | None = None) -> str:
    out.mkdir(exist_ok=True)
    files = write_comparison(find_runs([str(root)]), out, key=key)
    assert sorted(files) == sorted(path.name for path in out.iterdir())
    return (out / "index.html").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The table, its head first."""
    table = re.findall(r"<table.*?</table>", text, flags=re.DOTALL)[0]
    found = re.findall(r"<tr>(.*?)</tr>", table, flags=re.DOTALL)
    return [
        [
            html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, flags=re.DOTALL)
        ]
        for row in found
    ]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    for number, decay in enumerate((1e-4, 1e-3, 1e-2)):
        write_search(root / f"s{number}", optimizer={"weights": {"weight_decay": decay}}, seed=number)
    write_training(root / "t", genotype=str(root / "s1" / "genotype.json"))
    write_evaluation(root / "e", str(root / "t" / "best.safetensors"), top1=91.5)
    return root


def test_the_table(runs: Path, tmp_path: Path) -> None:
    text = page(runs, tmp_path / "out")
    head, *body = rows(text)
    table = [dict(zip(head, row, strict=True)) for row in body]
    assert [row["run"] for row in table] == ["s0", "s1", "s2", "t"]
    assert [row["optimizer.weights.weight_decay"] for row in table] == ["0.0001", "0.001", "0.01", ""]
    assert [row["accuracy"] for row in table] == ["33", "33", "33", "42"]
    assert [row["accuracy, trained"] for row in table] == ["", "42", "", ""]
    assert [row["accuracy, test"] for row in table] == ["", "91.5", "", "91.5"]
    assert table[0]["state"] == "complete"
    assert "restarts" not in head
    assert "3 searches · 1 training" in text
    assert head[:4] == ["#", "run", "optimizer.weights.weight_decay", "seed"], "what differs comes first"
    assert head.index("kind") < head.index("dataset"), "searches and a training, all on one dataset"
    assert "search_cifar10_accuracy_discretised_over_setting.svg" in text, "over the one setting that differs"
    assert "name one with key=" not in text
    sorted_by = re.findall(r'<td data-value="([^"]*)" class="number">', text)
    assert sorted_by
    assert all(math.isfinite(float(value)) for value in sorted_by if value)


@pytest.mark.slow
def test_of_several_settings_one_must_be_named(runs: Path, tmp_path: Path) -> None:
    write_search(runs / "s3", curvature={"every": 2})
    text = page(runs, tmp_path / "out")
    assert "curvature.every, optimizer.weights.weight_decay" in text
    assert "over_setting" not in text
    text = page(runs, tmp_path / "by_key", key="optimizer.weights.weight_decay")
    assert "over_setting" in text
    assert rows(text)[0][2:5] == ["optimizer.weights.weight_decay", "curvature.every", "seed"]


@pytest.mark.slow
def test_results_on_different_data_are_not_drawn_into_one_chart(runs: Path, tmp_path: Path) -> None:
    for number, every in enumerate((1, 2)):
        write_search(runs / f"v{number}", dataset={"name": "svhn"}, curvature={"every": every})
    text = page(runs, tmp_path / "out")
    assert "Searches by accuracy on cifar10" in text
    assert "Searches by accuracy on svhn" in text
    assert {path.name for path in (tmp_path / "out").glob("*_discretised_over_setting.svg")} == {
        "search_cifar10_accuracy_discretised_over_setting.svg", "search_svhn_accuracy_discretised_over_setting.svg"
    }  # fmt: skip


def test_a_key_that_does_not_differ_is_said(runs: Path, tmp_path: Path) -> None:
    text = page(runs, tmp_path / "out", key="optimizer.weight_decay")
    assert "3 of 3 have no number under optimizer.weight_decay" in text
    assert "optimizer.weight_decay is 0.0001 in all that have it, so no result is drawn over it" in text


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("weight_decay", "optimizer.weight_decay"),
        ("optimizer.weights.weight_deacy", "optimizer.weights.weight_decay"),
        ("zz", ""),
    ],
)
def test_a_key_that_no_run_has(runs: Path, tmp_path: Path, key: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"key={key}: no run has a number") as caught:
        page(runs, tmp_path / "out", key=key)
    assert ("did you mean" in str(caught.value)) == bool(hint)
    assert hint in str(caught.value)


def test_links_lead_to_the_runs_own_pages(runs: Path, tmp_path: Path) -> None:
    run = runs / "s 0 & <b>"
    (runs / "s0").rename(run)
    (run / "report").mkdir()
    (run / "report" / "index.html").write_text("")
    link = html.unescape(re.findall(r'<td[^>]*><a href="([^"]+)"', page(runs, tmp_path / "out"))[0])
    assert link == "../runs/s%200%20%26%20%3Cb%3E/report/index.html"


def test_names_are_words(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for number in range(2):
        config = config_of(policy=EVIL) | {EVIL: number, "dataset": {"name": EVIL}}
        write_run(root / f"{number} {EVIL.replace('/', '')}", [record_of(0)], config=config)
    text = page(root, tmp_path / "out", key=EVIL)
    assert text.count("<script") == 1
    assert "alert(1)" in html.unescape(text)
