"""A fake of the server: it keeps to the HTTP contract, in memory, without a picture ever being looked at."""

import http.server
import json
import re
import threading
import urllib.parse
import uuid

KEY = "sb_00000000_fake"


class FakeServer(http.server.ThreadingHTTPServer):
    """Not Sortbelt: it labels pictures by their names, and fails when it is told to."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.jobs = {}
        self.by_idempotency_key = {}
        self.keys = {}
        self.asked = []  # (method, path, headers) of each request
        self.faults = []  # for the next requests: a status, (status, headers), or "drop"
        self.polls_until_ended = 1
        self.page = 1000
        self.biggest_body = 64_000_000
        self.lock = threading.Lock()

    def add(self, job, pictures):
        """Put pictures into a job; names that it has already are left alone."""
        for name, data in pictures:
            job["images"].setdefault(name, data)

    def as_json(self, job):
        """The job as the contract has it."""
        counts = dict.fromkeys(("total", "queued", "running", "done", "failed", "cancelled", "expired"), 0)
        ended = job["sealed"] and job["polls"] >= self.polls_until_ended
        for name, data in job["images"].items():
            counts[_fate(name, data, job) if ended or job["cancelled"] else "queued"] += 1
        counts["total"] = len(job["images"])
        status = "cancelled" if job["cancelled"] else "queued"
        if ended and not job["cancelled"]:
            status = "done" if counts["done"] else "failed"
        here = f"{self.url}/v1/jobs/{job['id']}"
        return {
            "id": job["id"],
            "status": status,
            "counts": counts,
            "sealed": job["sealed"],
            "model": job["choices"].get("model", "fake"),
            "priority": job["choices"].get("priority", "interactive"),
            "metadata": job["choices"].get("metadata", {}),
            "status_url": here,
            "results_url": f"{here}/results",
            "created_at": "2026-01-31T12:00:00.5Z",
            "started_at": None,
            "finished_at": None,
        }

    def results(self, job):
        """The results of a job as the contract has them."""
        for name, data in job["images"].items():
            status = _fate(name, data, job)
            yield {
                "image": name,
                "job_id": job["id"],
                "status": status,
                "label": "sushi" if status == "done" else None,
                "confidence": 0.75 if status == "done" else None,
                "scores": {"sushi": 0.75, "sandwich": 0.25} if status == "done" else {},
                "error": {"code": "undecodable", "detail": "No picture."} if status == "failed" else None,
                "model": {"name": "fake", "version": "1", "digest": "00"} if status == "done" else None,
                "cached": False,
                "timings": {},
                "finished_at": "2026-01-31T12:00:01Z",
            }


def _fate(name, data, job):
    if job["cancelled"]:
        return "cancelled"
    return "failed" if "broken" in name or not data else "done"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, *_):
        pass

    def _any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urllib.parse.urlsplit(self.path)
        with self.server.lock:
            self.server.asked.append((self.command, path.path, dict(self.headers)))
            fault = self.server.faults.pop(0) if self.server.faults else None
            if fault == "drop":
                self.close_connection = True
                return
            if fault:
                status, headers = fault if isinstance(fault, tuple) else (fault, {})
                self._problem(status, "told_to", "The fake was told to fail.", headers)
                return
            self._answer(path, body)

    do_GET = do_POST = do_DELETE = _any  # noqa: N815 - names that http.server asks for

    def _answer(self, path, body):
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._problem(401, "bad_key", "The key is not valid.")
        elif len(body) > self.server.biggest_body:
            self._problem(413, "body_too_large", "The body is too large.")
        elif path.path == "/v1/jobs" and self.command == "POST":
            self._create(body)
        elif match := re.fullmatch(r"/v1/jobs/([^/]+)(?:/(\w+))?", path.path):
            job = self.server.jobs.get(match[1])
            if job is None:
                self._problem(404, "job_not_found", f"There is no job {match[1]!r} among yours.")
            else:
                self._job(job, match[2], path, body)
        elif path.path == "/v1/results":
            filters = dict(urllib.parse.parse_qsl(path.query))
            found = [r for job in self.server.jobs.values() for r in self.server.results(job)]
            found = [r for r in found if r["label"] == filters.get("label", r["label"])]
            self._list([r for r in found if r["status"] == filters.get("status", r["status"])], path)
        elif path.path.startswith("/v1/keys"):
            self._keys(path, body)
        else:
            self._problem(404, "not_found", "There is nothing here.")

    def _create(self, body):
        known = self.server.by_idempotency_key.get(self.headers.get("Idempotency-Key"))
        job = known or {"id": str(uuid.uuid4()), "images": {}, "polls": 0, "cancelled": False}
        if known is None:
            multipart = self.headers["Content-Type"].startswith("multipart/")
            fields, pictures = _parts(self.headers, body) if multipart else (json.loads(body), [])
            job |= {"choices": fields, "sealed": multipart}
            self.server.add(job, pictures)
            self.server.jobs[job["id"]] = job
            self.server.by_idempotency_key[self.headers.get("Idempotency-Key")] = job
        self._json(202, self.server.as_json(job))

    def _job(self, job, verb, path, body):
        if verb == "results":
            self._list(list(self.server.results(job)), path)
            return
        if verb == "images":
            if job["sealed"]:
                self._problem(409, "job_sealed", "The job is sealed.")
                return
            self.server.add(job, _parts(self.headers, body)[1])
        job["sealed"] |= verb == "seal"
        job["cancelled"] |= verb == "cancel"
        job["polls"] += verb is None
        self._json(200, self.server.as_json(job), {"Retry-After": "0"})

    def _list(self, rows, path):
        query = dict(urllib.parse.parse_qsl(path.query))
        start, size = int(query.get("after", 0)), min(int(query["limit"]), self.server.page)
        headers = {}
        if start + size < len(rows):
            query |= {"after": start + size}
            # As behind a proxy: another host, which the key must not be sent to.
            headers["Link"] = f'<http://elsewhere.invalid{path.path}?{urllib.parse.urlencode(query)}>; rel="next"'
        self._json(200, {"results": rows[start : start + size]}, headers)

    def _keys(self, path, body):
        if self.command == "POST":
            key = {"id": str(len(self.server.keys) + 1), "prefix": "sb_1", "revoked_at": None, **json.loads(body)}
            key["created_at"] = "2026-01-31T12:00:00Z"
            self.server.keys[key["id"]] = key
            self._json(201, {**key, "key": f"sb_1_secret{key['id']}"})
        elif self.command == "DELETE":
            key = self.server.keys[path.path.rpartition("/")[2]]
            key["revoked_at"] = "2026-01-31T12:00:00Z"
            self._json(200, key)
        else:
            self._json(200, {"keys": list(self.server.keys.values())})

    def _problem(self, status, code, detail, headers=None):
        problem = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
        self._json(status, problem | {"request_id": "req-1"}, headers, kind="application/problem+json")

    def _json(self, status, value, headers=None, kind="application/json"):
        text = json.dumps(value).encode()
        self.send_response(status)
        for name, header in {"Content-Type": kind, "Content-Length": len(text), **(headers or {})}.items():
            self.send_header(name, str(header))
        self.end_headers()
        self.wfile.write(text)


def _parts(headers, body):
    """The fields and pictures of a multipart body, by a parser that knows only what the contract needs."""
    boundary = b"--" + headers["Content-Type"].partition("boundary=")[2].encode()
    fields, pictures = {}, []
    for part in body.split(boundary)[1:-1]:
        head, _, data = part.strip(b"\r\n").partition(b"\r\n\r\n") if part.count(b"\r\n\r\n") else (b"", b"", b"")
        data = part.partition(b"\r\n\r\n")[2][:-2]
        head = part.partition(b"\r\n\r\n")[0].decode()
        name = re.search(r' name="([^"]*)"', head)[1]
        plain, odd = re.search(r'filename="([^"]*)"', head), re.search(r"filename\*=UTF-8''(\S*)", head)
        if name == "images":
            pictures.append((plain[1] if plain else urllib.parse.unquote(odd[1]), data))
        else:
            fields[name] = json.loads(data) if name == "metadata" else data.decode()
    return fields, pictures
