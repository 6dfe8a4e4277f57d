"""The bundles that ship with the project are fit for use."""

from pathlib import Path

import pytest

from model import bundle as bundles
from model import classifier, manifest, selftest

SHIPPED = sorted(path.parent for path in Path(manifest.__file__).parent.glob("bundles/*/model.json"))


def test_there_is_one_that_knows_sushi_from_sandwiches():
    assert "sushi-or-sandwich" in [manifest.read(folder).name for folder in SHIPPED]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_it_loads_passes_its_self_test_and_has_a_card(folder):
    loaded = bundles.load(folder)

    assert loaded.name == folder.name
    assert selftest.check(classifier.Classifier(loaded, "cpu")) < selftest.BFLOAT16_TOLERANCE
    assert loaded.labels == tuple(sorted(loaded.labels))
    assert "Weaknesses" in (folder / manifest.CARD).read_text("utf-8")
    assert loaded.manifest.metrics
