"""A short run of the fuzzer, and hypothesis at the same door."""

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.fuzz import door, mutations

pictures = st.builds(
    lambda seed, form, more: mutations.bent(mutations.good(form, seed), seed) + more,
    st.randoms(use_true_random=False),
    st.sampled_from(mutations.FORMS),
    st.binary(max_size=20),
)


@pytest.fixture(scope="module")
def knocked(tmp_path_factory):
    """The door."""
    one = door.Door(tmp_path_factory.mktemp("fuzz"))
    yield one
    one.close()


@pytest.mark.parametrize("seed", range(10))
def test_bent_pictures_are_decoded_or_refused(knocked, seed):
    """Six hundred, always the same: pixels or a known code, in time; no decoder dies."""
    assert knocked.knock(mutations.some(seed, 64)) == []


@hypothesis.settings(max_examples=150, deadline=None, database=None, derandomize=True)
@hypothesis.given(data=pictures | st.binary(max_size=200))
def test_whatever_hypothesis_finds_is_decoded_or_refused(knocked, data):
    """It looks for the smallest picture that breaks the door."""
    assert knocked.knock([data]) == []


def test_the_fuzzer_gets_past_the_header(knocked):
    """A fuzzer of which nothing is decoded tries nothing: both ends are seen."""
    list(map(knocked.knock, [mutations.some(99, 64)]))
    assert knocked.seen[None] > 10
    assert knocked.seen["undecodable"] > 10
    assert knocked.seen["header: fine"] > 20
