"""A report's pictures: each as an SVG and a PNG file, and as SVG that stands in the page and follows its colours.

In the page a picture's white is the page's paper and its dark ink the page's ink, so that it turns with the page when
that is shown dark. The glyphs of all pictures stand in the page once: they are most of what an SVG of matplotlib is.
"""

import io
import itertools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from autodisp.report.drawing import KIND_COLOURS

PIXELS_PER_INCH = 160
_RC: dict[Any, Any] = {"svg.hashsalt": "autodisp", "svg.fonttype": "path", "text.usetex": False, "path.sketch": None}
_NAMED = {
    "#ffffff": "var(--paper)",
    "#000000": "var(--ink)",
    "#22303c": "var(--ink)",
    "#8a949e": "var(--soft)",
    "#e6eaed": "var(--grid)",
    "#a9b4be": "var(--soft)",
    "#dce6ef": "var(--plate)",
    "#dadde0": "var(--plate)",
    "#0072b2": "var(--blue)",
    "#d55e00": "var(--orange)",
    "#009e73": "var(--green)",
    "#6a51a3": "var(--purple)",
    "#c0392b": "var(--red)",
    "#b5559a": "var(--pink)",
    "#8c6d31": "var(--brown)",
    "#7f7f7f": "var(--grey)",
}
"""The colours of ``curves`` and ``drawing`` that are the page's."""
_GLYPH = re.compile(r'<path id="([A-Za-z0-9_-]*-[0-9a-f]+)" d="([^"]*)"(?: transform="([^"]*)")?/>')
_USED = re.compile(r'(id="|href="#|url\(#)([^")]+)')


@dataclass(frozen=True)
class Picture:
    """A picture of the page."""

    name: str
    """Of its files, without suffix."""
    title: str
    svg: Markup
    note: str = ""
    """What is to be known about it."""
    width: float = 0.0
    """Of its natural size, CSS pixels."""

    @property
    def files(self) -> tuple[str, str]:
        """The names of its files."""
        return f"{self.name}.svg", f"{self.name}.png"


class Gallery:
    """Writes pictures into a folder and collects what the page needs of them.

    Args:
        folder: exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[str] = []
        self._glyphs: dict[str, str] = {}
        self._numbers = itertools.count()

    def add(self, name: str, title: str, figure: Figure, *, note: str = "") -> Picture:
        """Writes the figure as NAME.svg and NAME.png, with a number behind the name where there is one already."""
        taken = sum(file == f"{name}.svg" or re.fullmatch(rf"{re.escape(name)}_\d+\.svg", file) is not None
                    for file in self.files)  # fmt: skip
        name = f"{name}_{taken + 1}" if f"{name}.svg" in self.files else name
        svg = svg_text(figure)
        (self.folder / f"{name}.svg").write_text(svg, encoding="utf-8")
        with _rendering():
            figure.savefig(self.folder / f"{name}.png", dpi=PIXELS_PER_INCH)
        self.files += [f"{name}.svg", f"{name}.png"]
        return Picture(name, title, self.inline(svg, title), note, 96 * float(figure.get_size_inches()[0]))

    def inline(self, svg: str, title: str) -> Markup:
        """SVG of matplotlib as an element of the page, its glyphs taken out."""
        body = svg[svg.index("<svg") :]
        body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
        body = re.sub(r"<style.*?</style>\s*", "", body, flags=re.DOTALL)
        body = _GLYPH.sub(self._take_glyph, body)
        prefix = f"p{next(self._numbers)}-"

        def own(match: re.Match[str]) -> str:
            return match[0] if match[2] in self._glyphs else f"{match[1]}{prefix}{match[2]}"

        body = _USED.sub(own, body)
        body = re.sub(r"#[0-9a-fA-F]{6}\b", _page_colour, body)
        body = re.sub(r"(\.\d\d)\d+", r"\1", body)
        body = re.sub(r"<defs>\s*</defs>\s*", "", re.sub(r"\n\s*", "\n", body))
        # Its width is given by the page; the label is for those who cannot see it.
        label = Markup.escape(title)
        opening = re.sub(r' (width|height)="[^"]*"', "", body[: body.index(">") + 1])
        opening = opening.replace("<svg", f'<svg role="img" aria-label="{label}" class="picture"', 1)
        return Markup(opening + body[body.index(">") + 1 :])

    @property
    def glyphs(self) -> Markup:
        """The glyphs of all pictures, to stand in the page before them."""
        paths = "".join(self._glyphs.values())
        return Markup(f'<svg class="glyphs" aria-hidden="true" width="0" height="0"><defs>{paths}</defs></svg>')

    def _take_glyph(self, match: re.Match[str]) -> str:
        name, outline, transform = match[1], match[2], match[3]
        if not re.search(r"(Sans|Serif|Mono|STIX|Cmr|cm)", name):
            return match[0]
        moved = f' transform="{transform}"' if transform else ""
        self._glyphs.setdefault(name, f'<path id="{name}" d="{" ".join(outline.split())}"{moved}/>')
        return ""


def svg_text(figure: Figure) -> str:
    """The figure as SVG that depends on nothing but the figure."""
    buffer = io.StringIO()
    with _rendering():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


@contextmanager
def _rendering() -> Iterator[None]:
    with mpl.rc_context(_RC), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes, which is all there is to say about it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _tints() -> dict[str, str]:
    """The pale grounds of a cell's operations, as ``drawing`` mixes them, in terms of the page's paper."""
    tints = {}
    for colour in KIND_COLOURS.values():
        red, green, blue = (0.86 + 0.14 * part for part in mpl.colors.to_rgb(colour))
        mixed = mpl.colors.to_hex((red, green, blue))
        tints[mixed] = f"color-mix(in srgb, {_NAMED[colour.lower()]} 18%, var(--paper))"
    return tints


_COLOURS = {**_NAMED, **_tints()}
KIND_COLOURS_OF_PAGE = {kind: _NAMED[colour.lower()] for kind, colour in KIND_COLOURS.items()}
"""As a style sheet names them."""


def page_colour(colour: str) -> str:
    """A colour of the files as the page has it."""
    return _COLOURS.get(colour.lower(), colour)


def _page_colour(match: re.Match[str]) -> str:
    return page_colour(match[0])
