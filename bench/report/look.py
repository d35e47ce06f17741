"""How every picture looks: colours that tell apart for all eyes, light and dark, and one drawing for SVG and PNG.

matplotlib is an extra; it is imported here and nowhere else in this package.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.errors import BenchError

HOW_TO_INSTALL: Final = "the report draws with matplotlib, which is an extra: pip install 'headrace[plots]'"
INK: Final = "#22303d"
SOFT: Final = "#6f7e8b"
GRID: Final = "#e6eaef"
SHADE: Final = "#f0f2f5"
PAPER: Final = "#fffffe"  # not #ffffff, which is written on colours and stays white in the dark
WHITE: Final = "#ffffff"
# What a page sets by its theme; every other colour holds on light and on dark ground.
THEMED: Final = {INK: "--ink", SOFT: "--soft", GRID: "--grid", SHADE: "--shade", PAPER: "--paper"}
# Okabe and Ito's colours, a little evened out: told apart with any common colour blindness.
BLUE, ORANGE, GREEN, RED = "#2a7fba", "#e69f00", "#0f9d76", "#d55e00"
PINK, SKY, PURPLE, GREY = "#cc79a7", "#63b8ea", "#8468b5", "#a4b0ba"
SERIES: Final = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, PINK, GREY)
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: Final[tuple[Any, ...]] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
WORKS: Final = {  # in the order in which a transaction meets them
    "accept": SKY, "verify": ORANGE, "dispatch": PURPLE, "consensus": BLUE, "journal": PINK, "pack": INK,
    "execute": GREEN, "store": RED, "rest": GREY, "other": "#d3dae0",
}  # fmt: skip
STAGES: Final = {"pack": PURPLE, "consensus": BLUE, "execute": GREEN, "checkpoint": ORANGE, "store": RED}
WIDTH: Final = 10.0  # inches of every figure
DPI: Final = 120
_FONT: Final = re.compile(r"font: ((?:\w+ )*[\d.]+px)[^;\"]*")
_COLOR: Final = re.compile(r": (#[0-9a-f]{6})\b")
_BEFORE: Final = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA: Final = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_NAMESPACE: Final = re.compile(r' xmlns(:\w+)?="[^"]*"')
_SPACE: Final = re.compile(r"\s*\n\s*")
_ID: Final = re.compile(r' id="([^"]+)"')
_REFERENCE: Final = re.compile(r'(?:href="#|url\(#)([^")]+)')
_LONG: Final = re.compile(r"(\d\.\d\d)\d+(?=[^\d.])")  # a hundredth of a point is finer than any screen
_SIZE: Final = re.compile(r' (width|height)="[\d.]+pt"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One picture. `name` is that of its file, `explained` what a reader needs to read it, `caution` why one should not
    rely on it, `more` that it is one of several of a kind, which a page folds away. `paint` draws it on an empty
    figure."""

    name: str
    title: str
    explained: str
    height: float  # inches
    paint: Callable[[Any], None]
    more: bool = False
    caution: str = ""


def svg_of(chart: Chart) -> str:
    """An element to stand in a page: text stays text, nothing is fetched, colours follow the page's theme.

    Raises:
        BenchError: matplotlib is not installed.
    """
    output = io.StringIO()
    figure, context = _figure(chart)
    with context({"svg.fonttype": "none", "svg.hashsalt": chart.name}):
        figure.savefig(output, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = _BEFORE.sub("", output.getvalue())
    text = _NAMESPACE.sub("", _METADATA.sub("", text)).replace("xlink:href", "href")
    text = _FONT.sub(r"font: \1 var(--font)", text)
    text = _COLOR.sub(lambda found: f": var({THEMED[found[1]]})" if found[1] in THEMED else found[0], text)
    text = _LONG.sub(r"\1", _SIZE.sub("", text, count=2))
    used = set(_REFERENCE.findall(text))
    text = _ID.sub(lambda found: found[0] if found[1] in used else "", text)
    text = _SPACE.sub(" ", text).replace("> <", "><").replace('" />', '"/>')
    return text.replace("<svg", f'<svg role="img" aria-label="{chart.name}"', 1).strip()


def save_png(chart: Chart, folder: Path) -> Path:
    """Draw it into a file of the folder, on light ground.

    Raises:
        BenchError: matplotlib is not installed, or the file cannot be written.
    """
    path = folder / f"{chart.name}.png"
    figure, _ = _figure(chart)
    try:
        figure.savefig(path, dpi=DPI, metadata={"Software": None})
    except OSError as error:
        raise BenchError(f"{path}: cannot be drawn: {error.strerror}") from None
    return path


def _figure(chart: Chart) -> tuple[Any, Any]:
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise BenchError(HOW_TO_INSTALL) from None
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.04, hspace=0.05)
    figure = Figure(figsize=(WIDTH, chart.height), layout=layout, facecolor=PAPER)
    FigureCanvasAgg(figure)
    chart.paint(figure)
    return figure, rc_context


def frame(axes: Any, title: str, *, x: str = "", y: str = "", grid: str = "both") -> None:
    """The parts that all axes share."""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, fontweight="bold")
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(SOFT)
    axes.tick_params(colors=INK, labelsize=9, which="both", color=SOFT)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, lw=0.8)
    axes.set_xlabel(x, color=SOFT, fontsize=9)
    axes.set_ylabel(y, color=SOFT, fontsize=9)


def legend(figure_or_axes: Any, handles: Any = None, **options: Any) -> None:
    """A legend without a frame."""
    settings = {"frameon": False, "fontsize": 8.8, "labelcolor": INK, **options}
    if handles is None:
        figure_or_axes.legend(**settings)
    else:
        figure_or_axes.legend(handles=handles, **settings)


def on(color: str) -> str:
    """A colour that can be read on this one."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return WHITE if 0.299 * red + 0.587 * green + 0.114 * blue < 150 else "#101820"


def thousands(axis: Any) -> None:
    """Ticks with a comma between thousands."""
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 10 else f"{value:g}")
