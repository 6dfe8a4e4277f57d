import random

from hypothesis import example, given
from hypothesis import strategies as st

from worker import batch_sizer

BATCHES = st.lists(
    st.tuples(
        st.integers(1, 4096),
        st.floats(0, 1e6, allow_nan=False),
        st.integers(1, 4096),
    ),
    max_size=50,
)


def settled(overhead, per_image, batches=40, noise=0.0, target=batch_sizer.TARGET_SECONDS):
    """Return the sizes of successive full batches that take `overhead + size * per_image` seconds."""
    sizer, rng, sizes = batch_sizer.AdaptiveBatchSizer(target), random.Random(0), []  # noqa: S311 (the same every time)
    for _ in range(batches):
        sizes.append(sizer.size)
        sizer.observe(sizer.size, (overhead + per_image * sizer.size) * rng.uniform(1 - noise, 1 + noise))
    return sizes


@given(BATCHES)
def test_for_any_timings_the_size_stays_within_its_bounds_and_changes_by_a_factor_of_two(batches):
    """Even with a jumping clock or a small device; only the device capacity acts at once."""
    sizer = batch_sizer.AdaptiveBatchSizer()
    for images, seconds, max_size in batches:
        before = sizer.size
        sizer.observe(images, seconds, max_size)
        assert min(batch_sizer.MIN_SIZE, max_size) <= sizer.size <= max(max_size, 1)
        assert min(before // 2, max_size) <= sizer.size <= max(before * 2, batch_sizer.MIN_SIZE)


@given(st.floats(0, 0.02), st.floats(1e-4, 0.02))
@example(0.0, 0.004)
def test_it_settles_where_a_batch_takes_the_target_time(overhead, per_image):
    """Where `overhead + size * per_image` is the target, to a multiple of 8; or at a bound."""
    size = settled(overhead, per_image)[-1]
    fitting = (batch_sizer.TARGET_SECONDS - overhead) / per_image
    assert abs(size - min(max(fitting, batch_sizer.MIN_SIZE), batch_sizer.MAX_SIZE)) <= 8
    assert size % 8 == 0


def test_it_adapts_to_fast_and_slow_devices_in_a_few_batches():
    """From 64 up to the maximum in four batches, or down to the minimum in three."""
    assert settled(0.002, 0.0001)[:6] == [64, 128, 256, 512, 1024, 1024]
    assert settled(0.002, 0.04)[:4] == [64, 32, 16, 16]


def test_timings_that_vary_by_half_do_not_make_it_oscillate():
    """The median of the recent ones counts."""
    sizes = settled(0.01, 0.004, 200, noise=0.5)[20:]
    assert min(sizes) >= 40
    assert max(sizes) <= 100


def test_two_slow_batches_change_nothing_and_a_third_does():
    """Two may be outliers: a busy disk, or CUDA graphs being captured."""
    sizer = batch_sizer.AdaptiveBatchSizer()
    for _ in range(batch_sizer.WINDOW):
        sizer.observe(sizer.size, sizer.size * 0.004)
    before = sizer.size
    for _ in range(2):
        sizer.observe(sizer.size, 20.0)
    assert sizer.size == before
    sizer.observe(sizer.size, 20.0)
    assert sizer.size == before // 2


def test_a_small_batch_is_ignored_unless_it_is_slow():
    """The time of one image is mostly overhead; but ten that take a second are too many."""
    sizer = batch_sizer.AdaptiveBatchSizer()
    for _ in range(10):
        sizer.observe(1, 0.02)
    assert sizer.size == batch_sizer.INITIAL_SIZE
    for _ in range(3):
        sizer.observe(10, 1.0)
    assert sizer.size == 16


def test_a_batch_fits_the_memory_of_the_worker_and_of_the_device():
    """By the bytes of its pixels and by the device capacity; but it has at least one image."""
    assert batch_sizer.limit(160 * 160 * 3, 10**9) == batch_sizer.MAX_SIZE
    assert batch_sizer.limit(512 * 512 * 3, 10**9) == 122
    assert batch_sizer.limit(160 * 160 * 3, 100) == 100
    assert batch_sizer.limit(16_384**2 * 3, 10**9) == 1
    sizer = batch_sizer.AdaptiveBatchSizer()
    sizer.observe(64, 0.1, 5)
    assert sizer.size == 5


def test_a_fixed_size_is_never_adapted():
    sizers = batch_sizer.BatchSizers(48, lease_seconds=15)
    sizers.observe("a", 48, 100.0, 16)
    assert sizers.size("a") == 48


def test_each_model_adapts_by_itself():
    sizers = batch_sizer.BatchSizers("auto", lease_seconds=15)
    for _ in range(3):
        sizers.observe("slow", sizers.size("slow"), 20.0, 1024)
    assert sizers.size("slow") < sizers.size("other") == batch_sizer.INITIAL_SIZE


def test_a_batch_takes_a_small_part_of_a_short_lease():
    """With a lease of 0.8 s the target is 0.1 s."""
    sizers = batch_sizer.BatchSizers("auto", lease_seconds=0.8)
    for _ in range(10):
        sizers.observe("a", sizers.size("a"), 0.002 * sizers.size("a"), 1024)
    assert sizers.size("a") == 48
