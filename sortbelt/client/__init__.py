"""Client of the HTTP API, synchronous and asynchronous."""
