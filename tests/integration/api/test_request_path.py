"""The length of a request's way through our code is bounded."""

from benchmarks import request_path

# With those of the job writer, for which the view does not wait: four check the host, ten let keys take turns and share
# the disk.
MAX_CALLS = 143
MAX_FILES = 42  # one of them notices a deleted database, six hand over to the job writer, in turns, and back


def test_a_warm_submission_calls_few_functions_in_few_files(tmp_path):
    """A reader has to follow all of them: a change that raises these bounds needs a reason."""
    path = request_path.measure(tmp_path)
    assert 50 < len(path.calls) <= MAX_CALLS
    assert len(path.files) <= MAX_FILES
    assert path.file_changes < len(path.calls)
