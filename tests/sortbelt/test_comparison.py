import tracemalloc

from sortbelt import comparison, records


def result(image, label, confidence=0.5):
    return records.Result.read(
        {"image": image, "job_id": "j", "status": "done", "label": label, "confidence": confidence}
    )


def test_what_changed_and_what_is_alone_is_told():
    first = [result("same", "a", 0.9), result("other", "a", 0.8), result("gone", "b"), result("failed", None, None)]
    second = [result("new", "b"), result("other", "b", 0.6), result("same", "a", 0.7), result("failed", "a", 0.5)]
    both = comparison.Comparison()

    found = list(both.differences(first, second))

    assert found == [
        comparison.Difference("new", "only in the second", after=("b", 0.5)),
        comparison.Difference("other", "changed", ("a", 0.8), ("b", 0.6)),
        comparison.Difference("failed", "changed", (None, None), ("a", 0.5)),
        comparison.Difference("gone", "only in the first", before=("b", 0.5)),
    ]
    assert both.counts == {"same": 1, "changed": 2, "only in the first": 1, "only in the second": 1}


def test_memory_does_not_grow_with_the_jobs():
    peaks = []
    for size in (2_000, 20_000):
        tracemalloc.start()
        first, second = ((result(str(n), "a") for n in range(size)) for _ in range(2))
        assert not list(comparison.Comparison().differences(first, second))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 1.2 * peaks[0]
