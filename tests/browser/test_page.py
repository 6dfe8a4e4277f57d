"""The web page in a real browser, on a real stack."""

import datetime as dt
import re

import pytest
from playwright.sync_api import Error, expect

from tests.browser.conftest import MAX_BODY_BYTES, log_in

HOSTILE = "<img src=x onerror=document.title=1>&amp; <b>bold</b>.jpg"


def submit(page, *files):
    """Choose files, and wait for the page of their job."""
    page.get_by_label("Choose images").set_input_files(files)
    expect(page.get_by_role("heading", name=re.compile("^Job "))).to_be_visible()


def drop(page, *paths):
    """Drag and drop files or folders on the page, and wait for the page of their job."""
    box = page.get_by_text("Drop images or folders here").bounding_box()
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for type_ in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": type_, "x": box["x"] + 5, "y": box["y"] + 5, "data": data})
    expect(page.get_by_role("heading", name=re.compile("^Job "))).to_be_visible()


def card(page, name):
    """Return the card of an image."""
    return page.locator(".card").filter(has=page.get_by_text(name, exact=True))


def file_payload(path, name=None, max_bytes=None):
    """Return a file to choose, optionally under another name or truncated."""
    return {"name": name or path.name, "mimeType": "image/jpeg", "buffer": path.read_bytes()[:max_bytes]}


def test_log_in_submit_and_see_labels(page, stack, image_paths, allowed_console_lines):
    """A wrong key gives an error message; with a valid one, images are submitted and every label is shown."""
    allowed_console_lines.append("401 (Unauthorized)")  # logged by the browser itself
    log_in(page, "sb_00000000_" + "a" * 43)
    expect(page.get_by_role("alert")).to_have_text(
        "This key is not valid: it is mistyped, revoked, or of another server."
    )
    log_in(page, stack["key"])
    expect(page.get_by_text("There are no jobs yet.")).to_be_visible()

    submit(page, file_payload(image_paths[1], "lunch.jpg"), file_payload(image_paths[-1], HOSTILE))
    expect(page.locator(".head .badge")).to_have_text("done")
    expect(card(page, "lunch.jpg")).to_contain_text("sandwich")
    hostile = card(page, HOSTILE)
    expect(hostile).to_contain_text("sushi")
    for image_card in (card(page, "lunch.jpg"), hostile):
        expect(image_card.locator("img")).to_have_count(1)  # the thumbnail; a file name must not become markup
        assert image_card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    hostile.click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(HOSTILE)
    assert page.title() == "Job · Sortbelt"
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_role("dialog")).to_contain_text("Result: sushi")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="sushi 1").click()
    expect(page.locator(".card")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    assert len(download.value.path().read_text(encoding="utf-8").splitlines()) == 2

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Key")).to_be_focused()
    assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]


def test_a_dropped_folder_is_one_job_sent_in_several_requests(
    logged_in_page, http_client, image_paths, allowed_console_lines
):
    """The job is sealed after the last request; files that the command would leave out are not sent."""
    allowed_console_lines.append("413 (Payload Too Large)")
    assert sum(path.stat().st_size for path in image_paths) > 2 * MAX_BODY_BYTES
    folder = image_paths[0].parent.parent
    (folder / "@eaDir").mkdir()
    for name in ("notes.txt", "drawing.svg", ".hidden.jpg", "@eaDir/thumbnail.jpg"):
        (folder / name).write_text("not an image", encoding="utf-8")
    drop(logged_in_page, folder)
    expect(logged_in_page.locator(".head .badge")).to_have_text("done")
    expect(logged_in_page.locator(".card")).to_have_count(len(image_paths))
    job = http_client.get(logged_in_page.url.replace("/#/", "/v1/")).json()
    assert (job["sealed"], job["counts"]["done"]) == (True, len(image_paths))
    names = {result["image"] for result in http_client.get(job["results_url"]).json()["results"]}
    assert names == {str(path.relative_to(folder.parent)) for path in image_paths}


def test_logging_out_during_an_upload_cancels_the_job(logged_in_page, http_client, image_paths, allowed_console_lines):
    """The job is cancelled with the key that created it."""
    allowed_console_lines.append("413 (Payload Too Large)")
    logged_in_page.route("**/images", lambda _: None)  # the uploads never arrive
    logged_in_page.get_by_label("Choose images").set_input_files([file_payload(path) for path in image_paths])
    expect(logged_in_page.get_by_text("The job is open")).to_be_visible()
    expect(logged_in_page.get_by_label("Sending")).to_be_visible()
    job = logged_in_page.url.replace("/#/", "/v1/")
    with logged_in_page.expect_response(re.compile("/cancel$")):
        logged_in_page.get_by_role("button", name="Log out").click()
    assert http_client.get(job).json()["status"] == "cancelled"
    logged_in_page.unroute_all(behavior="ignoreErrors")


def test_failures_are_shown_and_can_be_retried(logged_in_page, image_paths):
    """A truncated image shows its error code, others their labels; a retry creates a new job."""
    same_name = [file_payload(image_paths[0]), file_payload(image_paths[-1], image_paths[0].name)]
    submit(logged_in_page, *same_name, file_payload(image_paths[1], "truncated.jpg", 2_000))
    expect(logged_in_page.locator(".legend")).to_have_text(re.compile("2 done.*1 failed"))
    expect(card(logged_in_page, image_paths[0].name.replace(".jpg", " (2).jpg"))).to_contain_text("sushi")
    expect(card(logged_in_page, "truncated.jpg")).to_contain_text("truncated")
    first_url = logged_in_page.url
    logged_in_page.get_by_role("button", name="Retry images without a label").click()
    expect(logged_in_page.get_by_text("It retries the images without a label of")).to_be_visible()
    assert logged_in_page.url != first_url


def test_an_open_job_is_updated_live_and_can_be_cancelled(logged_in_page, http_client, image_paths):
    """Images added to an open job appear without a reload; cancelling is a button."""
    job = http_client.post("/v1/jobs", json={"open": True}).json()
    logged_in_page.evaluate(f"location.hash = '#/jobs/{job['id']}'")
    expect(logged_in_page.get_by_text("The job is open: images can be added.")).to_be_visible()
    http_client.post(f"/v1/jobs/{job['id']}/images", files={"images": ("late.jpg", image_paths[1].read_bytes())})
    expect(card(logged_in_page, "late.jpg")).to_contain_text("sandwich")
    logged_in_page.get_by_role("button", name="Cancel queued images").click()
    expect(logged_in_page.locator(".head .badge")).to_have_text("cancelled")
    expect(logged_in_page.locator(".legend")).to_have_text("1 done")
    logged_in_page.get_by_role("link", name="All jobs").click()
    row = logged_in_page.get_by_role("row").filter(has=logged_in_page.locator(f'a[href="#/jobs/{job["id"]}"]'))
    expect(row).to_contain_text("1 image")


def test_results_and_statistics_of_all_jobs(logged_in_page, http_client, allowed_console_lines):
    """Results can be filtered by label and confidence, and sorted; statistics link to results."""
    allowed_console_lines.append("422 (Unprocessable")
    logged_in_page.get_by_role("link", name="Statistics").click()
    logged_in_page.get_by_role("link", name="sushi").click()
    expect(logged_in_page.get_by_label("Label")).to_have_value("sushi")
    logged_in_page.get_by_label("Order").select_option("confidence")
    results = http_client.get("/v1/results?label=sushi&order=confidence").json()["results"]
    expect(logged_in_page.locator(".card .name")).to_have_text([result["image"] for result in results])
    logged_in_page.locator(".skip-link").press("Enter")
    expect(logged_in_page.locator("main")).to_be_focused()
    assert logged_in_page.url.endswith("#/results?label=sushi&order=confidence")
    logged_in_page.get_by_label("Confidence from").fill("7")
    logged_in_page.get_by_label("Confidence from").press("Enter")
    expect(logged_in_page.get_by_role("alert")).to_contain_text("it must be a number from 0 to 1")


def test_each_bar_of_the_statistics_leads_to_its_results(logged_in_page, http_client):
    """A range of confidence, divided by label; the link of a part has the filters of both."""
    logged_in_page.evaluate("location.hash = '#/stats?group=confidence&by=label'")
    bars = logged_in_page.get_by_label("Counts")
    expect(bars.get_by_role("listitem")).not_to_have_count(0)
    part = bars.locator("a.series").first
    expect(part).to_have_attribute("href", re.compile("(?=.*min_confidence=).*label="))
    query = part.get_attribute("href").partition("?")[2]
    expected = http_client.get(f"/v1/results?{query}&limit=60").json()["results"]
    part.click()
    expect(logged_in_page.get_by_role("heading", name="Results")).to_be_visible()
    expect(logged_in_page.locator(".card")).to_have_count(len(expected))
    assert expected

    job_id = expected[0]["job_id"]
    logged_in_page.evaluate("location.hash = '#/stats'")
    for menu in ("First", "Second"):
        logged_in_page.get_by_label(menu).select_option(f"job {job_id}")
    expect(logged_in_page.get_by_label("Agreement")).to_contain_text("100.0 % of")


def test_an_admin_creates_and_revokes_keys_and_sees_workers(logged_in_page, http_client):
    """The key is shown once, with its limits; the worker of the stack serves a model."""
    logged_in_page.once("dialog", lambda dialog: dialog.accept())
    logged_in_page.get_by_role("link", name="Keys").click()
    logged_in_page.get_by_label("Name").fill("kitchen")
    logged_in_page.get_by_label("Role").select_option("read")
    logged_in_page.get_by_label("Images per minute").fill("600")
    logged_in_page.get_by_role("button", name="Create a key").click()
    secret = logged_in_page.get_by_label("The new key").locator("code").text_content()
    headers = {"Authorization": f"Bearer {secret}"}
    assert http_client.get("/v1/key", headers=headers).json()["role"] == "read"
    row = logged_in_page.get_by_role("row").filter(has_text="kitchen")
    expect(row).to_contain_text("Images per minute: 600")
    row.get_by_role("button", name="Revoke kitchen").click()
    expect(row).to_contain_text("revoked")
    assert http_client.get("/v1/key", headers=headers).status_code == 401
    logged_in_page.get_by_role("link", name="Workers").click()
    expect(logged_in_page.get_by_role("row").nth(1)).to_contain_text("sushi-or-sandwich")


def test_a_second_tab_is_logged_in_and_logged_out_with_the_first(logged_in_page, stack):
    """The key is in the session storage of each tab, and nowhere else."""
    other = logged_in_page.context.new_page()
    other.goto(f"{stack['url']}/")
    expect(other.get_by_role("heading", name="Jobs")).to_be_visible()
    assert other.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
    other.get_by_role("button", name="Log out").click()
    expect(logged_in_page.get_by_role("button", name="Log in")).to_be_visible()
    assert logged_in_page.evaluate("sessionStorage.length") == 0


def test_an_upload_goes_on_after_the_tab_was_closed(
    logged_in_page, http_client, stack, image_paths, allowed_console_lines
):
    """The same folder, chosen again, fills the same job; until then it says how many images are missing."""
    allowed_console_lines.append("413 (Payload Too Large)")
    folder, context, accepted = image_paths[0].parent.parent, logged_in_page.context, []
    logged_in_page.on(
        "response", lambda response: response.url.endswith("/images") and response.ok and accepted.append(response.url)
    )
    context.route("**/images", lambda route: None if accepted else route.continue_())  # the second one never arrives
    logged_in_page.get_by_label("Choose a folder").set_input_files(folder)
    expect(logged_in_page.get_by_text(re.compile("waits for [1-9] more"))).to_be_visible()
    job = logged_in_page.url.replace("/#/", "/v1/")
    second = context.new_page()
    second.goto(f"{stack['url']}/")
    expect(second.get_by_role("heading", name="Jobs")).to_be_visible()
    logged_in_page.wait_for_function("document.querySelector('.legend').textContent !== ''")
    logged_in_page.close(run_before_unload=False)
    first = http_client.get(job).json()
    context.unroute_all(behavior="ignoreErrors")

    second.get_by_label("Choose a folder").set_input_files(folder)
    expect(second.get_by_text(f"{len(image_paths)} images sent.")).to_be_visible()

    assert not first["sealed"]
    assert 0 < first["counts"]["total"] < len(image_paths)
    final = http_client.get(job).json()
    assert (final["sealed"], final["counts"]["total"]) == (True, len(image_paths))


def test_a_notification_at_the_end_of_a_job(logged_in_page, http_client, image_paths):
    """Asked for by a click; it names the job."""
    logged_in_page.evaluate(
        "() => { window.shown = []; window.Notification = class extends EventTarget {"
        "static async requestPermission() { return 'granted'; }"
        "constructor(title, options) { super(); window.shown.push(`${title}: ${options.body}`); } } }"
    )
    job = http_client.post("/v1/jobs", json={"open": True, "job_name": "watched"}).json()
    logged_in_page.evaluate(f"location.hash = '#/jobs/{job['id']}'")
    logged_in_page.get_by_role("button", name="Notify me at the end").click()
    http_client.post(f"/v1/jobs/{job['id']}/images", files={"images": ("last.jpg", image_paths[0].read_bytes())})
    http_client.post(f"/v1/jobs/{job['id']}/seal")
    logged_in_page.wait_for_function("window.shown.length === 1")
    assert logged_in_page.evaluate("window.shown") == ["Job watched done: 1 of 1 image labelled."]


def test_a_reader_cannot_submit(page, http_client, allowed_console_lines):
    """A read-only key gets no upload form; when it is revoked, the page shows it and forgets the key."""
    allowed_console_lines.append("401 (Unauthorized)")
    key = http_client.post("/v1/keys", json={"name": "viewer", "role": "read"}).json()
    log_in(page, key["key"])
    expect(page.get_by_text("viewer (read)")).to_be_visible()
    expect(page.get_by_role("row").nth(1)).to_contain_text("image")  # a reader sees the jobs of all keys
    expect(page.get_by_label("Choose images")).to_have_count(0)
    http_client.delete(f"/v1/keys/{key['id']}")
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("alert")).to_contain_text("This key is not valid")
    assert page.evaluate("sessionStorage.length") == 0


def test_a_hidden_tab_sends_no_requests(logged_in_page):
    """A hidden tab does not poll; when it is shown again, it updates at once."""
    expect(logged_in_page.get_by_text("Ready")).to_be_visible()
    logged_in_page.clock.install()
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    hide += " document.dispatchEvent(new Event('visibilitychange'))"
    logged_in_page.evaluate(hide % "true")
    requested_urls = []
    logged_in_page.on("request", lambda request: requested_urls.append(request.url))
    logged_in_page.clock.run_for(120_000)
    assert requested_urls == []
    with logged_in_page.expect_request(re.compile("/v1/jobs")):
        logged_in_page.evaluate(hide % "false")


def test_the_content_security_policy_blocks_injected_markup_and_scripts(page, stack, allowed_console_lines):
    """The policy blocks an injection even if the page had a bug."""
    allowed_console_lines += ["'Trusted", "Content Security Policy", "TypeError"]
    for injection in ("document.body.innerHTML = '<b>bold</b>'", "document.body.setAttribute('onclick', 'x')"):
        with pytest.raises(Error, match="This document requires 'Trusted"):
            page.evaluate(injection)
    with pytest.raises(Error, match="Failed to fetch"):
        page.evaluate("url => fetch(url)", stack["url"].replace("127.0.0.1", "localhost"))


def test_it_fits_a_phone_and_supports_dark_mode(logged_in_page):
    """No view is wider than 360 pixels; the page is dark where that is preferred."""
    logged_in_page.set_viewport_size({"width": 360, "height": 700})
    logged_in_page.emulate_media(color_scheme="dark")
    for view in ("Jobs", "Results", "Statistics", "Models"):
        logged_in_page.get_by_role("navigation").get_by_role("link", name=view).click()
        expect(logged_in_page.get_by_role("heading", name=view)).to_be_focused()
        assert logged_in_page.evaluate("document.documentElement.scrollWidth") == 360
    assert logged_in_page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 21, 20)"


def test_the_login_page_of_a_proxy_is_reported(logged_in_page, image_paths):
    """HTML in place of an answer ends an upload with an error, and is neither data of a view nor a downloaded file."""
    page, login_page = logged_in_page, {"content_type": "text/html", "body": "<!doctype html><title>Log in</title>"}
    advice = re.compile("Something other than Sortbelt answered.* log in where it asks")
    page.route(re.compile("/v1/(jobs$|stats|results)"), lambda route: route.fulfill(**login_page))
    page.get_by_label("Choose images").set_input_files([file_payload(image_paths[0])])
    expect(page.locator("#upload-progress").get_by_role("alert")).to_have_text(advice)
    page.get_by_role("link", name="Statistics").click()
    expect(page.get_by_role("main").get_by_role("alert").first).to_have_text(advice)
    page.get_by_role("link", name="Results").click()
    page.get_by_role("button", name="Download CSV").click()
    expect(page.locator("#message")).to_have_text(advice)

    page.unroute_all(behavior="wait")
    page.get_by_role("link", name="Jobs").click()
    submit(page, file_payload(image_paths[0]))
    expect(page.locator(".head .badge")).to_have_text("done")


def test_a_date_in_retry_after_is_waited_for(logged_in_page, allowed_console_lines):
    """Proxies send dates; no request is repeated before that moment."""
    allowed_console_lines.append("503 (Service Unavailable)")
    page, requested_urls = logged_in_page, []
    page.clock.install(time=dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    page.clock.pause_at(dt.datetime(2030, 1, 1, 1, tzinfo=dt.UTC))

    def refuse(route):
        requested_urls.append(route.request.url)
        route.fulfill(status=503, headers={"Retry-After": "Tue, 01 Jan 2030 01:00:30 GMT"})

    page.route("**/v1/workers", refuse)
    page.get_by_role("link", name="Workers").click()
    expect(page.get_by_text("The server answered with status 503.")).to_be_visible()
    page.clock.run_for(29_000)
    page.evaluate("fetch('livez').then(() => null)")  # a request sent before it would have been counted
    assert len(requested_urls) == 1
    with page.expect_request("**/v1/workers"):
        page.clock.run_for(2_000)


@pytest.mark.parametrize("header", ["0", "-1", "soon", "Infinity", "Tue, 01 Jan 2019 00:00:00 GMT", "9999999999"])
def test_requests_are_not_repeated_at_once_whatever_retry_after_says(logged_in_page, header):
    """A wait of 0 or one that overflows a timer would repeat requests without a pause."""
    script = "async (header) => (await import('./static/http.js')).problem(503, header, '').seconds"
    seconds = logged_in_page.evaluate(script, header)
    assert seconds is None or 1 <= seconds <= 600


def test_an_upload_goes_on_after_a_long_wait_and_a_restart(logged_in_page, image_paths, allowed_console_lines):
    """Waits for the quota are not counted as failures; after a bad gateway or a broken connection it is sent again."""
    allowed_console_lines.append("Failed to load resource")
    page = logged_in_page
    busy, broken = {"status": 429, "headers": {"Retry-After": "60"}}, None
    answers = [busy] * 8 + [broken, {"status": 502}, {"status": 504}]

    def answer(route):
        if not answers:
            route.continue_()
        elif (given := answers.pop(0)) is broken:
            route.abort()
        else:
            route.fulfill(**given)

    page.route(re.compile("/v1/jobs$"), answer)
    page.clock.install()
    page.get_by_label("Choose images").set_input_files([file_payload(image_paths[0])])
    sending = page.locator("#upload-progress")
    while answers and not sending.get_by_role("alert").count():
        page.clock.run_for(60_000)
    expect(sending.get_by_role("alert")).to_have_count(0)
    page.clock.run_for(60_000)
    expect(page.get_by_role("heading", name=re.compile("^Job "))).to_be_visible()


def test_a_verdict_is_stored_after_a_restart_of_the_server(logged_in_page, http_client, allowed_console_lines):
    """A bad gateway does not lose it."""
    allowed_console_lines.append("502 (Bad Gateway)")
    page, refused = logged_in_page, []

    def refuse_first(route):
        if refused or route.request.method != "PUT":
            return route.continue_()
        refused.append(route.request.url)
        return route.fulfill(status=502)

    page.route("**/v1/results/*/review", refuse_first)
    page.evaluate("location.hash = '#/review?strategy=random'")
    expect(page.locator(".photo img")).to_have_count(1)
    with page.expect_response(lambda response: response.request.method == "PUT" and response.ok):
        page.keyboard.press("Enter")
    assert refused


def test_jobs_that_leave_a_filtered_list_of_several_pages_are_not_shown(logged_in_page, http_client):
    """One was deleted on the first page, one ended on the second; a new one is added, and all others stay."""
    page = logged_in_page
    ids = [http_client.post("/v1/jobs", json={"open": True, "job_name": "paged"}).json()["id"] for _ in range(33)]
    page.evaluate("location.hash = '#/?status=queued&name=paged'")
    links = page.locator("table.jobs tbody a")
    expect(links).to_have_count(30)
    page.get_by_role("button", name="Show more").click()
    expect(links).to_have_count(33)

    http_client.delete(f"/v1/jobs/{ids[20]}").raise_for_status()
    http_client.post(f"/v1/jobs/{ids[1]}/cancel").raise_for_status()
    new_id = http_client.post("/v1/jobs", json={"open": True, "job_name": "paged"}).json()["id"]

    expect(page.locator(f'a[href="#/jobs/{new_id}"]')).to_be_visible()
    remaining = [id_ for id_ in reversed([*ids, new_id]) if id_ not in (ids[20], ids[1])]
    expect(links).to_have_count(len(remaining))
    assert [link.get_attribute("href") for link in links.all()] == [f"#/jobs/{id_}" for id_ in remaining]
    for id_ in remaining:
        http_client.post(f"/v1/jobs/{id_}/cancel").raise_for_status()
