"""Service container: the objects that outlive a request, one of each per app."""

from dataclasses import dataclass
from typing import cast

import flask

from api.services import auth_cache as auth_cache_services
from api.services import job_watcher as job_watcher_services
from api.services import metrics_exporter as metrics_exporter_services
from api.services import request_metrics as request_metrics_services
from api.services import thumbnails
from core import settings
from core.broker import job_events as job_events_broker
from core.broker import wakeup as wakeup_broker
from core.db import database
from core.db.queries import quotas
from core.intake import admission, disk_share, service
from core.intake.eta_cache import EtaCache
from core.sources import catalog
from core.storage import base, factory


@dataclass(frozen=True, kw_only=True)
class Services:
    """The services of an app."""

    settings: settings.Settings
    db: database.Database
    blob_store: base.BlobStore
    wakeup: wakeup_broker.WakeupSender
    intake: service.SubmissionService
    job_events: job_events_broker.JobEvents
    job_watcher: job_watcher_services.JobWatcher
    eta_cache: EtaCache
    auth_cache: auth_cache_services.AuthCache
    default_quotas: quotas.Quotas
    """The quotas of keys without their own."""
    thumbnailer: thumbnails.Thumbnailer
    request_metrics: request_metrics_services.RequestMetrics
    metrics_exporter: metrics_exporter_services.MetricsExporter
    sources: catalog.SourceCatalog


def build_services(config: settings.Settings) -> Services:
    """Return the services for these settings; none opens a connection before it is used."""
    db, blob_store = database.Database(config.database_url), factory.open_blob_store(config.blob_store)
    wakeup, events = wakeup_broker.WakeupSender(config.redis_url), job_events_broker.JobEvents(config.redis_url)
    eta_cache, metrics = EtaCache(db), request_metrics_services.RequestMetrics(db)
    admission_control = admission.AdmissionControl(config, db, eta_cache, disk_share.DiskShare(db, blob_store))
    return Services(
        settings=config,
        db=db,
        blob_store=blob_store,
        wakeup=wakeup,
        intake=service.SubmissionService(config, db, blob_store, wakeup, admission_control),
        job_events=events,
        job_watcher=job_watcher_services.JobWatcher(db, events, eta_cache),
        eta_cache=eta_cache,
        auth_cache=auth_cache_services.AuthCache(config.max_failed_auth_per_minute),
        default_quotas=admission.default_quotas(config),
        thumbnailer=thumbnails.Thumbnailer(config, blob_store),
        request_metrics=metrics,
        metrics_exporter=metrics_exporter_services.MetricsExporter(db, eta_cache, metrics),
        sources=catalog.SourceCatalog.parse(config.sources),
    )


def services() -> Services:
    """Return the services of the current app."""
    return cast("Services", flask.current_app.extensions["sortbelt"])
