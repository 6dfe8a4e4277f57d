"""Create the analysts' views of docs/schema.md in the database."""

from alembic import op

revision = "1013"
down_revision = "1012"

DAY = {
    "sqlite": "substr(finished_at, 1, 10)",
    "postgresql": "to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}
# As core/db/views.py defined them when this revision was written.
VIEWS = {
    "v_jobs": """
    SELECT jobs.id, api_keys.name AS owner, jobs.model,
        CASE jobs.priority WHEN 0 THEN 'interactive' ELSE 'bulk' END AS priority,
        CASE
            WHEN jobs.finished_at IS NULL AND (jobs.done + jobs.failed + jobs.cancelled + jobs.expired > 0 OR EXISTS (
                SELECT 1 FROM images WHERE images.job_id = jobs.id AND images.status = 'running'
            )) THEN 'running'
            WHEN jobs.finished_at IS NULL THEN 'queued'
            WHEN jobs.cancelled_at IS NOT NULL THEN 'cancelled'
            WHEN EXISTS (
                SELECT 1 FROM scans WHERE scans.job_id = jobs.id AND scans.status = 'failed'
            ) THEN 'failed'
            WHEN jobs.done > 0 THEN 'done'
            WHEN jobs.failed > 0 THEN 'failed'
            WHEN jobs.expired > 0 THEN 'expired'
            ELSE 'done'
        END AS status,
        total, done, failed, cancelled, expired, metadata,
        jobs.created_at, sealed_at, started_at, finished_at, jobs.expires_at, retry_of, purged_at
    FROM jobs JOIN api_keys ON api_keys.id = jobs.api_key_id""",
    "v_results": """
    SELECT results.image_id, results.job_id, api_keys.name AS owner, images.name AS image, results.status, label,
        confidence, error_code, error_detail, results.model_name AS model, model_version, model_digest, cached,
        images.sha256, images.bytes, images.attempt, results.finished_at, images.custom_id,
        images.source, images.location, images.worker, device, precision, torch, decoder, sortbelt
    FROM results
    JOIN images ON images.id = results.image_id
    LEFT JOIN environments ON environments.id = results.environment_id
    JOIN jobs ON jobs.id = results.job_id
    JOIN api_keys ON api_keys.id = jobs.api_key_id""",
    "v_waiting": """
    SELECT images.id AS image_id, job_id, name AS image, status, priority, attempt, worker, lease_until, source
    FROM images WHERE status IN ('queued', 'running')""",
    "v_labels": """
    SELECT label, model_name AS model, model_version, count(*) AS images, avg(confidence) AS mean_confidence,
        min(confidence) AS least_confidence
    FROM results WHERE label IS NOT NULL GROUP BY label, model_name, model_version""",
    "v_days": """
    SELECT {day} AS day, status, label, count(*) AS images
    FROM results GROUP BY 1, 2, 3""",
}


def upgrade() -> None:
    day = DAY[op.get_bind().dialect.name]
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS{query.replace('{day}', day)}")


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW {name}")
