"""Writes a page: one HTML file that needs no network, with each figure next to it as SVG and PNG.

Text from a run folder is escaped by the template engine. By its content security policy the page loads nothing and
runs no script but its own. In the page a figure is a separate SVG image without background, which is inverted if the
page is shown dark (style.css).
"""

import base64
import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

import autodisp
from autodisp.report.curves import Chart
from autodisp.report.figures import save, settle, svg_uri

PAGE = "index.html"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class PageImage:
    """A figure inside a page."""

    name: str
    """Stem of its files."""
    title: str
    uri: str
    """Its SVG as a data URI."""
    width: int
    """Natural size, CSS pixels."""
    height: int
    note: str = ""


def page_image(name: str, title: str, figure: Figure, *, note: str = "") -> PageImage:
    """Returns the figure for a page, without writing files."""
    width, height = (round(96 * float(length)) for length in figure.get_size_inches())
    return PageImage(name, title, svg_uri(figure), width, height, note)


class Gallery:
    """Writes figures into an existing folder, and records the names of their files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[str] = []

    def add(self, chart: Chart) -> PageImage:
        """Writes NAME.svg and NAME.png, with a number appended to a name that is taken."""
        name, number = chart.name, 1
        while f"{name}.svg" in self.files:
            number += 1
            name = f"{chart.name}_{number}"
        settle(chart.figure)
        for file in (f"{name}.svg", f"{name}.png"):
            save(chart.figure, self.folder / file)
            self.files.append(file)
        return page_image(name, chart.title, chart.figure, note=chart.note)


def write_page(
    gallery: Gallery, template: str, content: Mapping[str, Any], notes: Sequence[str], *, script: str | None
) -> list[str]:
    """Fills a template and writes index.html next to the figures; returns the names of all files, the page first."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    code = (_TEMPLATES / script).read_text(encoding="utf-8") if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" if code else "'none'"
    text = environment.get_template(template).render(
        **content,
        notes=notes,
        style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup(code),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}; base-uri 'none'",
        files=gallery.files,
        version=autodisp.__version__,
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    # a lone surrogate, which JSON may contain, is not a character: it becomes a question mark
    (gallery.folder / PAGE).write_bytes(text.encode("utf-8", errors="replace"))
    return [PAGE, *gallery.files]
