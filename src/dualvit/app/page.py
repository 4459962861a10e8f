"""The page: what stands where, and which event asks the desk for what."""

import html
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from dualvit.app.album import Picture
from dualvit.app.desk import USUAL, Desk, Wanted, counted, guarded
from dualvit.app.offer import Offer
from dualvit.app.seen import CLASSES, Models, Seen
from dualvit.data.images import SUFFIXES
from dualvit.explain.methods import METHODS
from dualvit.explain.show import OPACITY
from dualvit.explain.subject import CONFIDENCE

AS_TRAINED = "as trained"
SIZES = (96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 800, 960, 1280)
ALONE = "none"
KEPT = 4 * 3600  # seconds until uploaded and drawn pictures are deleted
SIDES = (0, 1)
PARTS = ("column", "about", "hint", "found", "rows")  # of a model, that change with what it found
HELLO = "<div id='hello'><b>Choose a picture</b>Drop your own, or click one of those that are here already.</div>"


class Page:
    """The parts of the page, and what happens when they are used.

    Args:
        offer: What the command line allows.
        pictures: That stand ready.
        notes: Lines to begin with.
    """

    def __init__(self, offer: Offer, models: Models, pictures: Sequence[Picture], notes: Sequence[str] = ()) -> None:
        self.offer, self.models, self.pictures, self.notes = offer, models, tuple(pictures), tuple(notes)

    def build(self) -> Any:
        """Return the page, not yet served."""
        options: dict[str, Any] = {
            "analytics_enabled": False,
            "title": "dualvit",
            "delete_cache": (600, KEPT),
            "fill_width": True,
        }
        with gr.Blocks(**options) as page:
            self.desk = gr.State(Desk(list(self.pictures)))
            gr.HTML(
                "<div id='top'><h1>dualvit</h1><p>What a model finds, and what it looked at</p></div>",
                elem_classes="plain",
            )
            with gr.Row(elem_id="desk"):
                with gr.Column(elem_id="side", scale=0):
                    self._pictures()
                    self._settings()
                with gr.Column(elem_id="main", scale=4):
                    self.status = gr.HTML(_line(self.notes), elem_id="status", elem_classes="plain")
                    self.hello = gr.HTML(HELLO, elem_classes="plain")
                    with gr.Row(equal_height=False):
                        self.parts = [self._panel(side) for side in SIDES]
            self._wire()
        page.queue(max_size=30)
        return page

    def _pictures(self) -> None:
        self.drop = gr.File(
            file_count="multiple", file_types=sorted(SUFFIXES), label="Your pictures", show_label=False, elem_id="drop",
            height=84,
        )  # fmt: skip
        self.strip = gr.Gallery(
            _thumbnails(self.pictures), label="Pictures", show_label=False, columns=4, allow_preview=False,
            object_fit="cover", elem_id="strip", buttons=[], interactive=False, container=False,
        )  # fmt: skip

    def _settings(self) -> None:
        names = list(self.offer.models)
        second = names[1] if self.offer.named > 1 else ALONE
        methods = [("what suits the model", USUAL), *((_method(name), name) for name in METHODS)]
        with gr.Column(elem_id="settings"):
            self.first = gr.Dropdown(names, value=names[0], label="Model")
            self.second = gr.Dropdown([ALONE, *names], value=second, label="Beside it")
            self.method = gr.Dropdown(methods, value=USUAL, label="Explained by")
            self.confidence = gr.Slider(0.01, 0.95, CONFIDENCE, step=0.01, label="Confidence from")
            self.opacity = gr.Slider(0, 1, OPACITY, step=0.05, label="Opacity of the map")
            sizes = [AS_TRAINED, *map(str, SIZES)]
            self.image_size = gr.Dropdown(
                sizes, value=str(self.offer.image_size or AS_TRAINED), label="Image size in pixels"
            )

    def _panel(self, side: int) -> dict[str, Any]:
        with gr.Column(visible=False, min_width=340, elem_classes="panel") as column:
            about = gr.HTML(elem_classes="plain")
            with gr.Row(elem_classes="pair", equal_height=False):
                with gr.Column():
                    hint = gr.HTML(elem_classes="plain")
                    found = _image(f"found-{side}", "What the model found")
                with gr.Column():
                    title = gr.HTML(elem_classes="plain")
                    seen = _image(f"map-{side}", "What the model looked at")
            rows = gr.Radio([], label="Or choose it here", elem_id=f"rows-{side}", elem_classes="rows", visible=False)
        return {
            "column": column,
            "about": about,
            "hint": hint,
            "found": found,
            "title": title,
            "map": seen,
            "rows": rows,
        }

    def _wire(self) -> None:
        settings = [self.first, self.second, self.confidence, self.image_size]
        drawn = [
            self.status,
            self.hello,
            *(part[name] for part in self.parts for name in PARTS),
        ]
        maps = [part[name] for part in self.parts for name in ("title", "map")]

        def on(
            event: Any, fn: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], then: bool = True
        ) -> None:
            common: dict[str, Any] = {
                "concurrency_id": "models", "concurrency_limit": 1, "api_visibility": "private",
                "show_progress": "minimal",
            }  # fmt: skip
            done = event(
                fn,
                [self.desk, *inputs],
                list(outputs),
                show_progress_on=[part["found"] for part in self.parts],
                **common,
            )
            if then:
                done.then(self.explain, [self.desk, self.method, self.opacity], maps, **common)

        on(self.drop.upload, self.upload, [self.drop, *settings], [self.drop, self.strip, *drawn])
        on(self.strip.select, self.choose, settings, drawn)
        for setting in (self.first, self.second, self.image_size):
            on(setting.input, self.look, settings, drawn)
        on(self.confidence.release, self.require, [self.confidence], drawn)
        on(self.method.input, self.explain, [self.method, self.opacity], maps, then=False)
        on(self.opacity.release, self.explain, [self.method, self.opacity], maps, then=False)
        for side, part in enumerate(self.parts):
            on(part["found"].select, self.point, [], drawn)
            on(part["rows"].input, (self.pick_first, self.pick_second)[side], [part["rows"]], drawn)

    def upload(self, desk: Desk, files: list[str] | None, *settings: Any) -> list[Any]:
        """Take what was dropped, and let the models look at the first picture of it."""
        before = desk.chosen
        lines = desk.add([Path(file) for file in files or ()])
        shown = self.look(desk, *settings) if desk.chosen is not before else _same()
        if lines:
            shown[0] = _line(lines)
        return [None, _thumbnails(desk.pictures), *shown]

    def choose(
        self, desk: Desk, first: str, second: str, confidence: float, size: str, event: gr.SelectData
    ) -> list[Any]:
        """Open the picture whose thumbnail was chosen."""
        if problem := guarded(lambda: desk.open(int(event.index))):
            return self.draw(desk, problem)
        return self.look(desk, first, second, confidence, size)

    def look(self, desk: Desk, first: str, second: str, confidence: float, size: str) -> list[Any]:
        """Let the models look."""
        names = (first, "" if second == ALONE else second)
        line = desk.look(self.models, Wanted(names, confidence, None if size == AS_TRAINED else int(size)))
        return self.draw(desk, line)

    def require(self, desk: Desk, confidence: float) -> list[Any]:
        """Show the boxes that are sure enough."""
        desk.require(confidence)
        return self.draw(desk, "")

    def point(self, desk: Desk, event: gr.SelectData) -> list[Any]:
        """Choose the box that was clicked."""
        x, y = event.index
        return self.draw(desk, desk.point(x, y))

    def pick_first(self, desk: Desk, index: int) -> list[Any]:
        """Choose a row of the first model's list."""
        desk.pick(0, index)
        return self.draw(desk, "")

    def pick_second(self, desk: Desk, index: int) -> list[Any]:
        """Choose a row of the second model's list."""
        desk.pick(1, index)
        return self.draw(desk, "")

    def draw(self, desk: Desk, line: str) -> list[Any]:
        """Return the status line and, for each model, what it found."""
        updates: list[Any] = [_line([line] if line else []), gr.update(visible=desk.chosen is None)]
        for side, panel in enumerate(desk.panels):
            seen = panel.seen
            rows = (
                [(f"{found.name}  {found.score:.2f}", index) for index, found in enumerate(seen.found)] if seen else []
            )
            updates += [
                gr.update(visible=bool(panel.name) and desk.decoded is not None),
                _model(panel.name, _about(panel), panel.problem),
                _words(_hint(seen)) if seen else "",
                gr.update(value=desk.picture(side), visible=seen is not None),
                gr.update(choices=rows, value=seen.chosen if seen else None, visible=bool(rows)),
            ]
        return updates

    def explain(self, desk: Desk, method: str, opacity: float) -> Iterator[list[Any]]:
        """Yield a title and a map for each model: first what is about to be computed, then what it is."""
        ahead = [desk.ahead(side, method) for side in SIDES]
        if any(ahead):
            yield [part for words in ahead for part in (_words(words, busy=True) if words else gr.skip(), gr.skip())]
        updates: list[Any] = []
        for side in SIDES:
            picture, words = desk.map(side, method, opacity)
            updates += [_words(words), gr.update(value=picture, visible=picture is not None)]
        yield updates


def _image(name: str, alt: str) -> Any:
    return gr.Image(
        format="webp", interactive=False, show_label=False, container=False, elem_id=name, elem_classes="picture",
        buttons=["fullscreen", "download"], alt_text=alt,
    )  # fmt: skip


def _same() -> list[Any]:
    return [gr.skip() for _ in range(2 + len(PARTS) * len(SIDES))]


def _thumbnails(pictures: Sequence[Picture]) -> list[Any]:
    return [picture.thumbnail for picture in pictures]


def _method(name: str) -> str:
    passes = METHODS[name].passes
    return f"{name}, {counted(passes)}" if isinstance(passes, int) else name


def _words(text: str, busy: bool = False) -> str:
    return f"<div class='title{' busy' * busy}'>{html.escape(text)}</div>"


def _hint(seen: Seen) -> str:
    if not seen.subject.detects:
        return "The picture: choose a class below"
    return "What it found: click a box" if seen.found else f"Nothing; its surest box has {seen.surest:.3f}"


def _line(lines: Sequence[str]) -> str:
    text = html.escape("\n".join(lines))
    return f"<div role='status' aria-live='polite'>{f'<p class=warn>{text}</p>' if text else ''}</div>"


def _about(panel: Any) -> str:
    if panel.seen is None:
        return ""
    seen, size = panel.seen, panel.seen.view.images.shape
    count = f"{len(seen.found)} box{'es' if len(seen.found) != 1 else ''}"
    what = count if seen.subject.detects else f"the {min(CLASSES, len(seen.subject.classes))} likeliest classes"
    return f"{what} · {seen.milliseconds:.0f} ms · sees {size[3]} x {size[2]} px"


def _model(name: str, about: str, problem: str = "") -> str:
    words = f"<b>{html.escape(name)}</b><span>{html.escape(about)}</span>" if name else ""
    extra = f"<span class='problem'>{html.escape(problem)}</span>" if problem else ""
    return f"<div class='model'>{words}{extra}</div>"
