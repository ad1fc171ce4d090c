"""Collects the pictures and categories of a data set, each once, even if many jobs name it.

A picture that several jobs share has the objects of all of them. If several jobs look for the same entity in it, only
the first job's objects count, because the others found the same ones again. Entities that differ only in case or in
Unicode composition are one category, with the name of the first.
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
        number: counted from 1, in the order in which jobs name the pictures.
        file_name: the name in the results. If several pictures have the same name, such as addresses that differ only
            in their query, the others get "#2", "#3", …
        width: in pixels.
        height: in pixels.
        job_id: id of the first job that names the picture.
        role: the picture's role in that job.
        found: whether a category was found, by the number of each category that a job looked for.
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
    """The objects of one category that a job adds to a picture.

    Attributes:
        entry: the picture in the data set.
        picture: the same picture in the job.
        category: number of the category, counted from 1.
        objects: the objects of that category; may be empty.
    """

    entry: Entry
    picture: Picture
    category: int
    objects: tuple[ObjectDict, ...]


class Catalogue:
    """The pictures and categories of a data set. Memory holds an entry for each picture, and no masks.

    Attributes:
        pictures: the entries, by `file_key`, width and height.
        categories: number and name of each category, by the `phrase_key` of its name.
    """

    def __init__(self) -> None:
        self.pictures: dict[tuple[str, int, int], Entry] = {}
        self.categories: dict[str, tuple[int, str]] = {}
        self._names: dict[str, int] = {}  # taken names; for each path, the last number added to it

    def add(self, job: Job) -> Iterator[Sighting]:
        """Add a job. Read the iterator to its end.

        Yields:
            One sighting for each picture and each category that no earlier job looked for in it.
        """
        document = job.document
        for entity in document["entities"]:
            self._category(entity)
        for picture in job.pictures:
            if picture.image["objects"] is None:
                continue  # it failed; in the data set it would look like a picture that shows nothing
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
        key = (picture.file_key, width, height)
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
