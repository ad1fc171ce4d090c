"""Which pictures and categories a data set has: each once, however many jobs name it.

A picture that many jobs share holds the objects of all of them. Where several jobs look for the same thing in it, the
first job's objects count: the others found the same ones again. Entities that differ in case or composition only are
one category, called as the first of them is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from serve_app.batch.exports.jobs import Job, JobId, Picture
from serve_app.schemas.dicts import ObjectDict
from serve_app.schemas.events import Role
from serve_app.schemas.phrase_key import phrase_key


@dataclass
class Entry:
    """One picture of the data set.

    Attributes:
        number: from 1, in the order in which jobs name the pictures.
        file_name: as the results show it; "#2", … tells apart pictures that are shown the same: addresses with other
            queries.
        width: pixels.
        height: pixels.
        job_id: of the first job that names it.
        role: in that job.
        found: by the category's number, whether anything of it was found; only what was looked for.
    """

    number: int
    file_name: str
    width: int
    height: int
    job_id: JobId
    role: Role
    found: dict[int, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Sighting:
    """What a job adds to a picture: the objects of one category, perhaps none.

    Attributes:
        entry: the picture.
        picture: the same, as the job has it.
        category: number of the category, from 1.
        objects: of the category.
    """

    entry: Entry
    picture: Picture
    category: int
    objects: tuple[ObjectDict, ...]


class Catalogue:
    """Memory holds an entry for each picture, and no masks.

    Attributes:
        pictures: by identity and size.
        categories: number and name, by the name's key.
    """

    def __init__(self) -> None:
        self.pictures: dict[tuple[str, int, int], Entry] = {}
        self.categories: dict[str, tuple[int, str]] = {}
        self._names: dict[str, int] = {}  # by path, too, the last number that told it apart

    def add(self, job: Job) -> Iterator[Sighting]:
        """Take in a job; to be exhausted.

        Yields:
            What it adds to each of its pictures; a picture that nothing was looked for in has no sighting.
        """
        document = job.document
        for entity in document["entities"]:
            self._category(entity)
        for picture in job.pictures:
            if picture.image["objects"] is None:
                continue  # it failed: listed without objects, it would count as a picture that shows nothing
            entry = self._entry(job, picture)
            by_label: dict[str, list[ObjectDict]] = {entity: [] for entity in document["entities"]}
            for item in picture.image["objects"]:
                by_label.setdefault(item["label"], []).append(item)
            for label, items in by_label.items():
                category = self._category(label)
                if category not in entry.found:
                    entry.found[category] = bool(items)
                    yield Sighting(entry, picture, category, tuple(items))

    def _category(self, name: str) -> int:
        return self.categories.setdefault(phrase_key(name), (len(self.categories) + 1, name))[0]

    def _entry(self, job: Job, picture: Picture) -> Entry:
        width, height = picture.image["width"], picture.image["height"]
        key = (picture.identity, width, height)
        if key not in self.pictures:
            number, name = len(self.pictures) + 1, self._file_name(picture.name)
            self.pictures[key] = Entry(number, name, width, height, job.id, picture.role)
        return self.pictures[key]

    def _file_name(self, path: str) -> str:
        name, times = path, self._names.get(path, 1)
        while name in self._names:
            times += 1
            name = f"{path}#{times}"
        self._names[path] = times
        self._names.setdefault(name, 1)
        return name
