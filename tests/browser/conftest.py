"""What the plays share: one stack and one browser, and a page that is looked after."""

import httpx
import pytest
from playwright import sync_api

from tests.browser import stage

BODY_BYTES = 150_000  # some four of the pictures: more have to go by several requests


@pytest.fixture(scope="module")
def chromium():
    """Where Chromium is."""
    return stage.chromium() or pytest.skip("needs a Chromium on the PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def stack(chromium, tmp_path_factory):
    """The whole stack as a user starts it: its URL and its key."""
    with stage.up(tmp_path_factory.mktemp("up") / "data", max_body_bytes=BODY_BYTES) as told:
        yield told


@pytest.fixture(scope="module")
def browser(chromium):
    """One for the module; for the session, its event loop would get in the way of tests that have their own."""
    sync_api.expect.set_options(timeout=20_000)
    with stage.browser(chromium) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Drawings of sushi and of sandwiches: five of each."""
    return stage.draw(tmp_path_factory.mktemp("pictures"), 5)


@pytest.fixture
def client(stack):
    """Somebody who speaks to the server by themselves."""
    with httpx.Client(base_url=stack["url"], headers={"Authorization": f"Bearer {stack['key']}"}) as made:
        yield made


@pytest.fixture
def complaints():
    """What the console may hold at the end of the test, as parts of its lines: nothing, unless the test says so."""
    return []


@pytest.fixture
def page(browser, stack, complaints):
    """An empty tab at the page; nothing is asked of anybody else, and nothing is complained about."""
    context = browser.new_context(viewport={"width": 1100, "height": 800}, accept_downloads=True)
    context.set_default_timeout(20_000)
    opened = context.new_page()
    said, asked = [], []
    opened.on("console", lambda message: said.append(f"{message.text} {message.location['url']}"))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(f"{stack['url']}/")
    yield opened
    context.close()
    assert [line for line in said if not any(part in line for part in complaints)] == []
    assert all(url.startswith((stack["url"], f"blob:{stack['url']}")) for url in asked)


@pytest.fixture
def inside(page, stack):
    """The page, logged in."""
    enter(page, stack["key"])
    sync_api.expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    return page


def enter(page, key):
    """Log in, or try to."""
    page.get_by_label("Key").fill(key)
    page.keyboard.press("Enter")
