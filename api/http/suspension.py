"""Suspended requests: a view that would have to wait hands over a future instead, and its thread is free meanwhile.

The rest of the request runs when the future is done: the error handlers and hooks of Flask see one request.
"""

import contextlib
import contextvars
from collections.abc import Callable, Generator, Iterable
from concurrent import futures
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import flask
from flask import globals  # noqa: A004 (a module)
from werkzeug import datastructures, routing

from core.concurrency import blocking_call

SUSPEND_KEY = "sortbelt.suspend"
"""The key in the WSGI environment of a function that takes suspended requests; without it, a request waits."""


@dataclass(frozen=True)
class Suspension:
    """The value of a view that has to wait: a future, and the function that makes the response of its result."""

    future: futures.Future[Any]
    finish: Callable[[Any], Any]


class SuspendedRequest:
    """A request whose future is not done yet."""

    def __init__(self, steps: Generator[futures.Future[Any], None, flask.Response], environ: dict[str, Any]) -> None:
        self._steps = steps
        self._environ = environ
        self._context = contextvars.copy_context()
        self.future: futures.Future[Any]

    def advance(self, start_response: Callable[..., Any]) -> Iterable[bytes] | None:
        """Run the request until it has to wait for `future`: return None; or to its end: return the response's body."""
        try:
            self.future = self._context.run(next, self._steps)
        except StopIteration as end:
            response: flask.Response = end.value
            return response(self._environ, start_response)
        return None


class Response(flask.Response):
    """A response whose headers are sent as they are: Werkzeug copies and corrects them, which is seldom needed."""

    def get_wsgi_headers(self, environ: dict[str, Any]) -> datastructures.Headers:
        """Return the headers for a response to this request."""
        location = self.headers.get("Location", "")
        if self.status_code < 200 or self.status_code in (204, 304) or not (self.is_sequence and location.isascii()):
            return super().get_wsgi_headers(environ)
        if "Content-Length" not in self.headers:
            self.headers["Content-Length"] = str(sum(map(len, self.response)))
        return self.headers


class App(flask.Flask):
    """A Flask app whose views may return a `Suspension`.

    Neither views nor hooks may be coroutines, and only the app has hooks: Flask looks for all others at each request.
    """

    response_class = Response
    request_span: Callable[[dict[str, Any]], AbstractContextManager[Any]] = staticmethod(
        lambda _environ: contextlib.nullcontext()
    )
    """Surrounds each request."""

    def create_url_adapter(self, request: flask.Request | None) -> routing.MapAdapter | None:
        """Return the adapter that finds the view of a request: by its path and method, whatever its host."""
        if request is None:
            return super().create_url_adapter(request)
        environ = request.environ
        is_websocket = environ.get("HTTP_UPGRADE", "").lower() == "websocket"  # for which Werkzeug has other routes
        return routing.MapAdapter(
            self.url_map,
            request.host,
            request.root_path,
            "",
            "ws" if is_websocket else request.scheme,
            environ["PATH_INFO"].encode("latin-1").decode(errors="replace"),  # as sent, unlike `request.path`
            request.method,
        )

    def preprocess_request(self) -> Any:
        """Call the hooks before a request until one returns a response; blueprints have none."""
        for hook in self.before_request_funcs[None]:
            if (response := hook()) is not None:
                return response
        return None

    def dispatch_request(self) -> Any:
        """Call the view; none is a coroutine, and asking takes long."""
        request: Any = globals.request_ctx.request
        if request.routing_exception is not None or request.method == "OPTIONS":
            return super().dispatch_request()
        return self.view_functions[request.url_rule.endpoint](**request.view_args)

    def process_response(self, response: Any) -> Any:
        """Call the hooks after a request; blueprints have none, and there are no sessions."""
        context: Any = globals.request_ctx
        for hook in context._after_request_functions:  # noqa: SLF001 (as Flask does)
            response = hook(response)
        for hook in reversed(self.after_request_funcs[None]):
            response = hook(response)
        return response

    def wsgi_app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve a request as Flask does; suspend it if the caller has asked for that."""
        request = SuspendedRequest(self._steps(environ), environ)
        while (body := request.advance(start_response)) is None:
            if SUSPEND_KEY in environ:
                environ[SUSPEND_KEY](request)
                return ()
            with contextlib.suppress(Exception):  # the request itself gets it
                blocking_call.wait(request.future)
        return body

    def _steps(self, environ: dict[str, Any]) -> Generator[futures.Future[Any], None, flask.Response]:
        """Yield each future that the request waits for; return its response."""
        with self.request_span(environ):
            context = self.request_context(environ)
            context.push()
            try:
                try:
                    value = self.preprocess_request()
                    if value is None:
                        value = self.dispatch_request()
                    if isinstance(value, Suspension):
                        yield value.future
                        value = value.finish(value.future.result())
                except Exception as error:  # noqa: BLE001 (as Flask does)
                    value = self.handle_user_exception(error)
                response = self.finalize_request(value)
            except Exception as error:  # noqa: BLE001 (as Flask does)
                response = self.handle_exception(error)
            context.pop()
            return response
