import os

from hypothesis import given
from hypothesis import strategies as st

from sortbelt.files import file_names


@given(st.binary(min_size=1, max_size=30).map(os.fsdecode), st.binary(min_size=1, max_size=30).map(os.fsdecode))
def test_two_files_never_have_one_name(first, second):
    """Whatever bytes their names have; and each name leads back to its file."""
    assert (file_names.escape_name(first) == file_names.escape_name(second)) == (first == second)
    assert file_names.unescape_name(file_names.escape_name(first)) == first
    file_names.escape_name(first).encode()


def test_ordinary_names_stay_as_they_are():
    """Letters of any script, composed or not."""
    for name in ("a.jpg", "Zürich.jpg", "Zu\u0308rich.jpg", "寿司.jpg", "100 %.jpg", "a'\"b.jpg"):
        assert file_names.escape_name(name) == name


def test_odd_characters_are_escaped_as_in_a_program():
    """So that a person can read them."""
    names = {"a\nb": "a\\nb", "a\\nb": "a\\\\nb", "\x1b": "\\x1b", "\x85": "\\x85"}
    names[os.fsdecode(b"caf\xe9")] = "caf\\udce9"
    assert {name: file_names.escape_name(name) for name in names} == names


def test_a_name_is_limited_in_characters_and_in_bytes():
    """The limit in bytes is what an index of PostgreSQL takes."""
    for name in ("", "x" * 1024, "字" * 866 + "xx", "é" * 1024):
        assert not file_names.is_too_long(name)
    for name in ("x" * 1025, "字" * 867, "\U0002070e" * 651):
        assert file_names.is_too_long(name)


def test_a_name_that_a_caller_has_chosen_stays_if_it_can_be_stored():
    """It comes back as it was given."""
    assert file_names.storable_name("a\\nb") == "a\\nb"
    assert file_names.storable_name("a\nb\0\\") == "a\\nb\\x00\\\\"
