"""Fixtures of the worker tests."""

import pytest

from core import settings
from core.db.queries import claims as claim_queries
from core.db.queries import environments, models
from core.intake import service
from core.storage import local
from model.inference import classifier as model_classifier
from tests.integration.worker import fakes
from tests.support import factories
from tests.support.worker_fixtures import (  # noqa: F401 (pytest finds fixtures by their names here)
    blob_store,
    make_jpeg,
    put_blob,
    shipped_bundle,
)
from worker import inference, pipeline
from worker.decoding import decoder_pool, decoder_process
from worker.models import loaded_model


@pytest.fixture(scope="package")
def batch_classifier(shipped_bundle):  # noqa: F811 (a fixture)
    """Load the shipped network."""
    return inference.BatchClassifier(model_classifier.Classifier(shipped_bundle, "cpu"))


@pytest.fixture(scope="package")
def shared_decoder_pools():
    """Share decoder pools between tests, since children take long to start."""
    pools = []
    yield pools
    for pool in pools:
        pool.close()


@pytest.fixture(scope="package")
def shared_blob_store(tmp_path_factory):
    """Share a blob store between the tests of the pipeline: blobs are named by their content."""
    return local.LocalBlobStore(tmp_path_factory.mktemp("blobs"))


@pytest.fixture
def make_pipeline(db, shared_blob_store, batch_classifier, shipped_bundle, shared_decoder_pools):  # noqa: F811
    """Make pipelines on the real database, blobs, decoders and network; close them at the end."""
    pipelines = []
    free_pools = list(shared_decoder_pools)
    environment_id = factories.create_environment(db)

    def make(
        worker="w1",
        db=db,
        classifier=batch_classifier,
        wakeup_sender=None,
        manager=None,
        shadow=None,
        wrap_pool=lambda pool: pool,
        **settings_fields,
    ):
        if not free_pools:
            limits = decoder_process.DecodeLimits(10, 768_000_000)
            free_pools.append(decoder_pool.DecoderPool(2, shipped_bundle.preprocess, shared_blob_store, limits))
            shared_decoder_pools.append(free_pools[0])
        model_ref = claim_queries.ModelRef(shipped_bundle.name, shipped_bundle.version, shipped_bundle.digest)
        loaded = loaded_model.LoadedModel(model_ref, classifier, shipped_bundle.preprocess)
        pipelines.append(
            pipeline.BatchPipeline(
                settings.Settings(**({"batch_size": 8, "linger_ms": 0, "task_seconds": 30} | settings_fields)),
                worker,
                db,
                wakeup_sender or fakes.FakeWakeupSender(),
                wrap_pool(free_pools.pop()),
                manager or fakes.FakeModelManager(loaded),
                shadow or fakes.FakeShadowRunner(),
                fakes.FakeJobEvents(),
                environment_id,
                environments.Environment(**factories.ENVIRONMENT),
            )
        )
        return pipelines[-1]

    yield make
    for each in pipelines:
        each.close()


@pytest.fixture
def submit_job(db, owner, shared_blob_store, make_jpeg):  # noqa: F811
    """Submit a job of `count` good images, and other files, through the real intake; return its id."""

    def submit(count, *other_files, key=owner, **fields):
        intake = service.SubmissionService(settings.Settings(), db, shared_blob_store, fakes.FakeWakeupSender())
        files = [*((f"{n:03}.jpg", make_jpeg(n)) for n in range(count)), *other_files]
        uploads = [service.Upload(name, data) for name, data in files]
        return factories.submit_job(intake, factories.new_job(key, **fields), uploads).id

    return submit


@pytest.fixture
def register_model(db):
    """Register a model with a live version, so that jobs for it are accepted."""

    def register(name):
        db.write(models.register_bundled, {"name": name, "version": "1", "digest": "0" * 64, "labels": ["a", "b"]})

    return register
