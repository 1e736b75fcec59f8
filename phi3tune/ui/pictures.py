"""Small sketches of what a place will show, for while it is empty. They take the colour of the text around them."""

from __future__ import annotations

_CHART = (
    '<path d="M14 8v52h108"/><path d="M14 43h108M14 26h108" opacity=".35"/>'
    '<path class="pt-mark" d="M18 14c16 4 18 26 36 31s36 8 64 9"/>'
    '<path d="M18 19c20 4 24 18 44 23s34 5 56 6" stroke-dasharray="4 4"/>'
)
_TABLE = (
    '<rect x="10" y="8" width="112" height="56" rx="5"/>'
    '<path d="M10 22h112M10 36h112M10 50h112M46 8v56M84 8v56" opacity=".45"/>'
    '<path class="pt-mark" d="M92 29h20M92 43h24M92 57h14"/>'
    '<path d="M18 15h18M18 29h20M18 43h14M18 57h20M54 29h18M54 43h22M54 57h16"/>'
)
_CHAT = (
    '<path d="M12 9h62a5 5 0 0 1 5 5v14a5 5 0 0 1-5 5H26l-9 8v-8h-5a5 5 0 0 1-5-5V14a5 5 0 0 1 5-5z"/>'
    '<path d="M18 18h46M18 25h30"/>'
    '<path class="pt-mark" d="M58 38h62a5 5 0 0 1 5 5v12a5 5 0 0 1-5 5h-5v7l-9-7H58a5 5 0 0 1-5-5V43a5 5 0 0 1 5-5z"/>'
    '<path class="pt-mark" d="M64 46h48M64 53h32"/>'
)
_BUILDS = (
    '<path d="M66 6l24 12v26L66 56 42 44V18z"/><path d="M42 18l24 12 24-12M66 30v26"/>'
    '<path class="pt-mark" d="M52 66l8 4 18-10"/><path d="M12 30h20M12 40h14M100 30h20M106 40h14" opacity=".6"/>'
)
_ROWS = (
    '<rect x="10" y="8" width="112" height="15" rx="4"/><rect x="10" y="29" width="112" height="15" rx="4"/>'
    '<rect x="10" y="50" width="112" height="15" rx="4" opacity=".5"/>'
    '<path class="pt-mark" d="M17 16l3 3 6-6M17 37l3 3 6-6"/><path d="M36 15h60M36 36h72M36 57h48"/>'
)
_SCORE = (
    '<path d="M10 64h112" opacity=".5"/><rect x="22" y="38" width="20" height="26" rx="2"/>'
    '<rect class="pt-mark" x="56" y="14" width="20" height="50" rx="2"/>'
    '<rect x="90" y="26" width="20" height="38" rx="2"/>'
    '<path d="M32 30v14M66 8v12M100 19v14"/>'
)
# Name -> drawing in a field of 132 by 72. `pt-mark` is what stands out.
PICTURES = {"chart": _CHART, "table": _TABLE, "chat": _CHAT, "builds": _BUILDS, "rows": _ROWS, "score": _SCORE}


def picture(name: str) -> str:
    """Inline SVG, hidden from screen readers, which have the text beside it. Raises `KeyError` for an unknown name."""
    return (
        '<svg class="pt-picture" viewBox="0 0 132 72" aria-hidden="true" focusable="false" '
        'fill="none" stroke="currentColor" stroke-width="2" '
        f'stroke-linecap="round" stroke-linejoin="round">{PICTURES[name]}</svg>'
    )
