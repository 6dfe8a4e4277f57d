"""What the views work with: the settings, the database, the blobs, the bell, the intake."""

from dataclasses import dataclass
from typing import cast

import flask

from jobs import bell, blobs, database, intake, settings


@dataclass(frozen=True)
class Parts:
    """One of each, made when the application is made."""

    settings: settings.Settings
    db: database.Database
    blobs: blobs.Blobs
    bell: bell.Bell
    intake: intake.Intake


def make(wanted: settings.Settings) -> Parts:
    """The parts for these settings; none opens anything before it is used."""
    db, store = database.Database(wanted.database_url), blobs.open_blobs(wanted.blobs)
    ringer = bell.Bell(wanted.redis_url)
    return Parts(wanted, db, store, ringer, intake.Intake(wanted, db, store, ringer))


def parts() -> Parts:
    """The parts of the application at work."""
    return cast("Parts", flask.current_app.extensions["sortbelt"])
