"""The page at ``/``, in a browser: Debian's Chromium."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.gateway.conftest import Running, running
from tools.private_broker import PrivateBroker

FILES = Path(__file__).parents[2] / "stablediffusiond/gateway/page"
TOKEN = "a" * 16


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "chromium is not installed; run: sudo apt-get install chromium"
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Fails the test for what the browser complains of: a script that fails, or what the page's policy forbids."""
    complaints: list[str] = []
    with browser.new_context(viewport={"width": 1200, "height": 800}) as context:
        made = context.new_page()
        made.set_default_timeout(20_000)
        made.on("pageerror", lambda error: complaints.append(str(error)))
        made.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
        yield made
    assert complaints == []


@pytest.fixture
def opened(page: Page, served: Running) -> Page:
    page.goto(served.address)
    expect(page.locator("#service")).to_contain_text("drawing")
    return page


def ask(page: Page, prompt: str, **fields: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    for name, value in {"steps": "10", "width": "64", "height": "64", **fields}.items():
        page.locator(f"[name={name}]").fill(value)


def test_a_picture_is_drawn_with_the_keyboard(opened: Page) -> None:
    ask(opened, "a red cat", seed="42")
    opened.get_by_label("LoRA").select_option("ink")
    assert opened.get_by_label("Prompt", exact=True).input_value() == "a red cat <lora:ink:0.8> y, z"
    ask(opened, "a red cat", seed="42", steps="100")
    opened.keyboard.press("Control+Enter")
    card = opened.locator(".card", has_text="a red cat").first
    expect(card.locator("img.preview")).to_be_visible()
    picture = card.locator("a[href] img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    expect(card.locator(".state")).to_contain_text(" s")
    card.get_by_text("Facts").click()
    expect(card.locator("dl")).to_contain_text("42")


def test_one_is_cancelled_and_deleted(opened: Page) -> None:
    ask(opened, "a slow cat", steps="150")
    opened.get_by_role("button", name="Draw", exact=False).first.click()
    card = opened.locator(".card", has_text="a slow cat")
    card.get_by_role("button", name="Cancel").click()
    expect(card.locator(".bar.failed")).to_contain_text("cancelled")
    card.get_by_role("button", name="Delete").click()
    expect(opened.locator(".card", has_text="a slow cat")).to_have_count(0)


def test_a_mask_is_painted_on_an_image(opened: Page, served: Running) -> None:
    red = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(red, "PNG")
    opened.locator("#image input").set_input_files(
        {"name": "red.png", "mimeType": "image/png", "buffer": red.getvalue()}
    )
    canvas = opened.locator("#painting canvas")
    expect(canvas).to_have_js_property("width", 64)
    opened.locator("#brush").fill("100")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    opened.mouse.move(box["x"] + 20, box["y"] + 20)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 60, box["y"] + 20)
    opened.mouse.up()
    ask(opened, "a blue cat")
    opened.keyboard.press("Control+Enter")
    link = opened.locator(".card", has_text="a blue cat").locator("a[href]")
    expect(link).to_be_visible()
    drawn = Image.open(io.BytesIO(served.client.get(str(link.get_attribute("href"))).content))
    assert drawn.getpixel((63, 63)) == (255, 0, 0)
    assert drawn.getpixel((6, 4)) != (255, 0, 0)
    opened.get_by_role("button", name="Take the image away").click()
    expect(opened.locator("#image")).to_be_visible()


def test_what_was_drawn_is_there_again_and_may_be_copied(opened: Page) -> None:
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(opened, "it's a <b>cat</b>", seed="7")
    opened.keyboard.press("Control+Enter")
    expect(opened.locator(".card", has_text="it's a").locator("a[href]")).to_be_visible()
    opened.reload()
    card = opened.locator(".card").first
    expect(card.locator(".prompt")).to_have_text("it's a <b>cat</b>")
    copied = {}
    for name in ("Copy as curl", "Python", "JSON"):
        card.get_by_role("button", name=name).click()
        expect(card.get_by_role("button", name="Copied")).to_be_visible()
        copied[name] = str(opened.evaluate("navigator.clipboard.readText()"))
        expect(card.get_by_role("button", name=name)).to_be_visible()
    assert "it'\\''s" in copied["Copy as curl"]
    assert 'prompt="it\'s a <b>cat</b>",' in copied["Python"]
    compile(copied["Python"], "copied", "exec")
    assert '"seed": 7' in copied["JSON"]
    card.get_by_role("button", name="Change").click()
    assert opened.get_by_label("Prompt", exact=True).input_value() == "it's a <b>cat</b>"
    card.get_by_role("button", name="Draw again").click()
    expect(opened.locator(".card").first.locator("a[href]")).to_be_visible()
    expect(opened.locator(".card", has_text="it's a")).to_have_count(2)


def test_what_cannot_be_drawn_is_said(opened: Page) -> None:
    ask(opened, "a cat <lora:ink:zebra>")
    opened.keyboard.press("Control+Enter")
    expect(opened.get_by_role("alert")).to_contain_text("LoRA 'ink'")


def test_a_restart_in_the_middle_is_survived(page: Page, broker: PrivateBroker, tmp_path: Path, free_port: int) -> None:
    with running(broker, tmp_path, {"port": str(free_port)}) as served:
        page.goto(served.address)
        ask(page, "a patient cat", steps="150")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".card .state")).to_contain_text("%")
        served.restart(kill=True)
        expect(page.locator(".card a[href] img")).to_be_visible()


def test_a_broker_that_is_killed_in_the_middle_is_survived(
    page: Page, own_broker: PrivateBroker, tmp_path: Path
) -> None:
    """The job is drawn anew, and the page, which was never reloaded, shows it; so is the next one."""
    with running(own_broker, tmp_path) as served:
        page.goto(served.address)
        ask(page, "a patient cat", steps="150")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".card .state")).to_contain_text("%")
        own_broker.restart()
        expect(page.locator(".card a[href] img")).to_be_visible(timeout=120_000)
        served.responsed.wait_status("clients$")
        ask(page, "the next cat")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".card", has_text="the next cat").locator("a[href] img")).to_be_visible(timeout=120_000)


def test_a_token_is_asked_for_on_a_phone(page: Page, broker: PrivateBroker, tmp_path: Path) -> None:
    with running(broker, tmp_path, {"token": TOKEN}) as served:
        page.set_viewport_size({"width": 360, "height": 700})
        page.goto(served.address)
        page.get_by_label("This service asks for a token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#service")).to_contain_text("drawing")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        ask(page, "a small cat")
        page.get_by_role("button", name="Draw", exact=False).first.click()
        expect(page.locator(".card a[href] img")).to_be_visible()


def test_it_is_small_and_loads_nothing_from_elsewhere(served: Running) -> None:
    texts = {file.name: file.read_text("utf-8") for file in FILES.iterdir()}
    assert sum(len(text.splitlines()) for text in texts.values()) <= 900
    for name, text in texts.items():
        answer = served.client.get("/" if name == "index.html" else f"/page/{name}")
        assert answer.text == text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert served.client.get("/page/other.js").status_code == 404
