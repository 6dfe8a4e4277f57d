"""Names of figures and groups that several files use."""

BULK = "bulk"
BULK_CPU = "bulk, CPU per image"
LABEL_AGREEMENT = "labels that agree with the baseline"
MACHINE_SPEED = "machine speed: CPU of a fixed loop"
PLAIN_LOOP = "baseline loop"
UPPER_BOUND = "upper bound"
FIRST_FOLDER = "sortbelt enqueue, first folder"
LATER_FOLDER = "sortbelt enqueue, later folder"
BY_REFERENCE = "sortbelt enqueue, by reference"
ON_SERVER = "sortbelt enqueue --on-server"
POSTGRESQL = "sortbelt enqueue, PostgreSQL"
OVERHEAD = "sortbelt, above the upper bound"
ACCEPTED = "sortbelt, accepted"
FINISHED = "sortbelt, finished"
TUTORIAL = "Flask + Celery"
TUTORIAL_ACCEPTED = "Flask + Celery, accepted"
DETAILS_PREFIX = "details of "


def single_group(callers: int) -> str:
    """Return the group of figures for a number of concurrent connections."""
    return f"single, {callers} at once"


def details_group(callers: int) -> str:
    """Return the group of figures per process: in the JSON report only, the table has the sums."""
    return f"{DETAILS_PREFIX}single, {callers} at once"
