"""How the page looks: the package's palette, the fonts of the machine that shows it, light and dark."""

from typing import Any

import gradio as gr

from dualvit.pictures.palette import INK, LINE, PAPER, SERIES, SOFT, rgb

FONTS = ("system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif")  # of the reader's machine: none is fetched
CODE = ("ui-monospace", "DejaVu Sans Mono", "monospace")
STEPS = (50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 950)
NIGHT, DUSK = "#12161d", "#1b212b"  # the page and its cards in the dark


def between(colour: str, other: str, share: float) -> str:
    """Return a colour between two of the palette.

    Example:
        >>> between("#000000", "#ffffff", 0.5)
        '#808080'
    """
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(rgb(colour), rgb(other), strict=True))


def hue(colour: str, name: str) -> Any:
    """Return a colour in eleven steps from near white to near ink, as Gradio's themes take it."""
    light = [between(colour, PAPER, share) for share in (0.94, 0.86, 0.7, 0.5, 0.25)]
    dark = [between(colour, INK, share) for share in (0.0, 0.15, 0.35, 0.5, 0.65, 0.8)]
    return gr.themes.Color(name, *light, *dark)


def theme() -> Any:
    """Return the theme of the page."""
    greys = gr.themes.Color(
        "greys", "#f7f9fb", "#eef1f5", LINE, "#c6cdd6", "#98a2b0", SOFT, "#4a5564", "#38424f", "#2a323d", DUSK, NIGHT
    )
    base = gr.themes.Base(
        primary_hue=hue(SERIES[0], "blue"), secondary_hue=hue(SERIES[0], "blue"), neutral_hue=greys, font=FONTS,
        font_mono=CODE, radius_size="md", spacing_size="md", text_size="md",
    )  # fmt: skip
    return base.set(
        body_background_fill=greys.c50,
        body_background_fill_dark=NIGHT,
        body_text_color=INK,
        body_text_color_subdued=SOFT,
        body_text_color_subdued_dark="#98a2b0",
        block_background_fill=PAPER,
        block_background_fill_dark=DUSK,
        block_border_color=LINE,
        block_border_color_dark="#2a323d",
        block_label_text_color=SOFT,
        block_title_text_color=SOFT,
        block_title_text_color_dark="#98a2b0",
        block_title_text_weight="500",
        background_fill_primary_dark=DUSK,
        background_fill_secondary_dark=NIGHT,
        border_color_primary_dark="#2a323d",
        input_background_fill=PAPER,
        input_border_color=LINE,
        input_border_color_dark="#2a323d",
        input_border_width="1px",
        input_background_fill_dark=NIGHT,
        block_shadow="none",
        checkbox_label_background_fill_dark=NIGHT,
        checkbox_label_background_fill_hover_dark="#2a323d",
        checkbox_label_text_color_dark="#d8dee6",
    )


CSS = """
.gradio-container { max-width: none !important; width: 100%; }
.gradio-container > .main { padding: 14px 24px 32px !important; max-width: 1560px !important; margin: 0 auto; }
#top { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 14px; }
#top h1 { font-size: 1.4rem; font-weight: 700; margin: 0; letter-spacing: -0.01em; }
#top p { margin: 0; color: var(--body-text-color-subdued); }
.plain .html-container { padding: 0 !important; }
#desk { gap: 18px; flex-wrap: nowrap; }
#side { flex: 0 0 286px !important; min-width: 0 !important; gap: 12px; }
#main { flex: 1 1 0 !important; min-width: 0 !important; gap: 10px; }
#drop .upload-container { height: 84px; min-height: 84px; }
#drop .wrap { font-size: 0; gap: 4px; color: transparent; min-height: 0; padding: 0; justify-content: center; }
#drop .wrap .or { display: none; }
#drop .wrap::after { content: "Drop pictures here, or click"; font-size: 0.95rem; color: var(--body-text-color); }
#drop .icon-wrap { color: var(--primary-500); }
#strip { min-height: 0 !important; height: auto !important; }
#strip .grid-wrap { min-height: 0 !important; height: auto !important; max-height: 216px; padding: 0; }
#strip .grid-container { grid-template-columns: repeat(4, 1fr) !important; grid-auto-rows: auto !important; gap: 6px;
  width: auto; }
#strip .gallery-item { width: 100%; height: auto; }
#strip .thumbnail-item { width: 100% !important; height: auto !important; aspect-ratio: 1; }
#status p { margin: 0; padding: 9px 14px; border-radius: 8px; border: 1px solid var(--border-color-primary);
  border-left: 4px solid #e69f00; background: var(--block-background-fill); white-space: pre-line;
  overflow-wrap: anywhere; }
#hello { display: grid; place-content: center; width: 100%; text-align: center; min-height: 320px; padding: 24px;
  gap: 6px; border: 1px dashed var(--border-color-primary); border-radius: 10px;
  color: var(--body-text-color-subdued); }
#hello b { font-size: 1.1rem; color: var(--body-text-color); }
.model { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 12px; overflow-wrap: anywhere; }
.model b { font-size: 1.05rem; }
.model span { color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.model .problem { flex-basis: 100%; padding: 8px 12px; margin-top: 4px; border-radius: 8px;
  color: var(--body-text-color); border: 1px solid var(--border-color-primary); border-left: 4px solid #d55e00; }
.title { color: var(--body-text-color-subdued); font-size: 0.9rem; }
.panel { gap: 8px !important; }
.pair { gap: 12px !important; }
.pair > .column { gap: 3px !important; min-width: min(100%, 300px) !important; }
#settings input[role="listbox"] { text-overflow: ellipsis; max-width: calc(100% - 30px); }
.picture { border-radius: 8px; overflow: hidden; }
.picture img { width: 100%; max-height: 76vh; object-fit: contain; }
.pair > .column:has(.busy) .picture { visibility: hidden; }
@media (hover: hover) {
  .picture .icon-button-wrapper { opacity: 0; transition: opacity 0.15s; }
  .picture:hover .icon-button-wrapper, .picture:focus-within .icon-button-wrapper { opacity: 1; }
}
#found-0 img, #found-1 img { cursor: pointer; }
.dark input[type="range"] { --neutral-200: #38424f; }
.rows { padding: 8px 10px !important; }
.rows .wrap { max-height: 172px; overflow-y: auto; gap: 5px; }
.rows label { padding: 2px 9px !important; font-variant-numeric: tabular-nums; }
@media (max-width: 768px) {
  .gradio-container > .main { padding: 10px 12px 24px !important; }
  #desk { flex-direction: column; }
  #side { display: contents !important; }
  #settings { order: 3; }
  #main { order: 2; width: 100%; flex: none !important; }
  #strip .grid-container { grid-template-columns: repeat(6, 1fr) !important; }
}
"""
