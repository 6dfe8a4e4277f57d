"""The shipped bundles are fit for use."""

from pathlib import Path

import pytest

from model.inference import classifier, selftest
from model.packaging import bundle as bundles
from model.packaging import manifest

SHIPPED = sorted(path.parent for path in Path(manifest.__file__).parents[1].glob("bundles/*/model.json"))


def test_the_default_bundle_is_shipped():
    assert "sushi-or-sandwich" in [manifest.read(folder).name for folder in SHIPPED]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_each_bundle_loads_passes_its_self_test_and_has_a_card(folder):
    loaded = bundles.load(folder)

    assert loaded.name == folder.name
    assert selftest.check(classifier.Classifier(loaded, "cpu")) < selftest.BFLOAT16_TOLERANCE
    assert loaded.labels == tuple(sorted(loaded.labels))
    assert "Limitations" in (folder / manifest.CARD_FILE).read_text("utf-8")
    assert loaded.manifest.metrics
