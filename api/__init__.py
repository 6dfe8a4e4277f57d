"""HTTP in, JSON out: parse, call one function of `jobs`, shape the answer."""
