import pytest

from core.db.queries import claims as claim_queries
from core.db.queries import job_diff, results
from tests.support import factories


def create_jobs(db, owner):
    """Two jobs with some names in common; `d` has an error in the first, `f` is queued in the second."""
    first, second = factories.create_job(db, owner, *"abcdf"), factories.create_job(db, owner, *"bcdef")
    labels = {first: {"b": "sushi", "c": "sushi", "d": None}, second: {"b": "sandwich", "c": "sushi", "d": "sushi"}}
    outcomes = []
    for claim in factories.claim_images(db):
        if (claim.job_id, claim.name) == (second, "f"):
            continue
        label = labels[claim.job_id].get(claim.name, "sushi")
        outcomes.append(
            factories.outcome(claim, label=label)
            if label
            else claim_queries.Outcome(claim, error_code="x", error_detail="X.")
        )
    db.write(claim_queries.finish, outcomes, factories.MODEL_REF)
    return first, second


def test_differences_between_two_jobs_are_listed_by_name(db, owner):
    """Another label, or a label instead of an error; not the same label, nor what only one job has."""
    first, second = create_jobs(db, owner)
    rows = db.read(job_diff.list_page, first, second, limit=9)
    assert [(row.name, row.label_a, row.label_b) for row in rows] == [("b", "sushi", "sandwich"), ("d", None, "sushi")]
    assert all(row.in_a and row.in_b for row in rows)
    assert [row.name for row in db.read(job_diff.list_page, first, second, limit=9, after="b")] == ["d"]


def test_pairs_of_labels_are_counted(db, owner):
    """Also equal ones, over the images that have a result in both jobs."""
    first, second = create_jobs(db, owner)
    rows = db.read(job_diff.count_pairs, first, second)
    assert {(row.a, row.b): row.count for row in rows} == {
        ("sushi", "sandwich"): 1,
        ("sushi", "sushi"): 1,
        (None, "sushi"): 1,
    }


def test_images_with_a_result_in_only_one_job_are_listed_if_asked_for(db, owner):
    """In one order with the others; an image without a result counts as missing."""
    first, second = create_jobs(db, owner)
    rows = db.read(job_diff.list_page, first, second, limit=9, include_unpaired=True)
    sides = [(row.name, bool(row.in_a), bool(row.in_b), row.label_a, row.label_b) for row in rows]
    assert sides == [
        ("a", True, False, "sushi", None),
        ("b", True, True, "sushi", "sandwich"),
        ("d", True, True, None, "sushi"),
        ("e", False, True, None, "sushi"),
        ("f", True, False, "sushi", None),
    ]
    reverse = db.read(job_diff.list_page, second, first, limit=9, include_unpaired=True)
    assert [(row.name, bool(row.in_b), bool(row.in_a)) for row in reverse] == [side[:3] for side in sides]


def test_pages_of_differences_meet_each_once(db, owner):
    """Page by page, after the last name of the one before."""
    first, second = create_jobs(db, owner)
    names, after = [], None
    while rows := db.read(job_diff.list_page, first, second, limit=2, after=after, include_unpaired=True):
        names += [row.name for row in rows]
        after = names[-1]
    assert names == [*"abdef"]


@pytest.mark.parametrize("include_unpaired", [False, True])
def test_a_page_of_differences_scans_a_limited_number_of_images(db, owner, include_unpaired):
    """It may be short or empty, and still have a next one; together they have each difference once."""
    jobs = create_jobs(db, owner)

    def read_pages(*jobs, **limits):
        pages = [db.read(job_diff.list_page, *jobs, include_unpaired=include_unpaired, **limits)]
        while (after := pages[-1].next_cursor) is not None:
            pages.append(db.read(job_diff.list_page, *jobs, after=after, include_unpaired=include_unpaired, **limits))
        return [[row.name for row in page] for page in pages]

    assert read_pages(jobs[0], jobs[0], limit=9, max_scanned=2) == [[], [], []]
    for max_scanned in (1, 2, 3, 9):
        for limit in (1, 2, 9):
            pages = read_pages(*jobs, limit=limit, max_scanned=max_scanned)
            assert [name for page in pages for name in page] == [*("abdef" if include_unpaired else "bd")]
            assert len(pages) >= 5 / max_scanned
    assert max(map(len, read_pages(*jobs, limit=9, max_scanned=1))) <= 2


def test_names_in_another_normalization_form_are_the_same(db, owner):
    """One device composes letters, another does not; if a job has both forms, each belongs to its like."""
    composed, decomposed = "Z\u00fcrich", "Zu\u0308rich"
    first = factories.create_job(db, owner, composed)
    second = factories.create_job(db, owner, decomposed)
    third = factories.create_job(db, owner, composed, decomposed)
    labels = {(first, composed): "a", (second, decomposed): "b", (third, composed): "a", (third, decomposed): "b"}
    claims = factories.claim_images(db)
    outcomes = [factories.outcome(claim, label=labels[claim.job_id, claim.name]) for claim in claims]
    db.write(claim_queries.finish, outcomes, factories.MODEL_REF)

    def changes(*jobs):
        return [(row.name, row.label_a, row.label_b) for row in db.read(job_diff.list_page, *jobs, limit=9)]

    assert changes(first, second) == [(composed, "a", "b")]
    assert changes(first, third) == changes(second, third) == []
    assert not [
        row
        for row in db.read(job_diff.list_page, first, second, limit=9, include_unpaired=True)
        if not (row.in_a and row.in_b)
    ]


def test_a_name_is_found_in_any_normalization_form(db, owner):
    """However it is stored, and however it is typed."""
    names = {"a/Z\u00fcrich.jpg", "b/Zu\u0308rich.jpg", "c/Zurich.jpg"}
    factories.create_job(db, owner, *names)
    factories.complete_claims(db, factories.claim_images(db))
    for text in ("z\u00fcrich", "zu\u0308rich"):
        rows = db.read(results.list_page, results.ResultFilter(name=text), limit=9)
        assert {row.name for row in rows} == names - {"c/Zurich.jpg"}
