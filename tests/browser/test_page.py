"""The page in a real browser, at a real stack."""

import re

import pytest
from playwright.sync_api import Error, expect

from tests.browser.conftest import BODY_BYTES, enter

HOSTILE = "<img src=x onerror=document.title=1>&amp; <b>bold</b>.jpg"


def send(page, *files):
    """Choose files, and come to their job."""
    page.get_by_label("Choose pictures").set_input_files(files)
    expect(page.get_by_role("heading", name=re.compile("^Job "))).to_be_visible()


def drop(page, *paths):
    """Let go of files or folders over the page, as a hand does; and come to their job."""
    box = page.get_by_text("Drop pictures or folders here").bounding_box()
    hand = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for type_ in ("dragEnter", "dragOver", "drop"):
        hand.send("Input.dispatchDragEvent", {"type": type_, "x": box["x"] + 5, "y": box["y"] + 5, "data": data})
    expect(page.get_by_role("heading", name=re.compile("^Job "))).to_be_visible()


def card(page, name):
    """The card of a picture."""
    return page.locator(".card").filter(has=page.get_by_text(name, exact=True))


def picture(path, name=None, most_bytes=None):
    """A picture as it is chosen, under another name perhaps, or torn off."""
    return {"name": name or path.name, "mimeType": "image/jpeg", "buffer": path.read_bytes()[:most_bytes]}


def test_from_a_key_to_labels(page, stack, pictures, complaints):
    """A wrong key is told in a sentence; with the right one pictures go, the job ends, and each has what it should."""
    complaints.append("401 (Unauthorized)")  # the browser's own word on the wrong key
    enter(page, "sb_00000000_" + "a" * 43)
    expect(page.get_by_role("alert")).to_have_text(
        "This key is not valid: it is mistyped, revoked, or of another server."
    )
    enter(page, stack["key"])
    expect(page.get_by_text("There are no jobs yet.")).to_be_visible()

    send(page, picture(pictures[0], "lunch.jpg"), picture(pictures[-1], HOSTILE))
    expect(page.locator(".head .badge")).to_have_text("done")
    expect(card(page, "lunch.jpg")).to_contain_text("sandwich")
    hostile = card(page, HOSTILE)
    expect(hostile).to_contain_text("sushi")
    for one in (card(page, "lunch.jpg"), hostile):
        expect(one.locator("img")).to_have_count(1)  # the thumbnail, and nothing that came of a name
        assert one.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    hostile.click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(HOSTILE)
    assert page.title() == "Job · Sortbelt"
    page.get_by_role("button", name="Look again").click()
    expect(page.get_by_role("dialog")).to_contain_text("It says sushi")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="sushi 1").click()
    expect(page.locator(".card")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert len(download.value.path().read_text(encoding="utf-8").splitlines()) == 2

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Key")).to_be_focused()
    assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]


def test_a_folder_that_is_dropped_goes_by_several_requests(inside, client, pictures, complaints):
    """It is one job all the same, which is sealed when all has gone; what is no picture is left alone."""
    complaints.append("413 (Payload Too Large)")
    assert sum(path.stat().st_size for path in pictures) > 2 * BODY_BYTES
    folder = pictures[0].parent.parent
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    drop(inside, folder)
    expect(inside.locator(".head .badge")).to_have_text("done")
    expect(inside.locator(".card")).to_have_count(len(pictures))
    job = client.get(inside.url.replace("/#/", "/v1/")).json()
    assert (job["sealed"], job["counts"]["done"]) == (True, len(pictures))
    names = {one["image"] for one in client.get(job["results_url"]).json()["results"]}
    assert names == {str(path.relative_to(folder.parent)) for path in pictures}


def test_who_leaves_while_pictures_go_leaves_no_open_job(inside, client, pictures, complaints):
    """What was begun is called off, by the key that it was begun with."""
    complaints.append("413 (Payload Too Large)")
    inside.route("**/images", lambda _: None)  # they never get there
    inside.get_by_label("Choose pictures").set_input_files([picture(path) for path in pictures])
    expect(inside.get_by_text("It is open")).to_be_visible()
    expect(inside.get_by_label("Sending")).to_be_visible()
    job = inside.url.replace("/#/", "/v1/")
    with inside.expect_response(re.compile("/cancel$")):
        inside.get_by_role("button", name="Log out").click()
    assert client.get(job).json()["status"] == "cancelled"
    inside.unroute_all(behavior="ignoreErrors")


def test_what_goes_wrong_is_told_and_can_be_tried_again(inside, pictures):
    """A picture that breaks off has its code beside its neighbours' labels; to try again is a job of its own."""
    twice = [picture(pictures[0]), picture(pictures[-1], pictures[0].name)]
    send(inside, *twice, picture(pictures[1], "torn.jpg", 2_000))
    expect(inside.locator(".legend")).to_have_text(re.compile("2 done.*1 failed"))
    expect(card(inside, pictures[0].name.replace(".jpg", " (2).jpg"))).to_contain_text("sushi")
    expect(card(inside, "torn.jpg")).to_contain_text("undecodable")
    before = inside.url
    inside.get_by_role("button", name="Try again").click()
    expect(inside.get_by_text("It tries again what failed in")).to_be_visible()
    assert inside.url != before


def test_a_job_is_followed_while_it_grows_and_called_off(inside, client, pictures):
    """An open job shows what is added as it comes, without a reload; cancelling and sealing are buttons."""
    job = client.post("/v1/jobs", json={"open": True}).json()
    inside.evaluate(f"location.hash = '#/jobs/{job['id']}'")
    expect(inside.get_by_text("It is open: more pictures may come.")).to_be_visible()
    client.post(f"/v1/jobs/{job['id']}/images", files={"images": ("late.jpg", pictures[0].read_bytes())})
    expect(card(inside, "late.jpg")).to_contain_text("sandwich")
    inside.get_by_role("button", name="Cancel what waits").click()
    expect(inside.locator(".head .badge")).to_have_text("cancelled")
    expect(inside.locator(".legend")).to_have_text("1 done")
    inside.get_by_role("link", name="All jobs").click()
    row = inside.get_by_role("row").filter(has=inside.locator(f'a[href="#/jobs/{job["id"]}"]'))
    expect(row).to_contain_text("1 picture")


def test_results_and_counts_of_all_jobs(inside, client, complaints):
    """By label and by how sure they are, least confident first; the counts lead to the results."""
    complaints.append("422 (Unprocessable")
    inside.get_by_role("link", name="Statistics").click()
    inside.get_by_role("link", name="sushi").click()
    expect(inside.get_by_label("Label")).to_have_value("sushi")
    inside.get_by_label("Order").select_option("confidence")
    found = client.get("/v1/results?label=sushi&order=confidence").json()["results"]
    expect(inside.locator(".card .name")).to_have_text([one["image"] for one in found])
    inside.get_by_label("Confidence from").fill("7")
    inside.get_by_label("Confidence from").press("Enter")
    expect(inside.get_by_role("alert")).to_contain_text("it must be a number from 0 to 1")


def test_a_reader_is_offered_what_a_reader_may(page, client, complaints):
    """No place to put pictures; and when the key is revoked, the page says so and forgets it."""
    complaints.append("401 (Unauthorized)")
    made = client.post("/v1/keys", json={"name": "guest", "role": "read"}).json()
    enter(page, made["key"])
    expect(page.get_by_text("guest (read)")).to_be_visible()
    expect(page.get_by_role("row").nth(1)).to_contain_text("picture")  # a reader sees everybody's jobs
    expect(page.get_by_label("Choose pictures")).to_have_count(0)
    client.delete(f"/v1/keys/{made['id']}")
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("alert")).to_contain_text("This key is not valid")
    assert page.evaluate("sessionStorage.length") == 0


def test_nothing_is_asked_while_nobody_looks(inside):
    """A tab that is hidden is silent, and as soon as it is shown it is up to date."""
    expect(inside.get_by_text("Ready")).to_be_visible()
    inside.clock.install()
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    hide += " document.dispatchEvent(new Event('visibilitychange'))"
    inside.evaluate(hide % "true")
    asked = []
    inside.on("request", lambda request: asked.append(request.url))
    inside.clock.run_for(120_000)
    assert asked == []
    with inside.expect_request(re.compile("/v1/jobs")):
        inside.evaluate(hide % "false")


def test_the_browser_itself_refuses_markup_and_scripts_of_strangers(page, stack, complaints):
    """Were there ever a mistake in the page, the policy would still stand in the way."""
    complaints += ["'Trusted", "Content Security Policy", "TypeError"]
    for mistake in ("document.body.innerHTML = '<b>bold</b>'", "document.body.setAttribute('onclick', 'x')"):
        with pytest.raises(Error, match="This document requires 'Trusted"):
            page.evaluate(mistake)
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate("url => fetch(url)", stack["url"].replace("127.0.0.1", "localhost"))


def test_it_fits_a_telephone_in_the_dark(inside):
    """Nothing is wider than 360 pixels, in any view; and it is dark where that is preferred."""
    inside.set_viewport_size({"width": 360, "height": 700})
    inside.emulate_media(color_scheme="dark")
    for view in ("Jobs", "Results", "Statistics", "Models"):
        inside.get_by_role("navigation").get_by_role("link", name=view).click()
        expect(inside.get_by_role("heading", name=view)).to_be_focused()
        assert inside.evaluate("document.documentElement.scrollWidth") == 360
    assert inside.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 21, 20)"
