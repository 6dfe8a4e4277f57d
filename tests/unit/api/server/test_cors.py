import asyncio

import pytest

from api.app import create_app
from api.server import cors
from core import settings, specs

APP = "https://app.example"


def scope(method="GET", **headers):
    return {"method": method, "headers": [(name.replace("_", "-").encode(), v.encode()) for name, v in headers.items()]}


def response_headers(policy, request):
    """The headers that a response to this request gets."""
    sent = []

    async def send(message):
        sent.append(message)

    start = {"type": "http.response.start", "status": 200, "headers": [(b"etag", b"x")]}
    asyncio.run(policy.wrap(request, send)(start))
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def test_a_listed_app_may_read_responses_and_never_sends_credentials():
    """Its origin is repeated, and caches keep the responses apart."""
    headers = response_headers(cors.CorsPolicy([APP]), scope(origin=APP))
    assert headers["access-control-allow-origin"] == APP
    assert headers["vary"] == "Origin"
    assert "Location" in headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    "origin", ["https://app.example.evil", "http://app.example", "null", "https://app.example:444"]
)
def test_another_app_may_not(origin):
    """A response without the header is not shown to it; the question whether it may send is not answered with yes."""
    policy = cors.CorsPolicy([APP])
    assert "access-control-allow-origin" not in response_headers(policy, scope(origin=origin))
    assert policy.preflight(scope("OPTIONS", origin=origin, access_control_request_method="POST")) is None


def test_the_preflight_of_a_listed_app_is_answered():
    """With the methods and headers of the API; any other request is left to the views."""
    policy = cors.CorsPolicy([APP])
    response = policy.preflight(scope("OPTIONS", origin=APP, access_control_request_method="POST"))
    headers = {name.decode(): value.decode() for name, value in response.headers}
    assert response.status == 204
    assert "Authorization" in headers["access-control-allow-headers"]
    used = {method for rule in create_app(settings.Settings()).url_map.iter_rules() for method in rule.methods}
    assert set(headers["access-control-allow-methods"].split(", ")) == used - {"HEAD", "OPTIONS"}
    assert policy.preflight(scope("OPTIONS", origin=APP)) is None
    assert policy.preflight(scope("POST", origin=APP, access_control_request_method="POST")) is None


def test_by_default_no_app_may():
    """And responses are as without the feature."""
    policy = cors.CorsPolicy()
    assert response_headers(policy, scope(origin=APP)) == {"etag": "x"}
    assert policy.preflight(scope("OPTIONS", origin=APP, access_control_request_method="POST")) is None


def test_a_star_lists_every_app():
    """For an API that is meant for all; there are no cookies that it could misuse."""
    assert response_headers(cors.CorsPolicy(["*"]), scope(origin=APP))["access-control-allow-origin"] == APP


@pytest.mark.parametrize("value", ["app.example", "https://app.example/", "https://", "ftp://x", "https://a b", "null"])
def test_what_is_no_origin_is_refused(value):
    """A path would never match."""
    with pytest.raises(ValueError, match="is not an origin"):
        specs.parse_origins(value)
