"""Contrast of the page's colours, by the definition of WCAG 2.2, and the table of it in docs/accessibility.md."""

from __future__ import annotations

from phi3tune.ui.theme import COLORS

TEXT, SHAPE = 4.5, 3.0
SURFACES = ("page", "card", "soft")
# What is written on what.
WRITTEN = [
    *((text, surface) for text in ("text", "strong", "sub", "hint", "accent", "link") for surface in SURFACES),
    *((text, "accent-soft") for text in ("text", "strong", "accent", "sub")),
    *((text, "button") for text in ("strong", "bad")),
    ("strong", "button-over"),
    ("on-press", "press"),
    ("on-press", "press-over"),
    *((level, surface) for level in ("good", "warn", "bad") for surface in (f"{level}-soft", "card")),
]
# Edges of what can be written in or pressed, the focus, series of charts, the bar of progress.
DRAWN = [
    *((edge, surface) for edge in ("edge", "bad-edge") for surface in ("card", "button", "page")),
    *(("accent", surface) for surface in (*SURFACES, "line")),
    *((role, surface) for role in COLORS if role.startswith("series-") for surface in ("card", "soft")),
]


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb`: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def contrasts(pair: tuple[str, str]) -> tuple[float, float]:
    """Of two roles, in light and in dark."""
    one, other = (COLORS[role] for role in pair)
    return contrast(one[0], other[0]), contrast(one[1], other[1])


def contrast_table() -> str:
    """Markdown."""
    lines = [
        "## Contrast",
        "",
        f"Text needs {TEXT}, edges and curves need {SHAPE} (WCAG 2.2 AA). Colours are named by their role in",
        "`phi3tune/ui/theme.py`.",
        "",
        "| colour | on | light | dark | needs |",
        "|---|---|---:|---:|---:|",
    ]
    for pairs, least in ((WRITTEN, TEXT), (DRAWN, SHAPE)):
        for pair in pairs:
            light, dark = contrasts(pair)
            lines.append(f"| {pair[0]} | {pair[1]} | {light:.1f} | {dark:.1f} | {least} |")
    return "\n".join(lines)
