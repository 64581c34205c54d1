"""A message's words as HTML: tables and inline styles only, what mail programs show alike. It loads nothing."""

from __future__ import annotations

from html import escape

from token_tracker.notifications.wording import Table, Wording

_RULE = ";border-bottom:1px solid #e2e8f0"
_CELL = f"padding:6px 0 6px 12px;font-size:14px{_RULE}"
_BAR_PX = 480
_EMPTY = "#e2e8f0"


def html_of(words: Wording, dashboard_url: str, picture_id: str = "") -> str:
    """`picture_id`: the Content-ID of the picture, where there is one."""
    rows = "".join(_row((name, value)) for name, value in words.lines)
    link = (
        f'<p style="margin:24px 0 0"><a href="{escape(dashboard_url)}" style="color:#1d4ed8">Open the dashboard</a></p>'
        if dashboard_url
        else ""
    )
    return (
        '<!doctype html><html><head><meta charset="utf-8"></head>'
        '<body style="margin:0;padding:24px;background:#f1f5f9;color:#0f172a;font-family:Helvetica,Arial,sans-serif">'
        '<table role="presentation" align="center" width="560" cellspacing="0" style="background:#ffffff;'
        f'border-top:4px solid {words.color}"><tr><td style="padding:28px 40px">'
        f'<h1 style="font-size:20px;margin:0 0 12px">{escape(words.headline)}</h1>'
        f'<p style="font-size:15px;line-height:1.5;margin:0 0 16px">{escape(words.sentence)}</p>'
        f"{'' if words.percent is None else _bar(words.percent, words.color, 14)}{_picture(words, picture_id)}"
        f"{_table(rows)}{''.join(map(_titled, words.tables))}{link}"
        "</td></tr></table></body></html>"
    )


def _titled(table: Table) -> str:
    percents = [None] * len(table.rows) if table.percents is None else table.percents
    rows = "".join(_row(row, percent) for row, percent in zip(table.rows, percents, strict=True))
    return f'<h2 style="font-size:14px;margin:24px 0 4px">{escape(table.title)}</h2>{_table(rows)}'


def _table(rows: str) -> str:
    return f'<table role="presentation" width="100%" cellspacing="0">{rows}</table>' if rows else ""


def _row(row: tuple[str, ...], percent: float | None = None) -> str:
    """With `percent` a bar under it."""
    style = _CELL if percent is None else _CELL.replace(_RULE, "")
    first, *others = row
    kept = f"{style};white-space:nowrap" if len(others) > 1 else style
    widths = ["", *[' width="76"'] * (len(others) - 1)]  # the same in all tables
    cells = "".join(
        f'<td align="right"{width} style="{kept}">{escape(cell)}</td>'
        for cell, width in zip(others, widths, strict=True)
    )
    under = ""
    if percent is not None:
        under = f'<tr><td colspan="{len(row)}" style="padding:0 0 6px">{_bar(percent, _color(percent), 8)}</td></tr>'
    name = f'<td style="{style};padding-left:0;color:#475569;word-break:break-word">{escape(first)}</td>'
    return f"<tr>{name}{cells}</tr>{under}"


def _color(percent: float) -> str:
    return "#b91c1c" if percent >= 100 else "#b45309" if percent >= 80 else "#15803d"


def _bar(percent: float, color: str, height_px: int) -> str:
    filled = round(_BAR_PX * min(100.0, max(0.0, percent)) / 100)
    drawn = "".join(
        f'<td width="{width}" height="{height_px}" style="background:{fill};font-size:1px;line-height:{height_px}px">'
        "&nbsp;</td>"
        for width, fill in ((filled, color), (_BAR_PX - filled, _EMPTY))
        if width
    )
    margin = "0 0 16px" if height_px > 8 else "0"
    return (
        f'<table role="presentation" width="{_BAR_PX}" cellspacing="0" cellpadding="0" style="margin:{margin}">'
        f"<tr>{drawn}</tr></table>"
    )


def _picture(words: Wording, picture_id: str) -> str:
    picture = words.picture
    if picture is None:
        return ""
    return (
        f'<p style="margin:0 0 16px"><img src="cid:{escape(picture_id)}" width="{picture.width_px}" '
        f'height="{picture.height_px}" alt="{escape(picture.description)}" style="display:block"></p>'
    )
