"""HTTP API: parse a request, call one function of `core`, serialize the response."""
