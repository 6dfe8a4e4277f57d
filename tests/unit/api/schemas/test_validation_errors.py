"""Messages about values: the descriptions of what is expected."""

import importlib
import json
import pkgutil

import pytest

from api import schemas
from api.schemas import base, job_requests, json_schema, result_requests, review_requests, validation_errors
from core import errors, json_values


def request_models():
    """Return all request schemas."""
    for module in pkgutil.iter_modules(schemas.__path__):
        importlib.import_module(f"api.schemas.{module.name}")
    models = [base.RequestModel]
    for model in models:
        models += model.__subclasses__()
    return models


def described_values(schema, location=()):
    """Yield the place and the description of each value of a request."""
    schema = json_schema.non_null(schema)
    for name, field in schema.get("properties", {}).items():
        yield from described_values(field, (*location, name))
    for kind in ("items", "additionalProperties"):
        if isinstance(schema.get(kind), dict):
            yield from described_values(schema[kind], (*location, kind))
    if location:
        yield ".".join(location), validation_errors.expected_value(schema)


def test_every_value_is_described_as_the_end_of_a_sentence():
    """As in "it must be …": not the sentence of a class, and not cut in brackets or code."""
    values = {
        f"{model.__name__}.{place}": expected
        for model in request_models()
        for place, expected in described_values(json_schema.body_schema(model))
    }
    assert values["ResultListQuery.order"].endswith("(the least familiar first)")
    assert len(values) > 100
    for place, expected in values.items():
        assert expected[0].islower() or expected[0].isdecimal(), place
        assert not expected.endswith("."), place
        assert expected.count("(") == expected.count(")"), place
        assert expected.count("`") % 2 == 0, place


@pytest.mark.parametrize(
    ("model", "values", "detail"),
    [
        (review_requests.QueueQuery, {"strategy": "x"}, "strategy='x' is not acceptable: it must be one of least_conf"),
        (
            result_requests.ResultListQuery,
            {"order": "x"},
            "it must be newest (default; the latest first), conf",
        ),
        (
            job_requests.ImageReferences,
            {"images": [7]},
            "images[0]=7 is not acceptable: it must be an object with name",
        ),
        (
            review_requests.ReviewRequest,
            {},
            "label is missing: it must be a label of the model, or the verdict none_of",
        ),
        (review_requests.ReviewRequest, {"label": None}, "label=null is not acceptable: it must be a label of the mod"),
        (job_requests.DiffQuery, {"only_in_one": "perhaps"}, "only_in_one='perhaps' is not acceptable: it must be tr"),
        (
            job_requests.JobChange,
            {"name": {"ü": [True]}},
            'name={"ü": [true]} is not acceptable: it must be a name for',
        ),
        (job_requests.JobChange, {"name": "\ud800"}, "it must not contain half of a surrogate pair, such as \\ud800"),
        (job_requests.JobChange, {"name": ["\ud800"]}, 'name=["\\ud800"] is not acceptable: it must be a name for'),
        (job_requests.JsonSubmission, {"metadata": {"a": "\ud800"}}, "it must not contain half of a surrogate pair"),
        (job_requests.JsonSubmission, {"metadata": {"a": 1e999}}, "a number too large for a 64-bit float"),
    ],
)
def test_a_message_names_the_value_as_it_was_sent(model, values, detail):
    """In the caller's words, and not in Python's."""
    with pytest.raises(errors.BadParameter) as raised:
        model.parse(values)
    assert detail in raised.value.detail
    raised.value.detail.encode()


@pytest.mark.parametrize(
    ("model", "values", "pointer"),
    [
        (job_requests.JobChange, {"\ud800": 1}, "#/%3F"),
        (job_requests.JobChange, {"ü/~\udfff": 1}, "#/%C3%BC~1~0%3F"),
    ],
)
def test_an_unknown_name_may_be_half_of_a_surrogate_pair(model, values, pointer):
    """JSON can contain it, and UTF-8 cannot: a question mark stands for it in the pointer."""
    with pytest.raises(errors.BadParameter) as raised:
        model.parse(values)
    assert [(fault.pointer, fault.code) for fault in raised.value.faults] == [(pointer, "unknown_field")]
    raised.value.detail.encode()


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("[" + "1" * 5000 + "]", "^a number has 5,000 digits, and may have 1,000$"),
        ("[" * 100_000, "^it is nested too deeply$"),
        ("NaN", "^NaN is not JSON$"),
    ],
)
def test_json_that_python_cannot_read_is_refused_in_the_words_of_json(text, detail):
    """None of Python's limits is named."""
    with pytest.raises(ValueError, match=detail):
        json_values.parse_json(text)
    assert json_values.parse_json(json.dumps(10**999)) == 10**999
