"""Colours and type of the page, in light and in dark.

Every colour has a role and is written here once: Gradio's theme and the style sheets take it from here. The fonts ship
with Gradio or with the reader's system, so the page asks no other host for anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes.utils import colors, sizes

CSS_FILES = [Path(__file__).with_name(name) for name in ("page.css", "parts.css")]

# Role: (in light, in dark). In the style sheets they are `--pt-<role>`.
COLORS = {
    "page": ("#f3f6f6", "#0f1416"),
    "card": ("#ffffff", "#171d21"),
    "soft": ("#f3f6f6", "#11171a"),
    "text": ("#17202a", "#e6ebee"),
    "strong": ("#22303b", "#dbe3e8"),
    "sub": ("#4d5c69", "#a9b6c0"),
    "hint": ("#5f6c78", "#94a2ac"),
    "line": ("#dbe2e6", "#2c363c"),
    "edge": ("#808d97", "#6f7d87"),
    "accent": ("#0f766e", "#2dd4bf"),
    "accent-soft": ("#d9f2ee", "#143b38"),
    "link": ("#0f766e", "#5eead4"),
    "press": ("#0f766e", "#0f766e"),
    "press-over": ("#115e59", "#0b615b"),
    "on-press": ("#ffffff", "#ffffff"),
    "button": ("#ffffff", "#222b30"),
    "button-over": ("#e9eff0", "#2c373d"),
    "good": ("#11663f", "#6ee7a8"),
    "good-soft": ("#e3f5ea", "#12301f"),
    "warn": ("#8a4b08", "#fbbf6b"),
    "warn-soft": ("#fdf1dd", "#33260f"),
    "bad": ("#b42318", "#fda29b"),
    "bad-soft": ("#fdecea", "#3b1f1e"),
    "bad-edge": ("#cf6a5f", "#b8625a"),
    "series-1": ("#0d857a", "#22b5a5"),
    "series-2": ("#c2570c", "#ea7c34"),
    "series-3": ("#6d5bd0", "#9385e6"),
    "series-4": ("#9a6412", "#cf9a3a"),
    "series-5": ("#2b6cb0", "#5b9bdc"),
    "series-6": ("#b83280", "#e06cae"),
    "series-7": ("#687580", "#8c99a4"),
}
# Vega draws with one set of colours in light and in dark.
SERIES_COLORS = {"training": "#0d9488", "validation": "#ea580c", "macro F1": "#7c6ae0"}
# Japanese letters come from the reader's system: on a Mac, elsewhere, on Windows.
JAPANESE_FONTS = ("Hiragino Sans", "Noto Sans JP", "Noto Sans CJK JP", "Yu Gothic", "Meiryo")


def theme() -> gr.themes.Base:
    """The Base theme with a teal accent on cool greys.

    Weight 600 is left out of the fonts: the files that Gradio ships of it lack most letters.
    """
    sans = gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700))
    mono = gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700))
    base = gr.themes.Base(
        primary_hue=colors.teal,
        secondary_hue=colors.teal,
        neutral_hue=colors.slate,
        text_size=sizes.text_md,
        radius_size=sizes.radius_md,
        font=(sans, *JAPANESE_FONTS, "ui-sans-serif", "system-ui", "sans-serif"),
        font_mono=(mono, *JAPANESE_FONTS, "ui-monospace", "monospace"),
    )
    return base.set(
        **_in_roles(
            body_background_fill="page",
            body_text_color="text",
            body_text_color_subdued="sub",
            background_fill_primary="card",
            background_fill_secondary="soft",
            block_background_fill="card",
            block_label_text_color="strong",
            block_title_text_color="strong",
            block_info_text_color="sub",
            border_color_primary="line",
            border_color_accent="accent",
            color_accent_soft="accent-soft",
            link_text_color="link",
            link_text_color_active="link",
            link_text_color_hover="link",
            link_text_color_visited="link",
            input_background_fill="card",
            input_background_fill_focus="card",
            input_border_color="edge",
            input_border_color_focus="accent",
            input_placeholder_color="hint",
            button_primary_background_fill="press",
            button_primary_background_fill_hover="press-over",
            button_primary_text_color="on-press",
            button_primary_text_color_hover="on-press",
            button_secondary_background_fill="button",
            button_secondary_background_fill_hover="button-over",
            button_secondary_text_color="strong",
            button_secondary_text_color_hover="strong",
            button_secondary_border_color="edge",
            button_cancel_background_fill="button",
            button_cancel_background_fill_hover="bad-soft",
            button_cancel_text_color="bad",
            button_cancel_text_color_hover="bad",
            button_cancel_border_color="bad-edge",
            checkbox_background_color="card",
            checkbox_background_color_focus="card",
            checkbox_background_color_hover="card",
            checkbox_background_color_selected="press",
            checkbox_border_color="edge",
            checkbox_border_color_selected="press",
            checkbox_label_background_fill="card",
            checkbox_label_background_fill_hover="button-over",
            checkbox_label_background_fill_selected="accent-soft",
            checkbox_label_text_color="strong",
            checkbox_label_text_color_selected="strong",
            checkbox_label_border_color="edge",
            slider_color="accent",
            accordion_text_color="strong",
            error_background_fill="bad-soft",
            error_text_color="bad",
            error_border_color="bad-edge",
            table_text_color="text",
            table_border_color="line",
            code_background_fill="soft",
        ),
        color_accent=COLORS["accent"][0],
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_weight="600",
        block_label_text_size="14px",
        block_title_text_weight="600",
        block_title_text_size="14px",
        block_info_text_size="12.5px",
        panel_border_width="0px",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_focus="none",
        button_border_width="1px",
        button_primary_border_color="transparent",
        button_primary_border_color_dark="transparent",
        button_large_text_weight="600",
        button_transition="background-color 120ms",
        checkbox_label_border_width="1px",
        checkbox_label_padding="7px 12px",
        layout_gap="16px",
        form_gap_width="0px",
    )


def variables() -> str:
    """The colours for the style sheets: `--pt-<role>`, in light and in dark."""

    def rule(selector: str, place: int, more: str = "") -> str:
        body = "".join(f"--pt-{role}:{shades[place]};" for role, shades in COLORS.items())
        return f"{selector}{{{body}{more}}}"

    # Gradio's theme has no dark value for its accent.
    return rule(":root", 0) + rule(".dark", 1, f"--color-accent:{COLORS['accent'][1]};")


def _in_roles(**properties: str) -> dict[str, Any]:
    """Properties of Gradio's theme and their counterparts in dark, from the roles of their colours."""
    light = {name: COLORS[role][0] for name, role in properties.items()}
    return light | {f"{name}_dark": COLORS[role][1] for name, role in properties.items()}
