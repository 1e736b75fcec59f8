"""Colours, type and spacing of the page, in light and in dark.

Every text colour keeps a contrast of at least 4.5 to its background. The fonts ship with Gradio, so
the page asks no other host for anything.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

CSS_FILE = Path(__file__).with_name("page.css")

ACCENT = "#0f766e"
SERIES_COLORS = {"training": "#0d9488", "validation": "#ea580c", "macro F1": "#6d5bd0"}


def theme() -> gr.themes.Base:
    """The Base theme with a teal accent on cool greys.

    Weight 600 is left out of the fonts: the files that Gradio ships of it lack most letters.
    """
    base = gr.themes.Base(
        primary_hue=colors.teal,
        secondary_hue=colors.teal,
        neutral_hue=colors.slate,
        text_size=sizes.text_md,
        radius_size=sizes.radius_md,
        font=(gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
    )
    return base.set(
        body_background_fill="#f4f6f7",
        body_background_fill_dark="#0f1416",
        body_text_color="#17202a",
        body_text_color_dark="#e6ebee",
        body_text_color_subdued="#51606d",
        body_text_color_subdued_dark="#a5b3bd",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#171d21",
        background_fill_secondary="#f4f6f7",
        background_fill_secondary_dark="#11171a",
        block_background_fill="#ffffff",
        block_background_fill_dark="#171d21",
        block_border_width="0px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="#33414d",
        block_label_text_color_dark="#c8d2d9",
        block_label_text_weight="600",
        block_title_text_color="#22303b",
        block_title_text_color_dark="#dbe3e8",
        block_title_text_weight="600",
        block_title_text_size="14px",
        block_info_text_color="#51606d",
        block_info_text_color_dark="#a5b3bd",
        block_info_text_size="12.5px",
        block_padding="0px",
        panel_border_width="0px",
        border_color_primary="#d8dfe4",
        border_color_primary_dark="#2c363c",
        border_color_accent="#0f766e",
        border_color_accent_dark="#2dd4bf",
        color_accent="#0f766e",
        color_accent_soft="#d9f2ee",
        color_accent_soft_dark="#143b38",
        link_text_color="#0f766e",
        link_text_color_dark="#5eead4",
        input_background_fill="#ffffff",
        input_background_fill_dark="#11171a",
        input_border_color="#c3ccd3",
        input_border_color_dark="#3a464d",
        input_border_width="1px",
        input_border_color_focus="#0f766e",
        input_border_color_focus_dark="#2dd4bf",
        input_placeholder_color="#66737f",
        input_placeholder_color_dark="#93a1ab",
        input_shadow="none",
        input_shadow_focus="0 0 0 3px #0f766e2e",
        input_shadow_focus_dark="0 0 0 3px #2dd4bf2e",
        button_primary_background_fill=ACCENT,
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark=ACCENT,
        button_primary_background_fill_hover_dark="#0d9488",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#eef2f4",
        button_secondary_background_fill_dark="#222b30",
        button_secondary_background_fill_hover_dark="#2c373d",
        button_secondary_text_color="#22303b",
        button_secondary_text_color_dark="#e6ebee",
        button_secondary_border_color="#c3ccd3",
        button_secondary_border_color_dark="#3a464d",
        button_border_width="1px",
        button_primary_border_color="transparent",
        button_primary_border_color_dark="transparent",
        button_cancel_background_fill="#ffffff",
        button_cancel_background_fill_hover="#fdecea",
        button_cancel_background_fill_dark="#222b30",
        button_cancel_background_fill_hover_dark="#3b2324",
        button_cancel_text_color="#b42318",
        button_cancel_text_color_dark="#fda29b",
        button_cancel_text_color_hover="#b42318",
        button_cancel_text_color_hover_dark="#fda29b",
        button_cancel_border_color="#e6b8b3",
        button_cancel_border_color_dark="#7a3b37",
        button_large_text_weight="600",
        button_transition="background-color 120ms",
        checkbox_background_color_selected=ACCENT,
        checkbox_background_color_selected_dark=ACCENT,
        checkbox_border_color_selected=ACCENT,
        checkbox_border_color_selected_dark=ACCENT,
        checkbox_label_background_fill="#ffffff",
        checkbox_label_background_fill_dark="#11171a",
        checkbox_label_background_fill_selected="#d9f2ee",
        checkbox_label_background_fill_selected_dark="#143b38",
        checkbox_label_border_width="1px",
        checkbox_label_border_color="#c3ccd3",
        checkbox_label_border_color_dark="#3a464d",
        checkbox_label_padding="7px 12px",
        slider_color=ACCENT,
        slider_color_dark="#2dd4bf",
        accordion_text_color="#22303b",
        accordion_text_color_dark="#dbe3e8",
        layout_gap="16px",
        form_gap_width="0px",
        block_label_text_size="14px",
    )
