import pytest

from core import enums
from core.db.queries import claims as claim_queries
from core.db.queries import deletions, models, shadows
from tests.integration.core.db.queries.test_models import files, manifest
from tests.support import factories


@pytest.fixture
def versions(db):
    """Three versions of the model of the tests, by their names."""
    who = factories.create_key(db, "boss", enums.Role.ADMIN)
    added = [db.write(models.add, manifest(version), files(version), who)[0] for version in "123"]
    return {row.version: row for row in added}


@pytest.fixture
def complete_as_live(db, owner):
    """Lets the live version 1 answer images: {name: (label, confidence)}; the claims by name."""

    def answer(**given):
        factories.create_job(db, owner, *given)
        claims = {claim.name: claim for claim in factories.claim_images(db)}
        fates = [factories.outcome(claims[n], label=label, confidence=sure) for n, (label, sure) in given.items()]
        db.write(claim_queries.finish, fates, claim_queries.ModelRef(factories.MODEL, "1", "1" * 64))
        return claims

    return answer


def shade(db, version, claims, **given):
    """Let a version judge images as a shadow: {name: (label, confidence)}; a label of None is an error."""
    fates = [
        factories.outcome(claims[n], label=label, confidence=sure, error_code=None if label else "bad_output")
        for n, (label, sure) in given.items()
    ]
    db.write(shadows.record, version.id, fates)


def confusion(db, a, b):
    """For each pair of labels how many images, and how sure."""
    rows = db.read(shadows.confusion, a, b)
    return {(row.label_a, row.label_b): (row.count, row.confidence_a, row.confidence_b) for row in rows}


def test_a_shadow_is_compared_with_what_answered(db, versions, complete_as_live):
    """Only images that both judged count, either way round."""
    claims = complete_as_live(p=("x", 0.9), q=("x", 0.7), r=("y", 0.6), s=("y", 0.6))
    shade(db, versions["2"], claims, p=("x", 0.5), q=("x", 0.7), r=("x", 0.8))
    one, two = versions["1"], versions["2"]
    assert confusion(db, one, two) == {
        ("x", "x"): (2, pytest.approx(0.8), pytest.approx(0.6)),
        ("y", "x"): (1, pytest.approx(0.6), pytest.approx(0.8)),
    }
    assert {pair: count for pair, (count, _, _) in confusion(db, two, one).items()} == {("x", "x"): 2, ("x", "y"): 1}


def test_two_shadows_are_compared_with_each_other(db, versions, complete_as_live):
    """A third version answered."""
    claims = complete_as_live(p=("x", 0.9), q=("x", 0.9))
    shade(db, versions["2"], claims, p=("x", 0.5), q=("y", 0.7))
    shade(db, versions["3"], claims, p=("y", 0.5))
    assert confusion(db, versions["2"], versions["3"]) == {("x", "y"): (1, 0.5, 0.5)}


def test_an_image_classified_twice_counts_once(db, versions, complete_as_live):
    """While a version is promoted, one worker may have it as a shadow of what another answers with it."""
    claims = complete_as_live(p=("x", 0.9))
    shade(db, versions["1"], claims, p=("x", 0.9))
    shade(db, versions["2"], claims, p=("y", 0.8))
    assert confusion(db, versions["1"], versions["2"]) == {("x", "y"): (1, 0.9, 0.8)}


def test_what_failed_is_not_compared_but_counted(db, versions, complete_as_live):
    """An error of a shadow is its own figure."""
    claims = complete_as_live(p=("x", 0.9), q=("x", 0.9))
    shade(db, versions["2"], claims, p=(None, None), q=("x", 0.8))
    assert confusion(db, versions["1"], versions["2"]) == {("x", "x"): (1, 0.9, 0.8)}
    assert db.read(shadows.count_errors, versions["2"].id) == 1
    assert db.read(shadows.count_errors, versions["1"].id) == 0


def test_what_a_shadow_said_stays(db, versions, complete_as_live):
    """A retried batch writes nothing twice."""
    claims = complete_as_live(p=("x", 0.9))
    shade(db, versions["2"], claims, p=("x", 0.8))
    shade(db, versions["2"], claims, p=("y", 0.7))
    assert confusion(db, versions["1"], versions["2"]) == {("x", "x"): (1, 0.9, 0.8)}


def test_an_image_that_was_deleted_meanwhile_gets_no_row(db, owner, versions, complete_as_live):
    """The rest of its batch is stored; of a batch without any other image, nothing is."""
    claims = complete_as_live(p=("x", 0.9), q=("x", 0.9))
    db.write(deletions.delete_image, claims["p"].image_id, owner, owner)
    shade(db, versions["2"], claims, p=("y", 0.8), q=("y", 0.8))
    shade(db, versions["3"], claims, p=("y", 0.8))
    assert confusion(db, versions["1"], versions["2"]) == {("x", "y"): (1, 0.9, 0.8)}
    assert confusion(db, versions["1"], versions["3"]) == {}


def test_the_results_know_nothing_of_shadows(db, versions, complete_as_live):
    """One result for each image, by the live version."""
    claims = complete_as_live(p=("x", 0.9))
    shade(db, versions["2"], claims, p=("y", 0.8))
    assert factories.result_names(db) == ["p"]


def test_disagreements_come_page_by_page_the_surest_first(db, versions, complete_as_live):
    """Each once, in one order, whatever the size of a page."""
    names = [f"n{number}" for number in range(7)]
    claims = complete_as_live(**{name: ("x", 0.5 + number / 20) for number, name in enumerate(names)}, same=("x", 1.0))
    shade(db, versions["2"], claims, **dict.fromkeys(names, ("y", 0.6)), same=("x", 1.0))
    one, two = versions["1"], versions["2"]
    seen, after = [], None
    while rows := db.read(shadows.disagreements, one, two, limit=3, after=after):
        seen += rows
        after = (rows[-1].total_confidence, rows[-1].image_id)
    assert [row.name for row in seen] == names[::-1]
    assert [(row.label_a, row.label_b) for row in seen] == [("x", "y")] * 7
    assert seen[0].confidence_a == pytest.approx(0.8)
    assert seen[0].job_id == claims["n0"].job_id


def test_disagreements_of_equal_confidence_are_all_listed(db, versions, complete_as_live):
    """The cursor holds the image too."""
    names = [f"n{number}" for number in range(5)]
    claims = complete_as_live(**dict.fromkeys(names, ("x", 0.7)))
    shade(db, versions["2"], claims, **dict.fromkeys(names, ("y", 0.1)))
    first = db.read(shadows.disagreements, versions["1"], versions["2"], limit=2)
    last = (first[-1].total_confidence, first[-1].image_id)
    rest = db.read(shadows.disagreements, versions["1"], versions["2"], limit=9, after=last)
    assert [row.name for row in [*first, *rest]] == names
