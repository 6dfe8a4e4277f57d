import random

from hypothesis import example, given
from hypothesis import strategies as st

from worker import pace

BATCHES = st.lists(
    st.tuples(
        st.integers(1, 4096),
        st.floats(0, 1e6, allow_nan=False),
        st.integers(1, 4096),
    ),
    max_size=50,
)


def settled(overhead, each, batches=40, noise=0.0, target=pace.TARGET_SECONDS):
    """The sizes of full batches of pictures that take so long each, and so long together whatever their number."""
    one, luck, sizes = pace.Pace(target), random.Random(0), []  # noqa: S311 (the same every time)
    for _ in range(batches):
        sizes.append(one.size)
        one.note(one.size, (overhead + each * one.size) * luck.uniform(1 - noise, 1 + noise))
    return sizes


@given(BATCHES)
def test_whatever_is_measured_the_size_stays_within_its_bounds_and_moves_by_a_factor_of_two(batches):
    """Neither a clock that jumps nor a device that is small leads out of them; only the device's bound acts at once."""
    one = pace.Pace()
    for pictures, seconds, most in batches:
        before = one.size
        one.note(pictures, seconds, most)
        assert min(pace.LEAST, most) <= one.size <= max(most, 1)
        assert min(before // 2, most) <= one.size <= max(before * 2, pace.LEAST)


@given(st.floats(0, 0.02), st.floats(1e-4, 0.02))
@example(0.0, 0.004)
def test_it_settles_where_a_batch_takes_the_target_time(overhead, each):
    """Where `overhead + size * each` is the target, to the next multiple of 8; or at a bound, if it is beyond one."""
    size = settled(overhead, each)[-1]
    fitting = (pace.TARGET_SECONDS - overhead) / each
    assert abs(size - min(max(fitting, pace.LEAST), pace.MOST)) <= 8
    assert size % 8 == 0


def test_a_fast_device_is_met_in_a_few_batches_and_a_slow_one_too():
    """From 64 up to the bound in four, or down to the least in three."""
    assert settled(0.002, 0.0001)[:6] == [64, 128, 256, 512, 1024, 1024]
    assert settled(0.002, 0.04)[:4] == [64, 32, 16, 16]


def test_measures_that_differ_by_half_leave_it_calm():
    """The middle of the last ones counts."""
    sizes = settled(0.01, 0.004, 200, noise=0.5)[20:]
    assert min(sizes) >= 40
    assert max(sizes) <= 100


def test_two_slow_batches_change_nothing_and_the_third_does():
    """Somebody else had the disk, or the graphs were captured; but if it lasts, it is so."""
    one = pace.Pace()
    for _ in range(pace.LATELY):
        one.note(one.size, one.size * 0.004)
    before = one.size
    for _ in range(2):
        one.note(one.size, 20.0)
    assert one.size == before
    one.note(one.size, 20.0)
    assert one.size == before // 2


def test_a_small_batch_says_nothing_of_large_ones_unless_it_is_slow():
    """One picture takes what a batch costs whatever its size; but ten that take a second are too many."""
    one = pace.Pace()
    for _ in range(10):
        one.note(1, 0.02)
    assert one.size == pace.FIRST
    for _ in range(3):
        one.note(10, 1.0)
    assert one.size == 16


def test_a_batch_fits_the_memory_of_the_worker_and_of_the_device():
    """By the bytes of its pixels, by what the device has turned out to take, and at least one."""
    assert pace.most(160 * 160 * 3, 10**9) == pace.MOST
    assert pace.most(512 * 512 * 3, 10**9) == 122
    assert pace.most(160 * 160 * 3, 100) == 100
    assert pace.most(16_384**2 * 3, 10**9) == 1
    one = pace.Pace()
    one.note(64, 0.1, 5)
    assert one.size == 5
