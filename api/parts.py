"""What the views work with: one of each thing that lasts longer than a request."""

from dataclasses import dataclass
from typing import cast

import flask

from api import door, exposition, meter, miniatures, watch
from jobs import bell, blobs, database, gate, intake, notices, outlook, settings, sources


@dataclass(frozen=True)
class Parts:
    """One of each, made when the application is made."""

    settings: settings.Settings
    db: database.Database
    blobs: blobs.Blobs
    bell: bell.Bell
    intake: intake.Intake
    notices: notices.Notices
    watch: watch.Watch
    outlook: outlook.Outlook
    door: door.Door
    miniatures: miniatures.Miniatures
    meter: meter.Meter
    exposition: exposition.Exposition
    sources: sources.Sources


def make(wanted: settings.Settings) -> Parts:
    """The parts for these settings; none opens anything before it is used."""
    db, store = database.Database(wanted.database_url), blobs.open_blobs(wanted.blobs)
    ringer = bell.Bell(wanted.redis_url)
    doorkeeper = door.Door(wanted.max_bad_keys_per_minute)
    told = notices.Notices(wanted.redis_url)
    sight = outlook.Outlook(db)
    taker = intake.Intake(wanted, db, store, ringer, gate.Gate(wanted, db, sight))
    counter = meter.Meter(db)
    return Parts(
        wanted,
        db,
        store,
        ringer,
        taker,
        told,
        watch.Watch(db, told, sight),
        sight,
        doorkeeper,
        miniatures.Miniatures(wanted, store),
        counter,
        exposition.Exposition(db, sight, counter),
        sources.Sources.read(wanted.sources),
    )


def parts() -> Parts:
    """The parts of the application at work."""
    return cast("Parts", flask.current_app.extensions["sortbelt"])
