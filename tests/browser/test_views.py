"""Large images, the review queue and the accessibility of every view, in a real browser."""

import re
import zipfile

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

from tests.support import image_files

SWIPE = """(photo, by) => [["touchstart", 200], ["touchend", 200 + by]].forEach(([kind, clientX]) => {
  const touch = new Touch({ identifier: 1, target: photo, clientX, clientY: 100 });
  const touches = kind === "touchstart" ? [touch] : [];
  photo.dispatchEvent(new TouchEvent(kind, { bubbles: true, touches, changedTouches: [touch] }));
})"""


def draw(number, size):
    """Return a small file of many pixels: one that differs for each number."""
    image = Image.new("RGB", size, (number * 20, 90, 200 - number * 15))
    image.paste("white", (0, 0, size[0] // 3, size[1] // 3))
    return image_files.encode(image)


@pytest.fixture
def job(http_client):
    """Return a finished job of ten portraits and landscapes, and one file that is not an image."""
    sizes = [(1500, 2000), (2000, 1500)]
    files = [("images", (f"{number:02}.png", draw(number, sizes[number % 2]))) for number in range(10)]
    files.append(("images", ("notes.jpg", b"not an image")))
    headers = {"Prefer": "wait=60"}
    return http_client.post("/v1/jobs", files=files, data={"job_name": "Walk"}, headers=headers, timeout=90).json()


def go(page, fragment):
    """Open a view by its address."""
    page.evaluate("fragment => { location.hash = fragment; }", fragment)


def natural_size(image):
    """Return the size of an image that has been loaded."""
    return image.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])")


def test_an_image_is_shown_large_and_whole(logged_in_page, job):
    """Upright and uncropped, with its scores; the next one by key and swipe, and by a link; an error is explained."""
    page = logged_in_page
    go(page, f"/jobs/{job['id']}?status=done")
    expect(page.get_by_role("heading", name="Job Walk")).to_be_visible()
    expect(page.locator(".badge", has_text="done, 1 failed")).to_be_visible()
    expect(page.locator(".card")).to_have_count(10)
    names = page.locator(".card .name").all_inner_texts()
    page.locator(".card").nth(0).click()
    dialog = page.get_by_role("dialog")
    sizes = {0: [1200, 1600], 1: [1600, 1200]}
    for index, move in enumerate((None, "key", "swipe")):
        if move == "key":
            page.keyboard.press("ArrowRight")
        elif move == "swipe":
            dialog.locator(".photo").evaluate(SWIPE, -120)
        expect(dialog.get_by_role("heading")).to_have_text(names[index])
        image = dialog.get_by_role("img", name=names[index])
        preview_size = sizes[int(names[index][:2]) % 2]
        expect(image).to_have_js_property("naturalWidth", preview_size[0])
        box, viewport = image.bounding_box(), page.viewport_size
        assert box["width"] / box["height"] == pytest.approx(preview_size[0] / preview_size[1], rel=0.02)
        assert box["y"] + box["height"] <= viewport["height"]
        expect(dialog.locator(".bar-chart li")).to_have_count(2)
    page.reload()
    expect(dialog.get_by_role("heading")).to_have_text(names[2])
    page.keyboard.press("ArrowLeft")
    expect(dialog.get_by_role("heading")).to_have_text(names[1])
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page).to_have_url(re.compile(f"/#/jobs/{job['id']}[?]status=done$"))

    page.get_by_label("Status").select_option("failed")
    expect(page.locator(".card")).to_have_count(1)
    assert natural_size(page.locator("header img")) != [0, 0]
    page.locator(".card").click()
    expect(dialog.get_by_role("link", name="unsupported_format")).to_have_attribute("href", re.compile("#image-unsup"))
    page.go_back()
    expect(dialog).to_have_count(0)
    page.get_by_label("Status").select_option("")
    shown = page.locator(".card", has_text=names[0]).locator("img")
    expect(shown).to_have_count(1)
    assert max(natural_size(shown)) == 256


def test_the_review_queue_is_worked_off_by_keys(logged_in_page, http_client, job):
    """Right, a label, none of these, undo and back; every verdict is stored, and the statistics show them."""
    page = logged_in_page
    page.get_by_role("link", name="Models").click()
    go(page, "/review?strategy=least_confident")
    counter = page.get_by_text("reviewed, ")
    expect(page.locator(".photo img")).to_have_count(1)
    expect(counter).to_contain_text("0 reviewed")
    for count, key in enumerate(("Enter", "2", "0", "b"), start=1):
        page.keyboard.press(key)
        expect(counter).to_contain_text(f"{count} reviewed")
    page.keyboard.press("u")
    expect(counter).to_contain_text("3 reviewed")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("reviewed: none of these")).to_be_visible()
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="sandwich").click()
    expect(counter).to_contain_text("4 reviewed")
    expect(page.locator(".photo")).to_be_focused()  # so that Enter means "right" again
    page.get_by_role("link", name="What the reviews say").click()
    verdicts, current = ["label", "label", "label", "none_of_these"], []
    while sorted(one["verdict"] for one in current) != verdicts:  # those of several images are stored at the same time
        page.wait_for_timeout(100)
        current = http_client.get("/v1/reviews?strategy=least_confident").json()["reviews"]
    given = [one for one in current if one["verdict"] == "label"]
    assert any(one["label"] == one["model_label"] for one in given)
    assert any(one["label"] == "sandwich" for one in given)
    history = http_client.get("/v1/reviews?strategy=least_confident&history=true").json()["reviews"]
    assert ("bad_image", None) in [(one["verdict"], one["label"]) for one in history]
    page.reload()
    expect(page.get_by_text(re.compile("4 reviewed: 4 least confident"))).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_accessible_at_every_width(logged_in_page, job, scheme):
    """No violations by axe, and no view is wider than the window, from 320 to 1,920 pixels."""
    page, axe = logged_in_page, Axe()
    page.emulate_media(color_scheme=scheme)
    go(page, f"/jobs/{job['id']}")
    expect(page.locator(".card")).to_have_count(11)
    page.locator(".card").nth(3).click()
    expect(page.get_by_role("dialog").locator("img")).to_have_count(1)
    image = page.url.rpartition("image=")[2]
    views = [
        "/",
        f"/jobs/{job['id']}",
        f"/jobs/{job['id']}?image={image}",
        "/results?label=sushi",
        "/review",
        "/reviews",
    ]
    for view in [*views, "/stats", "/models"]:
        go(page, view)
        expect(page.locator(".loading")).to_have_count(0)
        for width in (1920, 320):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view
            violations = axe.run(page).response["violations"]
            assert [(one["id"], one["nodes"][0]["html"]) for one in violations] == [], (view, width)


def test_several_images_are_selected_and_acted_on(logged_in_page, http_client, job):
    """By click, range and "all that match": reviewed, downloaded by label, run again, and deleted."""
    page = logged_in_page
    go(page, f"/jobs/{job['id']}?status=done")
    expect(page.locator(".card")).to_have_count(10)
    names = page.locator(".card .name").all_inner_texts()
    bar = page.get_by_role("region", name="Selection")
    page.get_by_label(f"Select {names[1]}").click()
    page.get_by_label(f"Select {names[3]}").click(modifiers=["Shift"])
    expect(bar).to_contain_text("3 selected")
    bar.get_by_label("Review as").select_option("sandwich")
    expect(page.get_by_text("reviewed: sandwich")).to_have_count(3)
    with page.expect_download() as download:
        bar.get_by_role("button", name="Download ZIP").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert sorted(archive.namelist()) == sorted(f"sandwich/{name}" for name in names[1:4])
    page.on("dialog", lambda dialog: dialog.accept())
    bar.get_by_role("button", name="Delete").click()
    expect(page.locator(".card")).to_have_count(7)
    expect(bar).to_be_hidden()
    page.locator(".card").nth(0).click(modifiers=["Control"])
    bar.get_by_role("button", name="All that match").click()
    expect(bar).to_contain_text("7 selected")
    assert [(one["id"], one["nodes"][0]["html"]) for one in Axe().run(page).response["violations"]] == []
    page.set_viewport_size({"width": 320, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    bar.get_by_label("Run with").select_option("sushi-or-sandwich")
    expect(page.locator(".legend")).to_have_text("7 done")
    assert job["id"] not in page.url
    assert http_client.get(job["status_url"]).json()["counts"]["total"] == 8


def test_a_resubmission_whose_response_is_lost_is_one_job(logged_in_page, http_client, job, allowed_console_lines):
    """The same button, pressed again after the connection broke, leads to the job that was created."""
    page, created = logged_in_page, []
    allowed_console_lines.append("net::ERR_FAILED")

    def lose_first_response(route):
        response = route.fetch()
        created.append(response.json()["id"])
        if len(created) == 1:
            route.abort()
        else:
            route.fulfill(response=response)

    page.route("**/v1/selections/resubmit", lose_first_response)
    go(page, f"/jobs/{job['id']}?status=done")
    page.locator(".select-box").first.click()
    bar = page.get_by_role("region", name="Selection")
    bar.get_by_role("button", name="Retry").click()
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    bar.get_by_role("button", name="Retry").click()
    expect(page.locator(".legend")).to_have_text("1 done")
    assert created[0] == created[1]
    assert created[0] in page.url


def test_a_job_has_the_filters_of_the_results(logged_in_page, job):
    """All but that of the key, which a job has one of; they are in the address, and may be cleared."""
    page, names = logged_in_page, {}
    for view in ("/results", f"/jobs/{job['id']}"):
        go(page, view)
        expect(page.locator(".card").first).to_be_visible()
        names[view] = page.locator("form.filters label").evaluate_all("all => all.map((one) => one.firstChild.data)")
    shared, of_job = names.values()
    assert of_job == [name for name in shared if name != "Key"]
    page.get_by_label("Confidence to").fill("0")
    page.keyboard.press("Enter")
    expect(page.get_by_text("This job has no matching results.")).to_be_visible()
    assert "max_confidence=0" in page.url
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".card").first).to_be_visible()
