# Two images from one file: `--target api` (no torch) and `--target worker`.
# Installs locked wheels only, each checked against its hash. The installer is not part of the final images.

FROM python:3.11-slim-bookworm AS installer
COPY requirements/setup.txt /requirements/
RUN python -m pip install --no-cache-dir --require-hashes --requirement /requirements/setup.txt
# The root file system of a running container is read-only, so the bytecode is compiled here.
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
RUN uv venv --python /usr/local/bin/python3 /venv

FROM python:3.11-slim-bookworm AS ground
# A new volume takes its owner from the folder that it is mounted on.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin sortbelt \
    && install --directory --owner sortbelt --group sortbelt --mode 0700 /data/blobs
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp SORTBELT_BLOB_STORE=/data/blobs
WORKDIR /app
# The licence of the weights asks for both in every copy.
COPY LICENSE NOTICE ./
# As `python -P`, for every process and health check: a file in the current folder does not become part of the server.
ENV PYTHONSAFEPATH=1 PYTHONPATH=/app

FROM installer AS api-packages
COPY requirements/api.txt /requirements/
RUN uv pip install --python /venv --require-hashes --no-deps --requirement /requirements/api.txt

FROM ground AS api
COPY --from=api-packages /venv /venv
COPY imaging imaging
COPY core core
COPY sortbelt sortbelt
COPY dispatcher dispatcher
COPY migrations migrations
COPY api api
RUN python -m compileall -q .
USER 10001:10001
ENV SORTBELT_HOST=0.0.0.0 SORTBELT_PORT=8000
EXPOSE 8000
CMD ["python", "-m", "api"]

FROM installer AS worker-packages
COPY requirements/worker.txt /requirements/
RUN uv pip install --python /venv --require-hashes --no-deps --requirement /requirements/worker.txt

FROM ground AS worker
COPY --from=worker-packages /venv /venv
COPY imaging imaging
COPY model model
COPY core core
COPY sortbelt sortbelt
COPY dispatcher dispatcher
COPY worker worker
RUN python -m compileall -q .
USER 10001:10001
CMD ["python", "-m", "worker", "--loglevel", "INFO"]
