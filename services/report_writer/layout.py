"""The page of a report: fonts, styles, and the marks that no page may be without."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

PAGE_WIDTH, PAGE_HEIGHT = A4
MARGIN = 18 * mm
TEXT_WIDTH = PAGE_WIDTH - 2 * MARGIN
TOP, BOTTOM = 27 * mm, 19 * mm

NAVY, TEAL, AMBER, RED, GREEN = (HexColor(c) for c in ("#12355b", "#1f6f8b", "#9a4b00", "#a3001b", "#1c6b3a"))
INK, GREY, RULE, TINT, WARM = (HexColor(c) for c in ("#1d2530", "#5c6773", "#cfd6de", "#f1f5f9", "#fdf3e3"))

BANNER = "RESEARCH USE ONLY — NOT FOR DIAGNOSIS OR TREATMENT DECISIONS"
STATUS = "PRELIMINARY — NOT SIGNED"
WATERMARK = "RESEARCH USE ONLY"

_FACES = {
    "VBT": "DejaVuSans",
    "VBT-Bold": "DejaVuSans-Bold",
    "VBT-Italic": "DejaVuSans-Oblique",
    "VBT-Mono": "DejaVuSansMono",
}
# DejaVu has no East Asian glyphs; these are the standard PDF collections that viewers bring themselves.
_EAST_ASIAN = (
    (re.compile("[\u1100-\u11ff\uac00-\ud7af]"), "HYGothic-Medium"),
    (re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]"), "HeiseiKakuGo-W5"),
)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@functools.cache
def register_fonts() -> None:
    """Embed DejaVu from matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew letters and mathematical signs."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name, face in _FACES.items():
        pdfmetrics.registerFont(TTFont(name, str(folder / f"{face}.ttf")))
    pdfmetrics.registerFontFamily("VBT", normal="VBT", bold="VBT-Bold", italic="VBT-Italic", boldItalic="VBT-Bold")
    for _, name in _EAST_ASIAN:
        pdfmetrics.registerFont(UnicodeCIDFont(name))


def printable(text: str) -> str:
    """Text without control characters and without marks that reorder what is read."""
    return _UNPRINTABLE.sub("", text)


def marked_up(text: str) -> str:
    """Text from the outside as paragraph markup: escaped, and East Asian runs in a font that has them."""
    safe = escape(printable(text))
    for pattern, font in _EAST_ASIAN:
        safe = re.sub(f"((?:{pattern.pattern})+)", rf'<font name="{font}">\1</font>', safe)
    return safe


@functools.cache
def styles() -> dict[str, ParagraphStyle]:
    """The paragraph styles by name."""
    register_fonts()
    body = ParagraphStyle("body", fontName="VBT", fontSize=8.6, leading=12.2, textColor=INK)

    def style(name: str, **changes: Any) -> ParagraphStyle:
        return ParagraphStyle(name, parent=body, **changes)

    return {
        "body": body,
        "title": style("title", fontName="VBT-Bold", fontSize=17, leading=21, textColor=NAVY),
        "subtitle": style("subtitle", textColor=GREY, fontSize=8.6),
        "section": style(
            "section",
            fontName="VBT-Bold",
            fontSize=11,
            leading=14,
            textColor=NAVY,
            spaceBefore=11,
            spaceAfter=4,
            keepWithNext=1,
        ),
        "subsection": style(
            "subsection", fontName="VBT-Bold", fontSize=9, textColor=TEAL, spaceBefore=6, spaceAfter=2, keepWithNext=1
        ),
        "lead": style("lead", keepWithNext=1),
        "conclusion": style("conclusion", fontSize=10, leading=14.5),
        "cell": style("cell", fontSize=8.2, leading=10.8),
        "number": style("number", fontSize=8.2, leading=10.8, alignment=2),
        "head": style("head", fontName="VBT-Bold", fontSize=7.6, leading=10, textColor=white),
        "head-number": style(
            "head-number", fontName="VBT-Bold", fontSize=7.6, leading=10, textColor=white, alignment=2
        ),
        "label": style("label", fontSize=7, leading=9, textColor=GREY),
        "value": style("value", fontSize=8.8, leading=11.2),
        "caption": style("caption", fontName="VBT-Italic", fontSize=7.6, leading=10, textColor=GREY, spaceAfter=6),
        "bullet": style("bullet", leftIndent=10, bulletIndent=1, spaceAfter=2),
        "mono": style("mono", fontName="VBT-Mono", fontSize=7.2, leading=9.6),
        "status": style("status", fontName="VBT-Bold", fontSize=8, leading=10, textColor=AMBER, alignment=1),
    }


class MarkedCanvas(Canvas):  # type: ignore[misc]
    """A canvas that finishes every page with banner, watermark, running title and "page x of y".

    Pages are held back until the last is known. The marks are drawn by the canvas and not by the page template, so
    no story and no template can leave them out.
    """

    def __init__(self, *args: Any, running_title: str, footer: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._running_title = running_title
        self._footer = footer
        self._held: list[dict[str, Any]] = []

    def showPage(self) -> None:
        self._held.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for number, page in enumerate(self._held, start=1):
            self.__dict__.update(page)
            self._draw_marks(number, len(self._held))
            super().showPage()
        super().save()

    def _draw_marks(self, number: int, total: int) -> None:
        self.saveState()
        self.setFillColor(AMBER)
        self.rect(0, PAGE_HEIGHT - 9 * mm, PAGE_WIDTH, 9 * mm, stroke=0, fill=1)
        self.setFillColor(white)
        self.setFont("VBT-Bold", 8.6)
        self.drawCentredString(PAGE_WIDTH / 2, PAGE_HEIGHT - 6 * mm, BANNER)
        self.setFillColor(GREY)
        self.setFont("VBT", 7)
        self.drawString(MARGIN, PAGE_HEIGHT - 16 * mm, self._running_title)
        self.drawRightString(PAGE_WIDTH - MARGIN, PAGE_HEIGHT - 16 * mm, STATUS)
        self.setStrokeColor(RULE)
        self.setLineWidth(0.5)
        self.line(MARGIN, PAGE_HEIGHT - 18 * mm, PAGE_WIDTH - MARGIN, PAGE_HEIGHT - 18 * mm)
        self.line(MARGIN, 14 * mm, PAGE_WIDTH - MARGIN, 14 * mm)
        self.drawString(MARGIN, 10 * mm, self._footer)
        self.drawRightString(PAGE_WIDTH - MARGIN, 10 * mm, f"page {number} of {total}")
        self._draw_watermark()
        self.restoreState()

    def _draw_watermark(self) -> None:
        # Over the content and transparent: a picture or a tinted table must not cover it.
        self.setFillColor(Color(0.35, 0.35, 0.35, alpha=0.07))
        self.setFont("VBT-Bold", 50)
        self.translate(PAGE_WIDTH / 2, PAGE_HEIGHT / 2)
        self.rotate(52)
        self.drawCentredString(0, -16, WATERMARK)
