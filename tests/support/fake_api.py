"""A fake of the API server: it follows the HTTP contract, in memory, and labels images by their names."""

import collections
import csv
import datetime as dt
import hashlib
import http.server
import io
import json
import re
import threading
import urllib.parse
import uuid

from tests.support import servers

KEY = "sb_00000000_fake"


class FakeServer(http.server.ThreadingHTTPServer):
    """The fake server. Images with `broken` in their names fail; `faults` make requests fail."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.jobs = {}
        self.by_idempotency_key = {}
        self.keys = {}
        self.deliveries = []
        self.secret_version = 1
        self.models = []
        self.comparison = {}
        self.purges = []  # as they are returned
        self.blobs = {}  # bytes by their SHA-256
        self.sources = {}  # name: {path: bytes}
        self.upload_counts = collections.Counter()  # number of uploads by image name
        self.is_legacy = False  # an older server, without blobs/check and images by reference
        self.problem_fields = {"pointer", "code", "detail", "image"}  # of each entry in a problem's `errors`
        self.requests = []  # (method, path, headers) of each request
        self.faults = []  # for the next requests: a status, (status, headers), "drop", or None for one that succeeds
        self.polls_until_done = 1
        self.label = "sushi"
        self.familiarity = None
        self.reviews, self.review_stats, self.image_bytes = [], [], {}
        self.max_page_size = 1000
        self.max_body_bytes = 64_000_000
        self.max_images = 1000  # of one request
        self.lock = threading.Lock()

    def add_images(self, job, images):
        """Add images to a job; names that it has already are not replaced."""
        for name, data in images:
            job["images"].setdefault(name, data)
            self.blobs[hashlib.sha256(data).hexdigest()] = data
            self.upload_counts[name] += 1

    def as_json(self, job):
        """Return a job in the format of the API."""
        counts = dict.fromkeys(("total", "queued", "running", "done", "failed", "cancelled", "expired"), 0)
        ended = job["sealed"] and job["polls"] >= self.polls_until_done
        for name, data in job["images"].items():
            counts[_image_status(name, data, job) if ended or job["cancelled"] else "queued"] += 1
        counts["total"] = len(job["images"])
        status = "cancelled" if job["cancelled"] else "queued"
        if ended and not job["cancelled"]:
            status = "done" if counts["done"] else "failed"
        job_url = f"{self.url}/v1/jobs/{job['id']}"
        return {
            "id": job["id"],
            "status": status,
            "counts": counts,
            "sealed": job["sealed"],
            "name": job["choices"].get("job_name"),
            "owner": "me",
            "model": job["choices"].get("model", "fake"),
            "priority": job["choices"].get("priority", "interactive"),
            "metadata": job["choices"].get("metadata", {}),
            "scan": job.get("scan"),
            "left_out": job.get("left_out", []),
            "status_url": job_url,
            "results_url": f"{job_url}/results",
            "created_at": "2026-01-31T12:00:00.5Z",
            "started_at": None,
            "finished_at": None,
        }

    def results(self, job):
        """Yield the results of a job in the format of the API."""
        for number, (name, data) in enumerate(job["images"].items()):
            status = _image_status(name, data, job)
            yield {
                "id": f"{job['id']}.{number}",
                "image": name,
                "job_id": job["id"],
                "owner": "me",
                "status": status,
                "label": self.label if status == "done" else None,
                "confidence": 0.75 if status == "done" else None,
                "scores": {"sushi": 0.75, "sandwich": 0.25} if status == "done" else {},
                "familiarity": self.familiarity if status == "done" else None,
                "error": {"code": "undecodable", "detail": "Not an image."} if status == "failed" else None,
                "model": {"name": "fake", "version": "1", "digest": "00"} if status == "done" else None,
                "cached": False,
                "timings": {},
                "finished_at": "2026-01-31T12:00:01Z",
            }


def _image_status(name, data, job):
    if job["cancelled"]:
        return "cancelled"
    return "failed" if "broken" in name or not data else "done"


class _Handler(servers.QuietHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def _handle(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urllib.parse.urlsplit(self.path)
        with self.server.lock:
            self.server.requests.append((self.command, path.path, dict(self.headers)))
            fault = self.server.faults.pop(0) if self.server.faults else None
            if fault == "drop":
                self.close_connection = True
                return
            if fault:
                status, headers = fault if isinstance(fault, tuple) else (fault, {})
                raw_body = headers.pop("raw_body", None)
                if raw_body is not None:
                    self._json(status, None, headers, "application/problem+json", raw_body)
                    return
                self._problem(status, "requested", "The fake fails on demand.", headers)
                return
            self._route(path, body)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle

    def _route(self, path, body):
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._problem(401, "bad_key", "The key is not valid.")
        elif len(body) > self.server.max_body_bytes:
            self._problem(413, "body_too_large", "The body is too large.")
        elif path.path == "/v1/jobs" and self.command == "POST":
            self._create_job(body)
        elif match := re.fullmatch(r"/v1/jobs/([^/]+)(?:/(\w+)(?:/.+)?)?", path.path):
            self._route_job(match, path, body)
        elif path.path == "/v1/blobs/check" and not self.server.is_legacy:
            self._json(200, {"known": [d for d in json.loads(body)["sha256"] if d in self.server.blobs]})
        elif path.path == "/v1/jobs":
            self._list_jobs(path)
        elif path.path.startswith(("/v1/results", "/v1/stats")):
            self._results(path)
        elif match := re.match(r"/v1/(keys|models|webhooks|sources|purges|reviews|images)", path.path):
            getattr(self, f"_{match[1]}")(path, body)
        else:
            self._problem(404, "not_found", "There is no such route.")

    def _reviews(self, path, _):
        if path.path == "/v1/reviews/stats":
            self._json(200, {"versions": self.server.review_stats})
        else:
            self._list(self.server.reviews, path, "reviews")

    def _images(self, path, _):
        data = self.server.image_bytes.get(path.path.split("/")[3])
        if data is None:
            self._problem(404, "image_not_found", "There is no such image.")
        else:
            self._json(200, None, content_type="application/octet-stream", text=data)

    def _route_job(self, match, path, body):
        job = self.server.jobs.get(match[1])
        if job is None:
            self._problem(
                404, "job_not_found", f"There is no job {match[1]!r} that this key may see; GET /v1/jobs lists them."
            )
        elif self.command in ("DELETE", "PATCH"):
            self._change_job(job, body)
        else:
            self._job(job, match[2], path, body)

    def _list_jobs(self, path):
        try:
            self._list(self._filter_jobs(path), path, "jobs")
        except ValueError:
            self._problem(422, "bad_parameter", "since must be a timestamp.")

    def _change_job(self, job, body):
        if self.command == "PATCH":
            job["choices"] = {**job["choices"], "job_name": json.loads(body)["name"]}
            self._json(200, self.server.as_json(job))
            return
        del self.server.jobs[job["id"]]
        purge = {"job_id": job["id"], "owner": "1", "images": len(job["images"]), "bytes": 3}
        self._json(200, {**purge, "deleted_by": "me", "name": job["choices"].get("job_name")})

    def _differences(self, *jobs):
        a, b = (
            {r["image"]: {"label": r["label"], "confidence": r["confidence"]} for r in self.server.results(job)}
            for job in jobs
        )
        rows = [{"image": name, "a": a.get(name), "b": b.get(name)} for name in sorted({*a, *b})]
        return [row for row in rows if (row["a"] or {"label": ""})["label"] != (row["b"] or {"label": ""})["label"]]

    def _diff(self, job, path):
        if path.path.endswith("/pairs"):
            pairs = [{"a": "sushi", "b": "sandwich", "count": 2}, {"a": None, "b": "sushi", "count": 1}]
            self._json(200, {"compared": 9, "agreeing": 6, "pairs": pairs})
        else:
            other = self.server.jobs[path.path.rpartition("/")[2]]
            self._list(self._differences(job, other), path, "changes")

    def _filter_jobs(self, path):
        filters = dict(urllib.parse.parse_qsl(path.query))
        jobs = [self.server.as_json(job) for job in reversed(self.server.jobs.values())]
        jobs = [job for job in jobs if filters.get("model", job["model"]) == job["model"]]
        jobs = [job for job in jobs if filters.get("name", "") in (job["name"] or "")]

        def parse_time(text):
            time = dt.datetime.fromisoformat(text)
            return time if time.tzinfo else time.replace(tzinfo=dt.UTC)

        since, until = (
            parse_time(filters.get("since", "2000-01-01T00Z")),
            parse_time(filters.get("until", "2100-01-01T00Z")),
        )
        return [job for job in jobs if since <= parse_time(job["created_at"]) < until]

    def _filter_results(self, path):
        filters = dict(urllib.parse.parse_qsl(path.query))
        results = [r for job in self.server.jobs.values() for r in self.server.results(job)]
        for field, parameter in (("job_id", "job"), ("label", "label"), ("status", "status")):
            results = [r for r in results if r[field] == filters.get(parameter, r[field])]
        return results

    def _results(self, path):
        _, _, result_id = path.path.removeprefix("/v1/results").partition("/")
        result_id, _, action = result_id.partition("/")
        if path.path == "/v1/stats" and not self.server.is_legacy:
            counts = collections.Counter(r["label"] for r in self._filter_results(path))
            rows = [{"key": label, "count": count, "confidence": None} for label, count in counts.items()]
            self._json(200, {"group": "label", "stats": rows})
        elif result_id:
            results = [r for r in self._filter_results(path) if r["id"] == result_id]
            if not results or self.server.is_legacy:
                self._problem(404, "not_found", "There is no such result.")
            elif action == "verify":
                new_job = {
                    "id": str(uuid.uuid4()),
                    "images": {results[0]["image"]: b"x"},
                    "polls": 0,
                    "cancelled": False,
                }
                metadata = {"verifies": result_id} | {
                    name: results[0].get(name) for name in ("label", "confidence", "environment")
                }
                self.server.jobs[new_job["id"]] = new_job | {"choices": {"metadata": metadata}, "sealed": True}
                self._json(202, self.server.as_json(self.server.jobs[new_job["id"]]))
        else:
            self._list_results(self._filter_results(path), path)

    def _list_results(self, rows, path):
        """A page of JSON, or all rows (up to `limit`) in the format of the Accept header."""
        media_type = self.headers["Accept"]
        rows_in_stream = rows[: int(dict(urllib.parse.parse_qsl(path.query)).get("limit", len(rows)))]
        if self.server.is_legacy or media_type in {"*/*", "application/json"}:
            self._list(rows, path)
        elif media_type.startswith("application/vnd."):
            text = media_type.encode() + b"\n" + json.dumps(rows_in_stream).encode()
            self._json(200, None, content_type=media_type, text=text)
        else:
            text = io.StringIO(newline="")
            if media_type == "application/x-ndjson":
                text.writelines(json.dumps(row) + "\n" for row in rows_in_stream)
            else:
                columns = ("image", "job_id", "status", "label", "confidence", "finished_at", "scores")
                writer = csv.writer(text, lineterminator="\r\n")
                writer.writerow(columns)
                for row in rows_in_stream:
                    writer.writerow({**row, "scores": json.dumps(row["scores"])}[name] for name in columns)
            self._json(200, None, content_type=media_type, text=text.getvalue().encode())

    def _create_job(self, body):
        existing_job = self.server.by_idempotency_key.get(self.headers.get("Idempotency-Key"))
        job = existing_job or {"id": str(uuid.uuid4()), "images": {}, "polls": 0, "cancelled": False}
        if existing_job is None:
            multipart = self.headers["Content-Type"].startswith("multipart/")
            fields, images = _parse_multipart(self.headers, body) if multipart else (json.loads(body), [])
            job |= {"choices": fields, "sealed": multipart}
            self.server.add_images(job, images)
            self.server.jobs[job["id"]] = job
            self.server.by_idempotency_key[self.headers.get("Idempotency-Key")] = job
        self._json(202, self.server.as_json(job))

    def _job(self, job, action, path, body):
        if action == "results":
            self._list_results(list(self.server.results(job)), path)
            return
        if action == "diff":
            self._diff(job, path)
            return
        if action == "images":
            if job["sealed"]:
                self._problem(409, "job_sealed", "The job is sealed.")
                return
            by_reference = self.headers["Content-Type"] == "application/json"
            uploaded = json.loads(body) if by_reference else _parse_multipart(self.headers, body)[1]
            if len(uploaded["images"] if by_reference else uploaded) > self.server.max_images:
                self._problem(422, "too_many_images", "Send fewer images at a time.")
                return
            if not by_reference:
                self.server.add_images(job, uploaded)
            elif not self._add_by_reference(job, uploaded):
                return
        if action == "scan" and not self._import_source(job, json.loads(body)):
            return
        job["sealed"] |= action == "seal"
        job["cancelled"] |= action == "cancel"
        if action == "retry":
            failed = {name: b"x" for name, data in job["images"].items() if _image_status(name, data, job) == "failed"}
            new_job = {"id": str(uuid.uuid4()), "images": failed, "polls": 0, "cancelled": False}
            job = self.server.jobs[new_job["id"]] = new_job | {"choices": {}, "sealed": True}
            job["left_out"] = [{"code": "empty", "images": 2}]
        job["polls"] += action is None
        self._json(200, self.server.as_json(job), {"Retry-After": "0"})

    def _sources(self, _path, _body):
        self._json(200, {"sources": [{"name": name, "address": None} for name in self.server.sources]})

    def _import_source(self, job, request):
        if request["source"] not in self.server.sources:
            self._problem(422, "unknown_source", "There is no such source on this server's list.")
            return False
        source_files = self.server.sources[request["source"]]
        job["images"] |= {path: data for path, data in source_files.items() if path.startswith(request["prefix"])}
        counts = {"found": len(job["images"]), "skipped": 0, "error": None, "status": "done"}
        job |= {"scan": {**request, **counts}, "sealed": True}
        return True

    def _add_by_reference(self, job, request):
        problems = [
            {
                "pointer": f"#/images/{index}/sha256",
                "code": "unknown_blob",
                "detail": "Not here.",
                "image": image["name"],
            }
            for index, image in enumerate(request["images"])
            if image["sha256"] not in self.server.blobs
        ]
        if self.server.is_legacy or problems:
            code = "no_images" if self.server.is_legacy else "unknown_blob"
            fields = self.server.problem_fields
            problems = [{name: value for name, value in problem.items() if name in fields} for problem in problems]
            self._problem(422, code, "Not all are here.", errors=() if self.server.is_legacy else problems)
            return False
        for image in request["images"]:
            job["images"].setdefault(image["name"], self.server.blobs[image["sha256"]])
        return True

    def _list(self, rows, path, list_name="results", extra_fields=None):
        query = dict(urllib.parse.parse_qsl(path.query))
        start, size = int(query.get("after", 0)), min(int(query.get("limit", 100)), self.server.max_page_size)
        headers = {}
        if start + size < len(rows):
            query |= {"after": start + size}
            # Another host, as behind a proxy; the client must not send the key to it.
            headers["Link"] = f'<http://elsewhere.invalid{path.path}?{urllib.parse.urlencode(query)}>; rel="next"'
        self._json(200, {**(extra_fields or {}), list_name: rows[start : start + size]}, headers)

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
            self.server.secret_version += path.path.endswith("/rotate")
            self._json(200, {"secret": f"whsec_{self.server.secret_version}"})
        elif self.command == "GET":
            filters = dict(urllib.parse.parse_qsl(path.query))
            deliveries = [d for d in self.server.deliveries if d["status"] == filters.get("status", d["status"])]
            deliveries = [d for d in deliveries if d["job_id"] == filters.get("job", d["job_id"])]
            self._list(deliveries, path, "deliveries")
        else:
            deliveries = [d for d in self.server.deliveries if d["id"] == path.path.split("/")[4]]
            if deliveries:
                deliveries[0].update(status="pending", attempts=0)
                self._json(202, deliveries[0])
            else:
                self._problem(404, "delivery_not_found", "There is no such webhook delivery.")

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
            files = dict(_parse_multipart(self.headers, body, "files")[1])
            manifest = json.loads(files["model.json"])
            model = {**manifest, "stage": "candidate", "share": None, "files": sorted(files)}
            self.server.models.append(model)
            self._json(201, model)
        else:
            name, action = path.path.split("/")[3:]
            self._json(200, {"name": name, "version": "?", **(json.loads(body) if body else {}), "stage": action})

    def _problem(self, status, code, detail, headers=None, errors=()):
        problem = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
        problem["errors"] = list(errors)
        self._json(status, problem | {"request_id": "req-1"}, headers, content_type="application/problem+json")

    def _json(self, status, value, headers=None, content_type="application/json", text=None):
        text = json.dumps(value).encode() if text is None else text
        self.answer(status, text, {"Content-Type": content_type, **(headers or {})})


def _parse_multipart(headers, body, file_field="images"):
    """Parse a multipart body into fields and (name, bytes) of images, as far as the contract needs it."""
    boundary = b"--" + headers["Content-Type"].partition("boundary=")[2].encode()
    fields, images = {}, []
    for part in body.split(boundary)[1:-1]:
        head, _, data = part.strip(b"\r\n").partition(b"\r\n\r\n") if part.count(b"\r\n\r\n") else (b"", b"", b"")
        data = part.partition(b"\r\n\r\n")[2][:-2]
        head = part.partition(b"\r\n\r\n")[0].decode()
        name = re.search(r' name="([^"]*)"', head)[1]
        plain_name, encoded_name = re.search(r'filename="([^"]*)"', head), re.search(r"filename\*=UTF-8''(\S*)", head)
        if name == file_field:
            images.append((plain_name[1] if plain_name else urllib.parse.unquote(encoded_name[1]), data))
        else:
            fields[name] = json.loads(data) if name == "metadata" else data.decode()
    return fields, images
