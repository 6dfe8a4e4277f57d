"""What all subcommands share: the data folder, `--json`, and words to the person beside the output."""

import datetime as dt
import re
import sys
from dataclasses import dataclass
from typing import Any

import click

from sortbelt import terminal

data_dir = click.option(
    "--data-dir", metavar="DIR", help="Data folder of `sortbelt up` [default: SORTBELT_DATA_DIR, else the user's own]."
)
webhook = click.option("--webhook", metavar="URL", help="Where to tell, by a signed POST, that the job has ended.")
as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


class _Time(click.ParamType):  # type: ignore[type-arg]  # older releases of click know no arguments
    """A moment, as RFC 3339 writes it; in UTC if it does not say."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        """The moment that a text names."""
        try:
            moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no moment, such as 2026-01-31T12:00:00Z.", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


class _Span(click.ParamType):  # type: ignore[type-arg]  # as above
    """A span of time in seconds, written as 90d, 12h, 30m or 45s; `never` is None."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Given":
        """The seconds that a text names."""
        if isinstance(value, Given):
            return value
        found = re.fullmatch(r"(\d{1,9})([smhd])", value)
        if not found and value != "never":
            self.fail(f"{value!r} is no span of time, such as 90d, 12h, 30m, or `never`.", param, ctx)
        return Given(int(found[1]) * SECONDS[found[2]] if found else None)


class _Quota(click.ParamType):  # type: ignore[type-arg]  # as above
    """A limit: a number, `none` for no limit, or `default` for what the server's settings say, which is None."""

    name = "quota"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Given":
        """The limit that a text names."""
        if isinstance(value, Given):
            return value
        if value not in {"none", "default"} and not re.fullmatch(r"[1-9]\d{0,14}", value):
            self.fail(f"{value!r} is no limit: a number from 1 on, `none`, or `default`.", param, ctx)
        return Given({"none": 0, "default": None}[value] if value.isalpha() else int(value))


@dataclass(frozen=True)
class Given:
    """What was given, to be told from an option that was not; None is a value of its own here."""

    value: int | None


SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
TIME, SPAN, QUOTA = _Time(), _Span(), _Quota()


def tell(sentence: str) -> None:
    """Say something to the person, beside the output."""
    print(terminal.clean(sentence), file=sys.stderr, flush=True)
