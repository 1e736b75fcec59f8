"""Contrast of every colour that stands on another, by the definition of WCAG 2.2, in light and in dark."""

from __future__ import annotations

import re

import pytest

from phi3tune.ui.pictures import PICTURES, picture
from phi3tune.ui.render import empty
from phi3tune.ui.theme import COLORS, CSS_FILES, SERIES_COLORS, theme, variables
from tests.ui.contrast_table import DRAWN, SHAPE, TEXT, WRITTEN, contrast, contrasts

PLACES = {"light": 0, "dark": 1}


def mixed(color: str, ground: str, share: float) -> str:
    """`color-mix(in srgb, ...)` of a share of one colour over another."""
    pairs = ((int(color[at : at + 2], 16), int(ground[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(over * share + under * (1 - share)):02x}" for over, under in pairs)


def test_the_definition_of_contrast() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)  # the best known grey that just fails


@pytest.mark.parametrize("scheme", PLACES)
@pytest.mark.parametrize(("pairs", "least"), [(WRITTEN, TEXT), (DRAWN, SHAPE)])
def test_every_pair_has_the_contrast_of_wcag_aa(scheme: str, pairs: list[tuple[str, str]], least: float) -> None:
    weak = {pair: round(contrasts(pair)[PLACES[scheme]], 2) for pair in pairs}
    assert {pair: found for pair, found in weak.items() if found < least} == {}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_curves_and_shades_of_tokens(place: int) -> None:
    card, text = COLORS["card"][place], COLORS["text"][place]
    assert all(contrast(color, card) >= SHAPE for color in SERIES_COLORS.values())
    # The strongest shades of parts.css: a costly token, a full cell of a confusion matrix.
    assert contrast(text, mixed(COLORS["bad"][place], card, 0.45)) >= TEXT
    assert contrast(text, mixed(COLORS["accent"][place], card, 0.35)) >= TEXT


def test_every_colour_of_gradios_theme_that_text_stands_on_is_one_of_ours() -> None:
    ours = {shade for pair in COLORS.values() for shade in pair}
    given = theme()
    for name in ("body", "button_primary", "button_secondary", "button_cancel", "input_placeholder", "link", "error"):
        for suffix in ("", "_dark"):
            assert (
                getattr(given, f"{name}_text_color{suffix}" if name != "input_placeholder" else f"{name}_color{suffix}")
                in ours
            )
    assert "googleapis" not in given._get_theme_css()  # type: ignore[no-untyped-call]


def test_style_sheets_take_their_colours_from_the_theme_and_nothing_from_elsewhere() -> None:
    sheets = {file.name: file.read_text(encoding="utf-8") for file in CSS_FILES}
    defined = set(re.findall(r"--pt-[\w-]+(?=:)", variables() + "".join(sheets.values())))
    for name, sheet in sheets.items():
        assert len(sheet.splitlines()) <= 400, name
        assert re.findall(r"#[0-9a-fA-F]{3,8}(?=[;\s])", sheet) == [], name
        assert "url(" not in sheet and "@import" not in sheet, name
        assert set(re.findall(r"var\((--pt-[\w-]+)", sheet)) <= defined, name


@pytest.mark.parametrize("name", PICTURES)
def test_an_empty_place_has_a_picture_that_screen_readers_skip(name: str) -> None:
    drawn = picture(name)
    assert 'aria-hidden="true"' in drawn and "currentColor" in drawn and "http" not in drawn
    assert drawn in empty("Nothing <here> yet", picture=name)
    assert "Nothing &lt;here&gt; yet" in empty("Nothing <here> yet", picture=name)
