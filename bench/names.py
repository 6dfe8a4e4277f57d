"""The names of figures that several files speak of."""

BULK = "bulk"
CPU = "bulk, CPU of each picture"
LABELS = "labels as the plain loop's"
MACHINE = "the machine itself: CPU for a fixed loop"
PLAIN = "plain loop"
LIMIT = "the limit"
FIRST = "sortbelt enqueue, first folder"
LATER = "sortbelt enqueue, later folder"
REFERENCE = "sortbelt enqueue, by reference"
ON_SERVER = "sortbelt enqueue --on-server"
POSTGRESQL = "sortbelt enqueue, PostgreSQL"
OWN = "sortbelt, above the limit"
ACCEPTED = "sortbelt, accepted"
FINISHED = "sortbelt, finished"
TUTORIAL = "Flask + Celery"
SUBMITTED = "Flask + Celery, accepted"
DETAILS = "details of "


def single(callers: int) -> str:
    """The group of figures at so many callers at once."""
    return f"single, {callers} at once"


def details(callers: int) -> str:
    """The group of what each process took for that; the report's JSON has it, its table only the sums."""
    return f"{DETAILS}single, {callers} at once"
