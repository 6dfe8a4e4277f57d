import collections
import concurrent.futures
import hashlib
import threading
import time

import pytest
import sqlalchemy as sa

from jobs import bell, blobs, database, errors, intake, rescue, settings, tables
from jobs.store import incoming, jobs, models, tallies, work
from model import classifier, preprocess
from tests import servers
from tests.jobs import making
from worker import classify, decoders, drain, shelf


@pytest.fixture(scope="module")
def judge(shipped):
    """The shipped network, ready."""
    return classify.Judge(classifier.Classifier(shipped, "cpu"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One folder of blobs for all: they are named by their content."""
    return blobs.Folder(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="module")
def pools():
    """Pools of decoders, as many as any test needs at once; they outlive the drains."""
    made = []
    yield made
    for pool in made:
        pool.close()


class SilentBell:
    """A bell that only counts, and notices that nobody hears."""

    rings = 0

    def ring(self):
        """Count."""
        self.rings += 1

    def tell(self, job_ids):
        """Nobody listens."""


class Trembling:
    """A database that is away while the test says so."""

    def __init__(self, db):
        self.db = db
        self.away = threading.Event()
        self.refused = 0

    def write(self, query, *args, **kwargs):
        """As the real one, or away."""
        if self.away.is_set():
            self.refused += 1
            raise errors.DatabaseUnavailable("Away.")
        return self.db.write(query, *args, **kwargs)

    def read(self, query, *args, **kwargs):
        """As the real one, or away."""
        if self.away.is_set():
            self.refused += 1
            raise errors.DatabaseUnavailable("Away.")
        return self.db.read(query, *args, **kwargs)


class Watched:
    """A judge that lets the test look on, or step in, before it judges as the real one does."""

    def __init__(self, judge, before=lambda _: None):
        self.judge = judge
        self.before = before
        self.batches = []

    @property
    def room(self):
        """Of the real one."""
        return self.judge.room

    def fates(self, claims, pixels, outcomes):
        """The real fates."""
        self.batches.append(len(claims))
        self.before(len(self.batches))
        return self.judge.fates(claims, pixels, outcomes)


class OneModel:
    """A shelf with one model on it, and no shadows."""

    def __init__(self, served):
        self.served = served

    def names(self):
        """Its name."""
        return [self.served.maker.name]

    def take(self, _):
        """It."""
        return self.served

    def shadows(self, _):
        """None."""
        return []


class Shadows:
    """Those to whom a batch is offered."""

    def __init__(self):
        self.offered = []

    def offer(self, answered):
        """Taken note of."""
        self.offered.append(answered)


@pytest.fixture
def line(db, store, judge, shipped, pools):
    """Makes drains on the real database, blobs, decoders and network; closes them."""
    made = []
    free = list(pools)

    def make(worker="w1", db=db, judge=judge, ringer=None, models=None, shadows=None, **more):
        wanted = settings.Settings(**({"batch_size": 8, "linger_ms": 0, "drain_seconds": 30} | more))
        if not free:
            free.append(decoders.Decoders(2, shipped.preprocess, store, decoders.Limits(10, 768_000_000)))
            pools.append(free[0])
        pool = free.pop()
        maker = work.Maker(shipped.name, shipped.version, shipped.digest)
        served = shelf.Served(maker, judge, shipped.preprocess)
        shelf_ = models or OneModel(served)
        one = drain.Drain(wanted, worker, db, ringer or SilentBell(), pool, shelf_, shadows or Shadows(), SilentBell())
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def submit(db, owner, store, good):
    """Takes in a job of so many good pictures, with some that are bad, through the real intake."""

    def submit(count, *more, **fields):
        desk = intake.Intake(settings.Settings(), db, store, SilentBell())
        uploads = [intake.Upload(f"{n:03}.jpg", good(n)) for n in range(count)]
        return desk.create(
            making.order(owner, **fields), [*uploads, *(intake.Upload(name, data) for name, data in more)]
        ).id

    return submit


def held(db):
    """How many images are running."""
    return sum(status == "running" for status, _ in making.images(db).values())


def test_every_picture_of_a_job_gets_one_result(db, line, submit, good, shipped):
    """Good ones a label with the model that made it, bad ones a code; the job is done and nothing is left."""
    cut = good(99)[:2000]
    id_ = submit(30, ("cut.jpg", cut), ("text.jpg", b"text"))
    line().run()
    assert making.counts(db, id_) == {"done": 30, "failed": 2}
    assert making.results(db) == sorted(making.images(db))
    rows = db.read(lambda c: c.execute(sa.select(making.RESULTS).where(making.RESULTS.c.status == "done")).all())
    assert {row.label for row in rows} <= set(shipped.labels)
    assert {(row.model, row.model_version, row.model_digest) for row in rows} == {
        (shipped.name, shipped.version, shipped.digest)
    }
    assert all(0.5 <= row.confidence <= 1 and sum(row.scores.values()) == pytest.approx(1, abs=1e-4) for row in rows)
    assert making.view(db, id_).status == "done"


@pytest.fixture
def camera(tmp_path, db, owner, good):
    """A source, and a function that takes in a job of so many of its pictures, as the scanner does."""
    root = tmp_path / "camera"
    root.mkdir()

    def take(count):
        images = []
        for number in range(count):
            data, name = good(500 + number), f"{number:03}.jpg"  # sent by nobody: the store is that of all tests
            (root / name).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            images.append(incoming.NewImage(name, digest, len(data), source="camera", location=name))
        return db.write(jobs.create, making.order(owner), images)

    take.root = root
    return take


def test_pictures_by_reference_are_read_where_they_lie(db, line, camera, good, submit, store):
    """Each by itself: what was changed, has grown, is gone or has become a link fails; nothing becomes a blob."""
    id_ = camera(12)
    (camera.root / "001.jpg").write_bytes(good(77))
    (camera.root / "002.jpg").write_bytes(good(502) + b"more")
    (camera.root / "003.jpg").unlink()
    (camera.root / "004.jpg").rename(camera.root / "real.jpg")
    (camera.root / "004.jpg").symlink_to(camera.root / "real.jpg")
    sent = submit(3)
    line(sources=f"camera={camera.root}").run()
    image, result = making.IMAGES, making.RESULTS
    query = sa.select(image.c.name, result.c.error_code).join(result, result.c.image_id == image.c.id)
    failed = dict(map(tuple, db.read(lambda c: c.execute(query.where(result.c.error_code.is_not(None))).all())))
    assert failed == {
        "001.jpg": "blob_corrupt",
        "002.jpg": "blob_corrupt",
        "003.jpg": "blob_missing",
        "004.jpg": "blob_missing",
    }
    assert making.counts(db, id_) == {"done": 8, "failed": 4}
    assert making.counts(db, sent) == {"done": 3}
    assert not store.path(hashlib.sha256(good(505)).hexdigest()).exists()


def test_a_source_that_is_away_holds_up_nobody_else(db, line, camera, submit, monkeypatch):
    """Its pictures wait, no attempt is spent; those of others are done meanwhile, and its own when it is back."""
    id_ = camera(20)
    camera.root.rename(camera.root.parent / "away")
    sent = submit(12)
    one = line(sources=f"camera={camera.root}")
    one.run()
    one.run()
    assert making.counts(db, id_) == {"queued": 20}
    assert making.counts(db, sent) == {"done": 12}
    (camera.root.parent / "away").rename(camera.root)
    one.run()
    assert making.counts(db, id_) == {"queued": 20}, "it rests for a while"
    monkeypatch.setattr(one, "_resting", {})
    one.run()
    assert making.counts(db, id_) == {"done": 20}
    assert {attempt for _, attempt in making.images(db).values()} == {1}


def test_labels_are_those_of_the_model_itself(db, line, submit, good, shipped, judge):
    """The whole way gives what the network says of the same pixels."""
    submit(5)
    line().run()
    rows = db.read(
        lambda c: c.execute(sa.select(making.IMAGES.c.name, making.RESULTS.c.scores).join(making.RESULTS)).all()
    )
    for name, scores in rows:
        pixels = shipped.preprocess.pixels(good(int(name[:3])))
        alone = dict(zip(shipped.labels, judge.network.classify(pixels[None])[0], strict=True))
        assert scores == pytest.approx(alone, abs=1e-3)


def test_a_run_with_nothing_to_do_is_short_and_silent(db, line):
    """No ring, no write."""
    ringer = SilentBell()
    started = time.monotonic()
    line(ringer=ringer).run()
    assert time.monotonic() - started < 2
    assert ringer.rings == 0


def test_a_run_ends_in_time_and_rings_if_there_is_more(db, line, submit, judge):
    """So that Celery's own signals work between runs."""
    id_ = submit(60)
    ringer = SilentBell()
    one = line(ringer=ringer, drain_seconds=0.05, judge=Watched(judge, lambda _: time.sleep(0.05)))
    one.run()
    assert ringer.rings == 1
    assert 8 <= making.counts(db, id_)["done"] < 60
    assert held(db) == 0
    while ringer.rings:
        ringer.rings = 0
        one.run()
    assert making.counts(db, id_) == {"done": 60}


def test_each_batch_is_counted_with_the_reason_why_it_was_not_larger(db, line, submit):
    """The first goes at once; the next are full as long as there is enough, and the last has waited in vain."""
    submit(13)
    line(linger_ms=1).run()
    submit(3)
    line().run()
    submit(1)
    making.claim(db, worker="lost")
    making.let_leases_end(db)
    rescue.sweep(db, max_attempts=3)
    line().run()
    counts = db.read(tallies.totals)
    batches = {key[1:]: count for key, count in counts.items() if key[0] == "batches"}
    assert batches == {("full", "8"): 1, ("linger", "8"): 1, ("drain", "4"): 1, ("retry", "1"): 1}
    assert counts["batch_images", "linger"] == 5


def test_the_size_of_batches_follows_from_how_long_they_took(db, line, submit, judge):
    """Slow ones become smaller once the first is through, when the second is claimed already; the full ones say so."""
    watched = Watched(judge, lambda _: time.sleep(0.6))
    id_ = submit(170)
    one = line(judge=watched, batch_size="auto")
    assert one.batch_sizes() == {making.MODEL: 64}
    one.run()
    assert watched.batches == [64, 64, 32, 10]
    assert one.batch_sizes()[making.MODEL] < 32
    assert making.counts(db, id_) == {"done": 170}
    assert db.read(tallies.totals)["batch_images", "full"] == 160


def test_a_batch_is_no_larger_than_the_device_can_take(line, submit, judge, monkeypatch):
    """What a lack of memory has taught is not asked for again."""
    monkeypatch.setattr(judge, "_on_cpu", False)
    monkeypatch.setattr(judge, "most", 5)
    submit(64)
    one = line(batch_size="auto")
    one.run()
    assert one.batch_sizes() == {making.MODEL: 5}


def test_each_model_has_a_batch_size_of_its_own(db, line, submit, live):
    """One that is slow makes no batch of another smaller."""
    slow, quick = served("a-slow-one", before=lambda: time.sleep(0.6)), served("quick")
    for name in ("a-slow-one", "quick"):  # in this order, so that the decoders' own start is on the slow one's account
        live(name)
        submit(64, model=name)
    one = line(models=Several(slow, quick), batch_size="auto")
    one.run()
    assert one.batch_sizes()["a-slow-one"] == 32
    assert one.batch_sizes()["quick"] > 32


def test_a_second_run_at_once_returns_at_once(db, line, submit, judge):
    """The bell and the idle ring may come together."""
    inside, go = threading.Event(), threading.Event()

    def wait(_):
        inside.set()
        go.wait(10)

    submit(3)
    one = line(judge=Watched(judge, wait))
    thread = threading.Thread(target=one.run)
    thread.start()
    assert inside.wait(10)
    started = time.monotonic()
    one.run()
    assert time.monotonic() - started < 0.5
    go.set()
    thread.join(10)
    assert held(db) == 0


def test_two_workers_share_a_queue_without_sharing_an_image(db, line, submit):
    """One result each, by whichever."""
    id_ = submit(60)
    threads = [threading.Thread(target=line(f"w{n}").run) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    line("w3").run()
    assert making.counts(db, id_) == {"done": 60}
    assert len(making.results(db)) == 60


def test_a_worker_that_is_told_to_stop_finishes_or_hands_back(db, line, submit, judge):
    """After the run nothing is held; what was not classified waits, with its attempt given back."""
    id_ = submit(40)
    one = line(judge=Watched(judge, lambda _: one.stop()))
    one.run()
    assert held(db) == 0
    counts = making.counts(db, id_)
    assert 8 <= counts["done"] <= 16
    assert {attempt for status, attempt in making.images(db).values() if status == "queued"} == {0}


def test_a_worker_that_was_stopped_takes_nothing_new(db, line, submit):
    """A bell that is heard after the order to stop is for others."""
    submit(3)
    one = line()
    one.stop()
    one.run()
    assert set(making.images(db).values()) == {("queued", 0)}


def test_closing_waits_for_the_run_under_way(db, line, submit, judge):
    """A warm shutdown."""
    inside = threading.Event()

    def slow(_):
        inside.set()
        time.sleep(0.3)

    id_ = submit(30)
    one = line(judge=Watched(judge, slow))
    thread = threading.Thread(target=one.run)
    thread.start()
    inside.wait(10)
    one.close()
    assert held(db) == 0
    assert making.counts(db, id_)["done"] >= 8
    thread.join(5)
    assert not thread.is_alive()


def test_a_database_that_goes_away_before_the_commit_costs_nothing(db, line, submit, judge):
    """Two seconds away with results in hand: they are written when it is back, once, and without a second look."""
    trembling = Trembling(db)

    def away(batch):
        if batch == 1:
            trembling.away.set()
            threading.Timer(2, trembling.away.clear).start()

    id_ = submit(8)
    watched = Watched(judge, away)
    line(db=trembling, judge=watched).run()
    assert trembling.refused >= 2
    assert making.counts(db, id_) == {"done": 8}
    assert watched.batches == [8]
    assert {attempt for _, attempt in making.images(db).values()} == {1}


def test_a_database_that_stays_away_ends_the_run_and_the_images_are_rescued(db, line, submit, judge):
    """After the lease the images are another's; the worker itself goes on with what comes next."""
    trembling = Trembling(db)
    id_ = submit(8)
    one = line(db=trembling, judge=Watched(judge, lambda _: trembling.away.set()), lease_seconds=1)
    started = time.monotonic()
    one.run()
    assert time.monotonic() - started < 6
    assert one.in_hand() == []
    trembling.away.clear()
    time.sleep(0.2)
    assert rescue.sweep(db, max_attempts=3) == 8
    line("w2").run()
    assert making.counts(db, id_) == {"done": 8}


def test_blobs_that_are_away_hand_the_batch_back(db, line, submit, store, monkeypatch):
    """No picture is failed for an outage of ours, and no attempt is spent."""
    submit(8)
    one = line()

    def away(*_):
        raise errors.BlobsUnavailable("Away.")

    monkeypatch.setattr(one._decoders, "begin", away)
    one.run()
    assert set(making.images(db).values()) == {("queued", 0)}
    monkeypatch.undo()
    one.run()
    assert len(making.results(db)) == 8


def test_a_judge_that_breaks_down_costs_an_attempt_and_no_image_is_stuck(db, line, submit, judge):
    """A fault of ours in the middle: the batch goes to the rescue at once, and is tried again in parts."""

    def breaks(batch):
        if batch == 1:
            raise RuntimeError("a fault of the test's own")

    id_ = submit(20)
    one = line(judge=Watched(judge, breaks))
    one.run()
    assert one.in_hand() == []
    rescue.sweep(db, max_attempts=3)
    assert held(db) == 0
    while "queued" in making.counts(db, id_):
        one.run()
    assert making.counts(db, id_) == {"done": 20}


def test_a_poison_that_breaks_every_batch_is_found_and_fails_alone(db, line, submit, judge):
    """Eight together, then one by one: the neighbours are done, and the poison has failed at the cap."""

    class Poisoned(Watched):
        def fates(self, claims, pixels, outcomes):
            self.batches.append(len(claims))
            if any(claim.name == "003.jpg" for claim in claims):
                raise RuntimeError("a fault of the test's own")
            return self.judge.fates(claims, pixels, outcomes)

    id_ = submit(16)
    one = line(judge=Poisoned(judge))
    for _ in range(30):
        one.run()
        rescue.sweep(db, max_attempts=3)
        if making.view(db, id_).finished_at is not None:
            break
    assert making.counts(db, id_) == {"done": 15, "failed": 1}
    codes = db.read(lambda c: c.execute(sa.select(making.RESULTS.c.error_code)).scalars().all())
    assert collections.Counter(codes) == {None: 15, "worker_lost": 1}


def test_leases_of_what_is_in_hand_are_kept_and_of_nothing_else(db, line, submit, judge):
    """A slow batch is not rescued from under its worker."""
    during = []

    def slow(_):
        making.let_leases_end(db)
        renewed = db.write(work.renew, one.in_hand(), lease_seconds=30)
        during.append((renewed, rescue.sweep(db, max_attempts=3)))

    id_ = submit(8)
    one = line(judge=Watched(judge, slow))
    one.run()
    assert during == [(8, 0)]
    assert one.in_hand() == []
    assert making.counts(db, id_) == {"done": 8}


def test_late_results_are_fenced_out(db, line, submit, judge):
    """Frozen beyond its lease, thawed after another has finished: the zombie writes nothing."""

    def overslept(_):
        making.let_leases_end(db)
        rescue.sweep(db, max_attempts=3)
        line("heir").run()

    id_ = submit(5)
    line("zombie", judge=Watched(judge, overslept), drain_seconds=0.001).run()  # one batch
    assert making.counts(db, id_) == {"done": 5}
    assert len(making.results(db)) == 5
    assert {attempt for _, attempt in making.images(db).values()} == {2}


def test_standing_still_is_noticed(db, line, submit, judge):
    """A run that gets nothing done for so long is stuck; one that has ended is not."""
    seen = []

    def stuck(_):
        time.sleep(0.3)
        seen.append((one.stands_still(0.2), one.stands_still(60)))

    submit(2)
    one = line(judge=Watched(judge, stuck))
    assert not one.stands_still(0)
    one.run()
    assert seen == [(True, False)]
    assert not one.stands_still(0)


def test_the_count_of_what_was_done_is_taken_once(db, line, submit):
    """For the table of workers."""
    submit(5)
    one = line()
    one.run()
    assert [one.take_count(), one.take_count()] == [5, 0]


def test_the_first_batch_goes_at_once_and_the_next_waits_a_little_for_more(db, line, submit, judge):
    """Nobody waits for nothing; requests that come close together while others are at work are one batch."""
    watched = Watched(judge, lambda _: time.sleep(0.1))
    for first, batches in ((5, [3, 3]), (2, [3, 3, 2])):
        submit(first)
        late = threading.Timer(0.2, lambda: submit(1))
        late.start()
        line(judge=watched, batch_size=3, linger_ms=900).run()
        late.join()
        assert watched.batches[: len(batches)] == batches


def test_a_bell_on_a_redis_that_is_gone_does_not_hold_a_run_up(db, line, submit):
    """The real bell, nobody to hear it."""
    id_ = submit(10)
    one = line(ringer=bell.Bell(f"redis://127.0.0.1:{servers.free_port()}/0"), drain_seconds=0.001)
    started = time.monotonic()
    while "queued" in making.counts(db, id_):
        one.run()
    assert time.monotonic() - started < 5
    assert making.counts(db, id_) == {"done": 10}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # a lock on all of it is SQLite's own
def test_a_sqlite_that_another_writes_to_for_two_seconds_is_waited_for(database_url, db, line, submit, judge):
    """The results are committed when it lets go."""
    other = database.Database(database_url)

    def locked(_):
        held = threading.Event()

        def hold(_):
            held.set()
            time.sleep(2)

        thread = threading.Thread(target=other.write, args=(hold,))
        thread.start()
        held.wait(5)

    id_ = submit(8)
    line(judge=Watched(judge, locked)).run()
    assert making.counts(db, id_) == {"done": 8}
    other.close()


class Named:
    """A judge that calls every picture by a name, and may step in before."""

    room = 10**9

    def __init__(self, name, before=lambda: None):
        self.name = name
        self.before = before
        self.batches = []

    def fates(self, claims, pixels, _outcomes):
        """One fate for each."""
        self.batches.append((len(claims), pixels.shape[1]))
        self.before()
        return [work.Fate(claim, label=self.name, confidence=1.0, scores={}) for claim in claims]


class Several:
    """A shelf with several models, which a test may exchange."""

    def __init__(self, *served):
        self.served = {one.maker.name: one for one in served}
        self.away = set()

    def names(self):
        """Their names."""
        return sorted(self.served)

    def take(self, name):
        """One of them."""
        if name in self.away:
            raise errors.BlobsUnavailable("Away.")
        return self.served[name]


def served(name, version="1", size=24, before=lambda: None):
    """A version that calls every picture by its title."""
    judge = Named(f"{name}@{version}", before)
    return shelf.Served(work.Maker(name, version, "0" * 64), judge, preprocess.Preprocess(size, size))


def said(db):
    """For each title that pictures were called by, the versions that the results name, and how many."""
    columns = (making.RESULTS.c.label, making.RESULTS.c.model, making.RESULTS.c.model_version)
    query = sa.select(*columns, sa.func.count()).group_by(*columns)
    return {label: (f"{name}@{version}", count) for label, name, version, count in db.read(lambda c: c.execute(query))}


@pytest.fixture
def live(db):
    """Says that a model has a live version, so that jobs for it are taken in."""

    def live(name):
        db.write(models.settle, {"name": name, "version": "1", "digest": "0" * 64, "labels": ["a", "b"]})

    return live


def test_a_batch_is_of_one_model_and_models_take_turns(db, line, submit, live):
    """Two full queues: each model's pictures by its own judge at its own size, batch by batch."""
    live("a")
    live("b")
    a, b = served("a"), served("b", size=40)
    order = []
    a.judge.before, b.judge.before = (lambda: order.append("a")), (lambda: order.append("b"))
    submit(32, model="a")
    submit(32, model="b")
    line(models=Several(a, b)).run()
    assert order == ["a", "b"] * 4
    assert (a.judge.batches, b.judge.batches) == ([(8, 24)] * 4, [(8, 40)] * 4)
    assert said(db) == {"a@1": ("a@1", 32), "b@1": ("b@1", 32)}


def test_bulk_of_every_model_gets_its_turn(db, line, owner, store, good, live):
    """Every eighth batch of a model is its bulk's, however many models take turns."""
    live("a")
    live("b")
    desk = intake.Intake(settings.Settings(), db, store, SilentBell())
    for name in "ab":
        for kind, count in ((tables.Priority.BULK, 8), (tables.Priority.INTERACTIVE, 72)):
            uploads = [intake.Upload(f"{n:03}.jpg", good(n)) for n in range(count)]
            desk.create(making.order(owner, model=name, priority=kind), uploads)
    one = line(models=Several(served("a"), served("b")))
    one._settings = one._settings.model_copy(update={"drain_seconds": 0.0001})
    done = 0
    while done < 2 * 8 * 8:
        one.run()
        done = len(making.results(db))
    bulk = sa.select(making.IMAGES.c.model, sa.func.count()).join(making.RESULTS)
    bulk = bulk.where(making.IMAGES.c.priority == tables.Priority.BULK.value).group_by(making.IMAGES.c.model)
    assert {name for name, _ in db.read(lambda c: c.execute(bulk).all())} == {"a", "b"}


def test_a_batch_ends_with_the_version_that_it_began_with(db, line, submit, live):
    """Versions change while batches are at work: each batch is of one, and its results name the one that made them."""
    live("a")
    shelf_ = Several(served("a"))
    batches = []

    def swap():
        now = shelf_.served["a"].maker.version
        batches.append(now)
        after = served("a", str(int(now) + 1), size=24 + 8 * (int(now) % 2), before=swap)
        shelf_.served["a"] = after

    shelf_.served["a"].judge.before = swap
    submit(80, model="a")
    line(models=shelf_).run()
    labels = said(db)
    assert sum(count for _, count in labels.values()) == 80
    assert len(labels) > 3
    for label, (title, count) in labels.items():
        assert label == title
        assert count % 8 == 0


def test_a_model_that_cannot_be_had_keeps_no_other_waiting(db, line, submit, live):
    """Its pictures are handed back, with their attempts, and the others are answered."""
    live("a")
    live("b")
    both = Several(served("a"), served("b"))
    both.away.add("a")
    submit(8, model="a")
    submit(24, model="b")
    one = line(models=both)
    for _ in range(10):
        one.run()
    assert said(db) == {"b@1": ("b@1", 24)}
    columns = (making.IMAGES.c.model, making.IMAGES.c.status, making.IMAGES.c.attempt)
    assert set(db.read(lambda c: c.execute(sa.select(*columns)).all())) == {("a", "queued", 0), ("b", "done", 1)}
    both.away.clear()
    one.run()
    one.run()
    assert said(db)["a@1"] == ("a@1", 8)


def test_shadows_are_offered_what_was_committed(db, line, submit, judge):
    """After the results are there, with the pixels; and nothing of a batch that was lost to another."""
    looks = []

    class Looking(Shadows):
        def offer(self, answered):
            super().offer(answered)
            looks.append(len(making.results(db)))

    candidates = Looking()
    submit(16)
    line(shadows=candidates).run()
    assert looks == [8, 16]
    assert [len(each.claims) for each in candidates.offered] == [8, 8]
    assert candidates.offered[0].pixels.shape[0] == 8


class Held:
    """Decoders that decode nothing before the test says so, and tell how much waits for them."""

    def __init__(self, pool):
        self.pool = pool
        self.moved_at = 0.0
        self.at_once = pool.at_once
        self.waiting = []
        self.most = 0

    def begin(self, sha256s, how, stop, readers):
        """As the real ones, later."""
        batch = concurrent.futures.Future()
        self.waiting.append((batch, (sha256s, how, stop, readers)))
        self.most = max(self.most, sum(not batch.done() for batch, _ in self.waiting))
        return batch

    def let_go(self, which=0):
        """Decode the first of what waits, or another."""
        batch, order = self.waiting.pop(which)
        batch.set_result(self.pool.begin(*order).result())


def until(condition):
    """Wait for it."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_few_batches_are_claimed_before_the_first_is_decoded(db, line, submit):
    """While the network waits for the decoders two or three full batches are in line, and no more."""
    for size, most in ((8, 3), (32, 2)):
        id_ = submit(5 * size)
        one = line(batch_size=size)
        one._decoders = held_up = Held(one._decoders)
        running = threading.Thread(target=one.run, daemon=True)
        running.start()
        until(lambda: len(held_up.waiting) == most)  # noqa: B023 (it is over within the round)
        time.sleep(0.1)
        assert held(db) == len(one.in_hand()) == most * size
        while running.is_alive():
            if held_up.waiting:
                held_up.let_go()
            time.sleep(0.005)
        assert held_up.most == most
        assert making.counts(db, id_) == {"done": 5 * size}
        one._decoders = held_up.pool


def test_nothing_is_claimed_ahead_of_a_batch_that_is_not_full(db, line, submit):
    """What comes meanwhile goes together in the next, when the network has something to do."""
    submit(3)
    one = line()
    one._decoders = held_up = Held(one._decoders)
    running = threading.Thread(target=one.run, daemon=True)
    running.start()
    until(lambda: held_up.waiting)
    submit(2)
    submit(3)
    time.sleep(0.1)
    assert len(one.in_hand()) == 3
    held_up.let_go()
    until(lambda: held_up.waiting)
    held_up.let_go()
    running.join(10)
    counts = db.read(tallies.totals)
    assert {key[2]: count for key, count in counts.items() if key[0] == "batches"} == {"4": 1, "8": 1}
    one._decoders = held_up.pool


def test_all_that_is_in_line_is_handed_back_at_once_when_the_worker_is_to_stop(db, line, submit, judge):
    """Also what is decoded already, beyond the batch at hand; no attempt is spent on it."""
    id_ = submit(40)
    one = line(judge=Watched(judge, lambda _: one.stop()))
    one._decoders = held_up = Held(one._decoders)
    running = threading.Thread(target=one.run, daemon=True)
    running.start()
    until(lambda: len(held_up.waiting) == 3)
    for _ in range(3):
        held_up.let_go(-1)
    running.join(10)
    assert held(db) == 0
    assert one.in_hand() == []
    assert making.counts(db, id_) == {"done": 8, "queued": 32}
    assert {attempt for status, attempt in making.images(db).values() if status == "queued"} == {0}
    one._decoders = held_up.pool
