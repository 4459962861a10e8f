"""The page in a real browser: pictures, boxes, maps, mistakes, and nothing that leaves this machine."""

import re
import shutil
import signal
import socket
import urllib.error
import urllib.request

import pytest
from PIL import Image

from dualvit.app.examples import FACES

pytest.importorskip("ultralytics", reason="needs dualvit[yolo]")
gradio = pytest.importorskip("gradio", reason="needs dualvit[app]")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.slow  # the page's process imports all libraries, and then Chromium starts
LOCAL = ("http://127.0.0.1:", "data:", "blob:")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_gradio_is_the_sixth():
    assert int(gradio.__version__.split(".")[0]) >= 6


@pytest.fixture(scope="module")
def app(checkpoints, command):
    port = free_port()
    app = command(checkpoints / "detect.safetensors", checkpoints, "--port", port)
    assert app.process.poll() is None, app.err.read_text()
    app.port, app.url = port, f"http://127.0.0.1:{port}/"
    return app


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs Chromium, such as Debian's package of this name")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root may not have one
        yield browser
        browser.close()


@pytest.fixture
def page(app, browser):
    """The page, and at the end: no request has left this machine, and no script and no answer was an error."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(90_000)
    requests, errors = [], []

    def answered(response):  # Gradio gives up on the progress of an upload that was quick
        if response.status >= 400 and "/upload_progress?" not in response.url:
            errors.append(f"{response.status} {response.url}")

    page.on("request", lambda request: requests.append(request.url))
    page.on("response", answered)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(app.url)
    page.locator("#drop").wait_for()
    yield page
    page.close()
    assert [url for url in requests if not url.startswith(LOCAL)] == []
    assert len(requests) > 10
    assert errors == []
    assert "left this machine" not in app.err.read_text()


def upload(page, *files):
    page.locator("#drop input[type=file]").set_input_files([str(file) for file in files])


def choose(page, label, option):
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def status(page, words):
    page.locator("#status", has_text=words).wait_for()
    return page.locator("#status").inner_text()


def source(page, name):
    return page.locator(f"#{name} img").get_attribute("src")


def when_new(page, name, before):
    """The address of a picture, once it is another one than before."""
    page.wait_for_function(
        "([name, before]) => { const img = document.querySelector(`#${name} img`); return img && img.src !== before }",
        arg=[name, before],
    )
    return page.locator(f"#{name} img").evaluate("image => image.src")


def click(page, side, x, y):
    """Click at a share of the width and of the height of what a model found."""
    image = page.locator(f"#found-{side} img")
    box = image.bounding_box()
    image.click(position={"x": x * box["width"], "y": y * box["height"]})


def test_a_box_that_is_clicked_is_explained(page, drawn):
    choose(page, "Image size in pixels", "192")
    assert "Choose a picture first" in status(page, "Choose a picture first")
    upload(page, drawn)
    rows = page.locator("#rows-0 label")
    rows.nth(4).wait_for()
    assert rows.count() == 5 and all(re.fullmatch(r"smiley +0[.]\d\d", text) for text in rows.all_inner_texts())
    sources = [when_new(page, "map-0", "")]
    assert "relevance, 25 passes in " in page.locator(".title", has_text="Looked at for smiley").inner_text()
    chosen = []
    for x, y, _ in FACES[0][1][:2]:
        click(page, 0, x, y)
        sources.append(when_new(page, "map-0", sources[-1]))
        chosen.append(page.locator("#rows-0 label:has(input:checked)").inner_text())
    assert len(set(chosen)) == 2 and len(set(sources)) == 3
    click(page, 0, 0.02, 0.02)
    assert "no box at this place" in status(page, "no box")
    rows.nth(0).click()
    sources.append(when_new(page, "map-0", sources[-1]))
    choose(page, "Beside it", "masks.safetensors")
    page.locator("#map-1 img").wait_for()
    assert (
        page.locator(".model:visible span", has_text=re.compile(r"5 boxes · \d+ ms · sees 192 x 192 px")).count() == 2
    )
    number = page.get_by_label("number input for Confidence from")
    number.fill("0.94")
    number.blur()
    rows.nth(1).wait_for(state="detached")
    assert rows.count() == 1


def test_mistakes_are_one_line_and_the_next_picture_works(page, app, checkpoints, drawn, tmp_path):
    (tmp_path / "broken.png").write_bytes(drawn.read_bytes()[:500])
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    (tmp_path / "words.jpg").write_text("no picture")
    upload(page, *(tmp_path / name for name in ("broken.png", "bomb.png", "words.jpg")))
    lines = status(page, "words.jpg").splitlines()
    assert len(lines) == 3
    assert "400000000 pixels" in lines[1] and "150000000" in lines[1]
    assert not any(str(app.folder) in line for line in lines)
    assert page.locator("#found-0 img").count() == 0
    choose(page, "Model", "classify.safetensors")
    upload(page, drawn)
    page.locator("#map-0 img").wait_for()
    assert "5 likeliest classes" in page.locator(".model:visible").inner_text()
    assert page.locator("#rows-0 label").count() == 5
    page.locator("#strip button").nth(1).click()  # one of the package's own
    page.locator("#status p").wait_for(state="detached")
    assert "Traceback" not in app.err.read_text()


def test_no_file_is_given_out(app, checkpoints):
    for file in ("/etc/hostname", checkpoints / "detect.safetensors", app.err):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{app.url}gradio_api/file={file}")
        assert refused.value.code in (403, 404)


def test_an_interrupt_ends_it_and_leaves_nothing(page, app, drawn):
    assert list(app.folder.glob("dualvit-app-*"))
    upload(page, drawn)
    page.locator("#rows-0 label").nth(4).wait_for()
    choose(page, "Explained by", "drise, 1000 passes")  # which would hold it for minutes
    page.wait_for_timeout(1500)
    app.process.send_signal(signal.SIGINT)
    assert app.process.wait(30) == 130
    lines = app.out.read_text().splitlines()
    assert (lines[0], lines[-1]) == (f"{app.url}  (Ctrl-C ends it)", "stopped")
    said = app.err.read_text().splitlines()  # a busy machine is told what it waits for
    assert [line for line in said if not line.startswith("importing libraries: ")] == []
    assert not list(app.folder.glob("dualvit-app-*"))
