"""A short run of the fuzzer, and hypothesis on the same target."""

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.fuzz import decoder_target, mutations

mutated_images = st.builds(
    lambda rng, image_format, suffix: mutations.mutate(mutations.make_valid_image(image_format, rng), rng) + suffix,
    st.randoms(use_true_random=False),
    st.sampled_from(mutations.FORMATS),
    st.binary(max_size=20),
)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """The header check and decoder processes of the product."""
    decoder = decoder_target.DecoderTarget(tmp_path_factory.mktemp("fuzz"))
    yield decoder
    decoder.close()


@pytest.mark.parametrize("seed", range(10))
def test_mutated_images_are_decoded_or_rejected(target, seed):
    """Decode 64 mutated images, the same in every run: pixels or a known code, in time, and no decoder dies."""
    assert target.feed(mutations.generate(seed, 64)) == []


@hypothesis.settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # it measures the machine, not the code
)
@hypothesis.given(data=mutated_images | st.binary(max_size=200))
def test_whatever_hypothesis_finds_is_decoded_or_refused(target, data):
    """Let hypothesis search for the smallest image that breaks the decoder."""
    assert target.feed([data]) == []


def test_the_fuzzer_gets_past_the_header_check(target):
    """A fuzzer whose images are all rejected early would test nothing: both outcomes occur."""
    target.feed(mutations.generate(99, 64))
    assert target.outcome_counts[None] > 10
    assert target.outcome_counts["undecodable"] > 10
    assert target.outcome_counts["header: ok"] > 20
