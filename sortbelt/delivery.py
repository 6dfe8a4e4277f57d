"""Pictures on their way into an open job: by reference where the server has the bytes, else uploaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sortbelt import errors, manifest, pictures, records
from sortbelt.client import Client

TOO_MANY = "too_many_images"
UNKNOWN = "unknown_blob"  # says a server that was asked for bytes which were purged since it told of them


@dataclass(frozen=True, slots=True)
class Parcel:
    """Some pictures that go to a job together; `known` if the server has all their bytes."""

    job_id: str
    pictures: Sequence[pictures.Picture]
    known: bool = False


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of a parcel: the server's answers, what it took, and what it will never get."""

    answers: list[records.Job] = field(default_factory=list)
    taken: list[pictures.Picture] = field(default_factory=list)
    refused: list[manifest.Failure] = field(default_factory=list)


class Delivery:
    """Carries parcels; may be shared between threads.

    Args:
        client: of the server.
        unheard: is called when the server does not take pictures by reference.
    """

    def __init__(self, client: Client, unheard: Callable[[], None]) -> None:
        self._client = client
        self._unheard = unheard

    def deliver(self, parcel: Parcel) -> Delivered:
        """Carry one parcel; a picture that cannot be read or is too much for the server costs itself only."""
        done = Delivered()
        rest = self._refer(parcel, done) if parcel.known else parcel.pictures
        for batch in pictures.batches(rest):
            self._upload(parcel.job_id, _read(batch, done), done)
        return done

    def _refer(self, parcel: Parcel, done: Delivered) -> Sequence[pictures.Picture]:
        """Name what the server has; the pictures that have to be uploaded all the same."""
        try:
            answer = self._client.add_known(parcel.job_id, [(p.name, p.sha256) for p in parcel.pictures])
        except errors.Invalid as problem:
            gone = {str(error.get("image")) for error in problem.errors}
            if problem.code == TOO_MANY and len(parcel.pictures) > 1:
                middle = len(parcel.pictures) // 2
                halves = (parcel.pictures[:middle], parcel.pictures[middle:])
                return [p for half in halves for p in self._refer(Parcel(parcel.job_id, half), done)]
            if not gone:
                if problem.code != UNKNOWN:
                    self._unheard()
                return parcel.pictures
            there = [picture for picture in parcel.pictures if picture.name not in gone]
            missing = [picture for picture in parcel.pictures if picture.name in gone]
            if not missing:
                return parcel.pictures
            return [*missing, *(self._refer(Parcel(parcel.job_id, there), done) if there else ())]
        done.answers.append(answer)
        done.taken.extend(parcel.pictures)
        return ()

    def _upload(self, job_id: str, batch: Sequence[pictures.Picture], done: Delivered) -> None:
        if not batch:
            return
        try:
            done.answers.append(self._client.add_images(job_id, batch))
            done.taken.extend(batch)
        except errors.Invalid as problem:
            if len(batch) == 1:
                done.refused.append(manifest.Failure(batch[0].name, problem.code, str(problem)))
                return
            middle = len(batch) // 2
            self._upload(job_id, batch[:middle], done)
            self._upload(job_id, batch[middle:], done)


def _read(batch: Sequence[pictures.Picture], done: Delivered) -> list[pictures.Picture]:
    """The pictures with their bytes; they are read once, so that a repeated request says the same."""
    loaded = []
    for picture in batch:
        try:
            loaded.append(picture.loaded())
        except errors.BadInput as problem:
            done.refused.append(manifest.Failure(picture.name, problem.code, str(problem)))
    return loaded
