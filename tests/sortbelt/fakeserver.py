"""A fake of the server: it keeps to the HTTP contract, in memory, without a picture ever being looked at."""

import collections
import datetime as dt
import hashlib
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
        self.deliveries = []
        self.secrets = 1
        self.models = []
        self.comparison = {}
        self.purges = []  # receipts, as they are answered
        self.blobs = {}  # bytes by their SHA-256
        self.sources = {}  # name: {path: bytes}
        self.received = collections.Counter()  # how often the bytes of each name came
        self.old = False  # a server that knows neither blobs/check nor pictures by reference
        self.asked = []  # (method, path, headers) of each request
        self.faults = []  # for the next requests: a status, (status, headers), or "drop"
        self.polls_until_ended = 1
        self.label = "sushi"
        self.page = 1000
        self.biggest_body = 64_000_000
        self.most_images = 1000  # of one request
        self.lock = threading.Lock()

    def add(self, job, pictures):
        """Put pictures into a job; names that it has already are left alone."""
        for name, data in pictures:
            job["images"].setdefault(name, data)
            self.blobs[hashlib.sha256(data).hexdigest()] = data
            self.received[name] += 1

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
            "scan": job.get("scan"),
            "status_url": here,
            "results_url": f"{here}/results",
            "created_at": "2026-01-31T12:00:00.5Z",
            "started_at": None,
            "finished_at": None,
        }

    def results(self, job):
        """The results of a job as the contract has them."""
        for number, (name, data) in enumerate(job["images"].items()):
            status = _fate(name, data, job)
            yield {
                "id": f"{job['id']}.{number}",
                "image": name,
                "job_id": job["id"],
                "status": status,
                "label": self.label if status == "done" else None,
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

    do_GET = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815 - names that http.server asks for

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
        elif path.path == "/v1/blobs/check" and not self.server.old:
            self._json(200, {"known": [d for d in json.loads(body)["sha256"] if d in self.server.blobs]})
        elif path.path == "/v1/jobs":
            self._list(self._wanted(path), path, "jobs")
        elif path.path.startswith(("/v1/results", "/v1/stats")):
            self._results(path)
        elif match := re.match(r"/v1/(keys|models|webhooks|sources|purges)", path.path):
            getattr(self, f"_{match[1]}")(path, body)
        else:
            self._problem(404, "not_found", "There is nothing here.")

    def _wanted(self, path):
        asked = dict(urllib.parse.parse_qsl(path.query))
        jobs = [self.server.as_json(job) for job in reversed(self.server.jobs.values())]
        jobs = [job for job in jobs if asked.get("model", job["model"]) == job["model"]]
        moment = dt.datetime.fromisoformat
        first, last = moment(asked.get("since", "2000-01-01T00Z")), moment(asked.get("until", "2100-01-01T00Z"))
        return [job for job in jobs if first <= moment(job["created_at"]) < last]

    def _found(self, path):
        filters = dict(urllib.parse.parse_qsl(path.query))
        found = [r for job in self.server.jobs.values() for r in self.server.results(job)]
        for ours, theirs in (("job_id", "job"), ("label", "label"), ("status", "status")):
            found = [r for r in found if r[ours] == filters.get(theirs, r[ours])]
        return found

    def _results(self, path):
        _, _, identity = path.path.removeprefix("/v1/results").partition("/")
        identity, _, verb = identity.partition("/")
        if path.path == "/v1/stats" and not self.server.old:
            counts = collections.Counter(r["label"] for r in self._found(path))
            rows = [{"key": label, "count": count, "confidence": None} for label, count in counts.items()]
            self._json(200, {"group": "label", "stats": rows})
        elif identity:
            found = [r for r in self._found(path) if r["id"] == identity]
            if not found or self.server.old:
                self._problem(404, "not_found", "There is no such result.")
            elif verb == "verify":
                again = {"id": str(uuid.uuid4()), "images": {found[0]["image"]: b"x"}, "polls": 0, "cancelled": False}
                said = {"verifies": identity} | {
                    name: found[0].get(name) for name in ("label", "confidence", "environment")
                }
                self.server.jobs[again["id"]] = again | {"choices": {"metadata": said}, "sealed": True}
                self._json(202, self.server.as_json(self.server.jobs[again["id"]]))
        elif self.headers["Accept"].startswith("application/vnd.") and not self.server.old:
            rows = json.dumps(self._found(path)).encode()
            self._json(200, None, kind=self.headers["Accept"], text=self.headers["Accept"].encode() + b"\n" + rows)
        else:
            self._list(self._found(path), path)

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
            by_reference = self.headers["Content-Type"] == "application/json"
            brought = json.loads(body) if by_reference else _parts(self.headers, body)[1]
            if len(brought["images"] if by_reference else brought) > self.server.most_images:
                self._problem(422, "too_many_images", "Send fewer pictures at a time.")
                return
            if not by_reference:
                self.server.add(job, brought)
            elif not self._refer(job, brought):
                return
        if verb == "scan" and not self._scan(job, json.loads(body)):
            return
        job["sealed"] |= verb == "seal"
        job["cancelled"] |= verb == "cancel"
        if verb == "retry":
            failed = {name: b"x" for name, data in job["images"].items() if _fate(name, data, job) == "failed"}
            again = {"id": str(uuid.uuid4()), "images": failed, "polls": 0, "cancelled": False}
            job = self.server.jobs[again["id"]] = again | {"choices": {}, "sealed": True}
        job["polls"] += verb is None
        self._json(200, self.server.as_json(job), {"Retry-After": "0"})

    def _sources(self, _path, _body):
        self._json(200, {"sources": [{"name": name, "address": None} for name in self.server.sources]})

    def _scan(self, job, wanted):
        if wanted["source"] not in self.server.sources:
            self._problem(422, "unknown_source", "There is no such source on this server's list.")
            return False
        place = self.server.sources[wanted["source"]]
        job["images"] |= {path: data for path, data in place.items() if path.startswith(wanted["prefix"])}
        counts = {"found": len(job["images"]), "skipped": 0, "error": None, "status": "done"}
        job |= {"scan": {**wanted, **counts}, "sealed": True}
        return True

    def _refer(self, job, order):
        gone = [image["name"] for image in order["images"] if image["sha256"] not in self.server.blobs]
        if self.server.old or gone:
            self._problem(422, "no_images" if self.server.old else "unknown_blob", "Not all are here.")
            return False
        for image in order["images"]:
            job["images"].setdefault(image["name"], self.server.blobs[image["sha256"]])
        return True

    def _list(self, rows, path, noun="results", beside=None):
        query = dict(urllib.parse.parse_qsl(path.query))
        start, size = int(query.get("after", 0)), min(int(query.get("limit", 100)), self.server.page)
        headers = {}
        if start + size < len(rows):
            query |= {"after": start + size}
            # As behind a proxy: another host, which the key must not be sent to.
            headers["Link"] = f'<http://elsewhere.invalid{path.path}?{urllib.parse.urlencode(query)}>; rel="next"'
        self._json(200, {**(beside or {}), noun: rows[start : start + size]}, headers)

    def _keys(self, path, body):
        if self.command == "POST":
            key = {"id": str(len(self.server.keys) + 1), "prefix": "sb_1", "revoked_at": None, **json.loads(body)}
            key["created_at"] = "2026-01-31T12:00:00Z"
            self.server.keys[key["id"]] = key
            self._json(201, {**key, "key": f"sb_1_secret{key['id']}"})
        elif self.command == "PATCH":
            key = self.server.keys[path.path.rpartition("/")[2]]
            key |= json.loads(body)
            self._json(200, key)
        elif self.command == "DELETE":
            key = self.server.keys[path.path.rpartition("/")[2]]
            key["revoked_at"] = "2026-01-31T12:00:00Z"
            self._json(200, key)
        else:
            self._json(200, {"keys": list(self.server.keys.values())})

    def _webhooks(self, path, _body):
        if path.path.startswith("/v1/webhooks/secret"):
            self.server.secrets += path.path.endswith("/rotate")
            self._json(200, {"secret": f"whsec_{self.server.secrets}"})
        elif self.command == "GET":
            filters = dict(urllib.parse.parse_qsl(path.query))
            found = [d for d in self.server.deliveries if d["status"] == filters.get("status", d["status"])]
            found = [d for d in found if d["job_id"] == filters.get("job", d["job_id"])]
            self._list(found, path, "deliveries")
        else:
            found = [d for d in self.server.deliveries if d["id"] == path.path.split("/")[4]]
            if found:
                found[0].update(status="pending", attempts=0)
                self._json(202, found[0])
            else:
                self._problem(404, "delivery_not_found", "There is no such delivery among yours.")

    def _purges(self, path, _body):
        self._list(self.server.purges, path, "purges")

    def _models(self, path, body):
        if path.path == "/v1/models/compare":
            query = dict(urllib.parse.parse_qsl(path.query))
            self._list(
                self.server.comparison["disagreements"], path, "disagreements", {**self.server.comparison, **query}
            )
        elif self.command == "GET":
            self._json(200, {"models": self.server.models})
        elif path.path == "/v1/models":
            files = dict(_parts(self.headers, body, "files")[1])
            about = json.loads(files["model.json"])
            model = {**about, "stage": "candidate", "share": None, "files": sorted(files)}
            self.server.models.append(model)
            self._json(201, model)
        else:
            name, verb = path.path.split("/")[3:]
            self._json(200, {"name": name, "version": "?", **(json.loads(body) if body else {}), "stage": verb})

    def _problem(self, status, code, detail, headers=None, errors=()):
        problem = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
        problem["errors"] = list(errors)
        self._json(status, problem | {"request_id": "req-1"}, headers, kind="application/problem+json")

    def _json(self, status, value, headers=None, kind="application/json", text=None):
        text = text or json.dumps(value).encode()
        self.send_response(status)
        for name, header in {"Content-Type": kind, "Content-Length": len(text), **(headers or {})}.items():
            self.send_header(name, str(header))
        self.end_headers()
        self.wfile.write(text)


def _parts(headers, body, files="images"):
    """The fields and pictures of a multipart body, by a parser that knows only what the contract needs."""
    boundary = b"--" + headers["Content-Type"].partition("boundary=")[2].encode()
    fields, pictures = {}, []
    for part in body.split(boundary)[1:-1]:
        head, _, data = part.strip(b"\r\n").partition(b"\r\n\r\n") if part.count(b"\r\n\r\n") else (b"", b"", b"")
        data = part.partition(b"\r\n\r\n")[2][:-2]
        head = part.partition(b"\r\n\r\n")[0].decode()
        name = re.search(r' name="([^"]*)"', head)[1]
        plain, odd = re.search(r'filename="([^"]*)"', head), re.search(r"filename\*=UTF-8''(\S*)", head)
        if name == files:
            pictures.append((plain[1] if plain else urllib.parse.unquote(odd[1]), data))
        else:
            fields[name] = json.loads(data) if name == "metadata" else data.decode()
    return fields, pictures
