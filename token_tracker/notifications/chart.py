"""Spend over time as a small picture for a mail, drawn without a browser; pure: numbers in, PNG out."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

WIDTH_PX, HEIGHT_PX = 480, 170  # as shown; drawn twice as fine
_FINE = 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 4, 28, 22
_NOW, _BEFORE, _LINE, _INK = "#2563eb", "#cbd5e1", "#e2e8f0", "#64748b"
_LABELS_MOST = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """USD of an hour or a day, and of the same one of the period before."""

    label: str
    now: float
    before: float


def draw(bars: Sequence[Bar], legend: tuple[str, str]) -> bytes:
    """A PNG of 960 × 340 pixels; `legend`: what the two bars of each place are."""
    image = Image.new("RGB", (WIDTH_PX * _FINE, HEIGHT_PX * _FINE), "#ffffff")
    pen = _Pen(ImageDraw.Draw(image))
    top = nice_ceiling(max([0.0, *(bar.now for bar in bars), *(bar.before for bar in bars)]))
    _legend(pen, legend)
    for share in (0.0, 0.5, 1.0):
        y = _y(share)
        pen.box(_LEFT, y, WIDTH_PX - _RIGHT, y + 1, _LINE)
        pen.text(_LEFT - 6, y, _usd(top * share), "rm")
    place = (WIDTH_PX - _LEFT - _RIGHT) / max(1, len(bars))
    every = math.ceil(len(bars) / _LABELS_MOST)
    for number, bar in enumerate(bars):
        left = _LEFT + number * place
        for offset, value, color in ((0.14, bar.before, _BEFORE), (0.5, bar.now, _NOW)):
            if value > 0:
                pen.box(left + place * offset, _y(value / top), left + place * (offset + 0.34), _y(0), color)
        if number % every == 0:
            pen.text(left + place / 2, HEIGHT_PX - _BOTTOM + 11, bar.label, "mm")
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def nice_ceiling(value: float) -> float:
    """The least of 1, 1.5, 2, 3, 4, 5, 6, 8 or 10 times a power of ten that is not below `value`; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * step >= value * (1 - 1e-9))


class _Pen:
    """Coordinates in pixels as shown."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw, self._font = draw, ImageFont.load_default(size=11 * _FINE)

    def box(self, left: float, top: float, right: float, bottom: float, color: str) -> None:
        corners = [round(left * _FINE), round(top * _FINE), round(right * _FINE) - 1, round(bottom * _FINE) - 1]
        self._draw.rectangle((corners[0], corners[1], max(corners[0], corners[2]), max(corners[1], corners[3])), color)

    def text(self, x: float, y: float, text: str, anchor: str) -> float:
        """Where it ends."""
        place = (x * _FINE, y * _FINE)
        self._draw.text(place, text, _INK, self._font, anchor)
        return x + float(self._font.getlength(text)) / _FINE


def _legend(pen: _Pen, legend: tuple[str, str]) -> None:
    x = float(_LEFT)
    for color, words in zip((_NOW, _BEFORE), legend, strict=True):
        pen.box(x, 4, x + 10, 14, color)
        x = pen.text(x + 15, 9, words, "lm") + 18


def _y(share: float) -> float:
    return _TOP + (HEIGHT_PX - _TOP - _BOTTOM) * (1 - share)


def _usd(value: float) -> str:
    if 0 < value < 0.01:
        return f"${value:.2g}"
    return f"${value:,.2f}" if 0 < value < 10 else f"${value:,.0f}"
