"""Fixtures for the browser tests: one stack, one browser, and a page whose console and requests are checked."""

import httpx
import pytest
from playwright import sync_api

from tests.browser import harness

MAX_BODY_BYTES = 150_000  # about four of the images: more need several requests
TIMEOUT_MS = 60_000  # of each expectation: a busy machine may need long


@pytest.fixture(scope="module")
def chromium_path():
    """Return the path of Chromium; skip without one."""
    return harness.find_chromium() or pytest.skip("needs a Chromium on the PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def stack(chromium_path, tmp_path_factory):
    """Start the whole stack as a user does; its URL and key."""
    with harness.run_sortbelt(tmp_path_factory.mktemp("up") / "data", max_body_bytes=MAX_BODY_BYTES) as server_info:
        yield server_info


@pytest.fixture(scope="module")
def browser(chromium_path):
    """Launch one browser per module: for the session, its event loop would disturb tests that have their own."""
    sync_api.expect.set_options(timeout=TIMEOUT_MS)
    with harness.launch_browser(chromium_path) as launched:
        yield launched


@pytest.fixture(scope="module")
def image_paths(tmp_path_factory):
    """Draw five images of sushi and five of sandwiches."""
    return harness.draw_images(tmp_path_factory.mktemp("images"), 5)


@pytest.fixture
def http_client(stack):
    """Return an HTTP client with the key of the page's user."""
    with httpx.Client(base_url=stack["url"], headers={"Authorization": f"Bearer {stack['key']}"}) as http_client:
        yield http_client


@pytest.fixture
def allowed_console_lines():
    """Return the list of console lines (parts of them) that a test allows: empty unless the test adds some."""
    return []


@pytest.fixture
def page(browser, stack, allowed_console_lines):
    """Open the page in a new tab; fail on console errors and on requests to other hosts."""
    context = browser.new_context(viewport={"width": 1100, "height": 800}, accept_downloads=True)
    context.set_default_timeout(TIMEOUT_MS)
    tab = context.new_page()
    console_lines, requested_urls = [], []
    tab.on("console", lambda message: console_lines.append(f"{message.text} {message.location['url']}"))
    tab.on("pageerror", lambda error: console_lines.append(str(error)))
    tab.on("request", lambda request: requested_urls.append(request.url))
    tab.goto(f"{stack['url']}/")
    yield tab
    context.close()
    assert [line for line in console_lines if not any(part in line for part in allowed_console_lines)] == []
    assert all(url.startswith((stack["url"], f"blob:{stack['url']}")) for url in requested_urls)


@pytest.fixture
def logged_in_page(page, stack):
    """Return the page, logged in."""
    log_in(page, stack["key"])
    sync_api.expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    return page


def log_in(page, key):
    """Fill in the login form and submit it."""
    page.get_by_label("Key").fill(key)
    page.keyboard.press("Enter")
