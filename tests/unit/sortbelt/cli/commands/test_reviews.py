"""`sortbelt reviews` and `stats --reviewed`."""

import hashlib
import json

import pytest

PHOTOS = {"1": b"one", "2": b"two", "3": b"one"}


def review(number, label, **fields):
    """Return a review in the format of the API."""
    verdict = "label" if label else "none_of_these"
    row = {"id": number, "result_id": number, "image_id": number, "image": f"trip/IMG.{number}.JPG", "job_id": "j"}
    row |= {"sha256": hashlib.sha256(PHOTOS[number]).hexdigest(), "model_label": "sushi", "confidence": 0.5}
    return row | {"verdict": verdict, "label": label, "reviewed_at": "2026-01-31T12:00:00Z"} | fields


@pytest.fixture
def reviewed(server):
    """Two reviewed images on the server, and a third without a fitting label."""
    server.image_bytes.update(PHOTOS)
    server.reviews[:] = [review("2", "sandwich"), review("1", "sushi"), review("2", None)]
    return server


def exported(folder):
    """Return the bytes of each exported image by its label."""
    return {path.parent.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def digest(number):
    return hashlib.sha256(PHOTOS[number]).hexdigest()


def test_reviews_are_exported_into_a_folder_per_label(run_cli, reviewed, tmp_path):
    """Named by their bytes; a second time nothing is fetched."""
    run = run_cli("reviews", "export", "--into", tmp_path / "photos")

    assert (run.code, run.out) == (0, "sandwich\t1\nsushi\t1\n")
    assert exported(tmp_path / "photos") == {"sushi": b"one", "sandwich": b"two"}
    assert (tmp_path / "photos" / "sushi" / f"{digest('1')}.jpg").exists()
    reviewed.requests.clear()
    again = json.loads(run_cli("reviews", "export", "--into", tmp_path / "photos", "--json").out)
    assert again["outcomes"] == {"already there": 2, "same bytes": 1}
    assert not [path for _, path, _ in reviewed.requests if path.endswith("/file")]


def test_a_corrected_image_moves_to_its_new_folder(run_cli, reviewed, tmp_path):
    """It is not in two folders, also if its bytes were reviewed twice: the newest review counts."""
    run_cli("reviews", "export", "--into", tmp_path / "photos")
    reviewed.reviews[:] = [review("3", "sandwich"), review("1", "sushi")]
    run = json.loads(run_cli("reviews", "export", "--into", tmp_path / "photos", "--json").out)

    assert run["outcomes"] == {"moved": 1, "same bytes": 1}
    files = sorted(path.parent.name for path in (tmp_path / "photos").rglob("*.jpg"))
    assert files == ["sandwich", "sandwich"]


def test_a_newest_review_without_a_label_leaves_the_image_out(run_cli, reviewed, tmp_path):
    """An older label of the same bytes does not count."""
    reviewed.reviews[:] = [review("3", None), review("1", "sushi"), review("2", "sandwich")]
    run = json.loads(run_cli("reviews", "export", "--into", tmp_path / "photos", "--json").out)

    assert run["outcomes"] == {"without a label": 1, "same bytes": 1, "exported": 1}
    assert exported(tmp_path / "photos") == {"sandwich": b"two"}


def test_what_the_server_does_not_have_any_more_is_named(run_cli, reviewed, tmp_path):
    """Exit code 1, and the other images are there; other bytes than the reviewed ones are not taken for them."""
    del reviewed.image_bytes["1"]
    reviewed.image_bytes["2"] = b"changed"
    run = run_cli("reviews", "export", "--into", tmp_path / "photos")

    assert run.code == 1
    assert "gone: trip/IMG.1.JPG (image 1)" in run.err
    assert "gone: trip/IMG.2.JPG (image 2)" in run.err
    assert exported(tmp_path / "photos") == {}


@pytest.mark.parametrize(
    ("label", "folder"), [("../../etc", "_.._etc"), ("a/b", "a_b"), (".", "_"), ("failed", "failed"), ("Ü 1", "Ü 1")]
)
def test_no_label_leads_out_of_the_folder(run_cli, reviewed, tmp_path, label, folder):
    """A label becomes one safe folder name, and stays as it is where it is one."""
    reviewed.reviews[:] = [review("1", label, image="x.<script>")]
    assert run_cli("reviews", "export", "--into", tmp_path / "photos").code == 0

    assert exported(tmp_path / "photos") == {folder: b"one"}
    assert (tmp_path / "photos" / folder / digest("1")).exists()


def test_two_labels_of_one_folder_are_an_error(run_cli, reviewed, tmp_path):
    """They would be one class of the training; also where the file system ignores case."""
    reviewed.reviews[:] = [review("1", "a/b"), review("2", "A:B")]
    run = run_cli("reviews", "export", "--into", tmp_path / "photos")

    assert run.code == 2
    assert "'a/b' and 'A:B' would have the same folder" in run.err


def test_reviews_are_listed(run_cli, reviewed):
    """As a table and as JSON."""
    first = run_cli("reviews", "list").out.splitlines()[0].split("\t")
    assert first[:6] == ["2", "trip/IMG.2.JPG", "sushi", "0.5000", "label", "sandwich"]
    assert json.loads(run_cli("reviews", "list", "--json").out)["reviews"] == reviewed.reviews


def stats(**fields):
    """Return the statistics of a version in the format of the API."""
    estimate = {"value": 0.9, "low": 0.8, "high": 0.95, "count": 100}
    empty = dict.fromkeys(("none_of_these", "bad_image", "calibration_error"))
    return (
        {"model": "m", "version": "1", "reviewed": 160, "by_strategy": {"random": 100, "by_hand": 60}, "sampled": 100}
        | empty
        | {
            "accuracy": estimate,
            "classes": [{"label": "sushi", "precision": estimate, "recall": None}],
            "confusions": [{"model": "sushi", "review": None, "count": 7, "in_sample": 1}],
        }
        | fields
    )


def test_stats_reviewed_shows_estimates_with_their_intervals(run_cli, server):
    """And the most frequent confusions; as JSON, all of it."""
    server.review_stats = [stats()]
    run = run_cli("stats", "--reviewed", "--model", "m")

    rows = [line.split("\t") for line in run.out.splitlines()]
    assert rows[0] == ["m@1", "right", "0.9000", "0.8000", "0.9500", "100"]
    assert [row[1] for row in rows] == ["right", "precision of sushi"]
    assert "m@1: 7 of 'sushi' are 'none of these'." in run.err
    assert json.loads(run_cli("stats", "--reviewed", "--json").out)["versions"] == server.review_stats


def test_without_random_reviews_stats_says_what_to_do(run_cli, server):
    """No estimate is made up; without reviews there is nothing."""
    server.review_stats = [stats(sampled=0, accuracy=None, classes=[])]
    run = run_cli("stats", "--reviewed")
    assert run.out == ""
    assert "with the strategy `random`" in run.err
    server.review_stats = []
    assert run_cli("stats", "--reviewed").err == "There are no reviews.\n"


def test_filters_that_reviews_do_not_have_are_wrong_usage(run_cli, server):
    """Instead of being ignored."""
    run = run_cli("stats", "--reviewed", "--min-confidence", "0.5")
    assert run.code == 2
    assert "--min-confidence does not go with --reviewed" in run.err


def task(result_id, *choices, cancelled=False):
    """Return a task of a Label Studio export, with one annotation for each choice."""
    results = [[{"type": "choices", "value": {"choices": [choice]}}] for choice in choices]
    annotations = [{"was_cancelled": cancelled, "result": result} for result in results]
    return {"data": {"image": "a.jpg"}, "meta": {"result_id": result_id}, "annotations": annotations}


def test_annotations_of_label_studio_become_reviews(run_cli, server, tmp_path, monkeypatch):
    """The last annotation of a task counts; skipped tasks and those without an annotation do not."""
    reviews = []
    monkeypatch.setattr(
        "sortbelt.client.sync_client.Client.review", lambda _, *arguments: reviews.append(arguments) or None
    )
    tasks = [task("1", "sushi", "sandwich"), task("2"), task("3", "bad_image"), task("4", "sushi", cancelled=True)]
    (tmp_path / "project.json").write_text(json.dumps(tasks))

    run = run_cli("reviews", "import", tmp_path / "project.json", "--json")

    assert json.loads(run.out)["reviews"] == {"sandwich": 1, "not annotated": 2, "bad_image": 1}
    assert reviews == [("1", "sandwich", "label"), ("3", None, "bad_image")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ('{"tasks": []}', "is not a list of tasks"),
        ('[{"data": {}}]', "task 1 has no meta.result_id"),
        (
            json.dumps(
                [
                    {
                        "meta": {"result_id": "1"},
                        "annotations": [{"result": [{"type": "choices", "value": {"choices": ["a", "b"]}}]}],
                    }
                ]
            ),
            "task 1 has the choices a, b",
        ),
    ],
)
def test_a_file_that_is_no_such_export_is_refused_before_any_review(run_cli, server, tmp_path, content, message):
    (tmp_path / "project.json").write_text(content)

    run = run_cli("reviews", "import", tmp_path / "project.json")

    assert run.code == 2
    assert message in run.err
    assert not [request for request in server.requests if request[0] == "PUT"]
