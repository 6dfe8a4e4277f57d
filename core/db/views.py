"""The analysts' views: the public SQL schema (docs/schema.md), whatever the tables below become.

A migration creates them in the database. A change here needs a new migration that replaces them, with new columns at
the end: PostgreSQL allows that although other views may depend on these.
"""

JOB_STATUS = """CASE
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
        END"""
"""The status of a row of `jobs`, as SQL: its stage while open, then the best outcome among its images.

A job whose scan failed has failed, whatever was found before: it does not hold everything that was submitted.
"""

VIEWS = {
    "v_jobs": f"""
    SELECT jobs.id, api_keys.name AS owner, jobs.model,
        CASE jobs.priority WHEN 0 THEN 'interactive' ELSE 'bulk' END AS priority,
        {JOB_STATUS} AS status,
        total, done, failed, cancelled, expired, metadata,
        jobs.created_at, sealed_at, started_at, finished_at, jobs.expires_at, retry_of, purged_at, jobs.name
    FROM jobs JOIN api_keys ON api_keys.id = jobs.api_key_id""",  # noqa: S608 (constants of this file)
    "v_results": """
    SELECT results.image_id, results.job_id, api_keys.name AS owner, images.name AS image, results.status,
        results.label,
        confidence, error_code, error_detail, results.model_name AS model, results.model_version, model_digest, cached,
        images.sha256, images.bytes, images.attempt, results.finished_at, images.custom_id,
        images.source, images.location, images.worker, device, precision, torch, decoder, sortbelt,
        scores, familiarity, reviews.verdict AS review, reviews.label AS review_label
    FROM results
    JOIN images ON images.id = results.image_id
    LEFT JOIN environments ON environments.id = results.environment_id
    LEFT JOIN reviews ON reviews.image_id = results.image_id AND reviews.replaced_at IS NULL
    JOIN jobs ON jobs.id = results.job_id
    JOIN api_keys ON api_keys.id = jobs.api_key_id""",
    "v_reviews": """
    SELECT reviews.id AS review_id, reviews.image_id, reviews.job_id, images.name AS image, images.sha256,
        results.label AS model_label, results.confidence, results.familiarity, reviews.verdict, reviews.label,
        reviews.note, api_keys.name AS reviewed_by, reviews.reviewed_at, reviews.strategy, reviews.draw_probability,
        reviews.model_name AS model, reviews.model_version, reviews.replaced_at
    FROM reviews
    JOIN images ON images.id = reviews.image_id
    JOIN results ON results.image_id = reviews.image_id
    JOIN api_keys ON api_keys.id = reviews.reviewed_by""",
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
# On PostgreSQL a timestamp's text depends on the session's time zone.
DAY = {
    "sqlite": "substr(finished_at, 1, 10)",
    "postgresql": "to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}


def create_statements(dialect: str) -> list[str]:
    """Return the CREATE VIEW statement of each view for a dialect, `sqlite` or `postgresql`."""
    return [f"CREATE VIEW {name} AS{query.replace('{day}', DAY[dialect])}" for name, query in VIEWS.items()]
