"""The verdict of a result document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serve_app.schemas.base import Fraction, Wire

EntityStatus = Literal["ok", "missing", "too_few", "too_many", "unwanted", "other_attribute", "unknown"]
ReferenceStatus = Literal["unknown", "missing", "arrived", "different", "not_asked", "merged"]

Cosine = Annotated[float, Field(ge=-1.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]


class Bare(Wire):
    """An entity's noun without its adjectives, such as "sofa" for "blue sofa", and how many of it were found."""

    entity: str
    found: Annotated[int, Field(ge=1)]


class EntityVerdict(Wire):
    """How many of one entity the prompt asks for, and how many the generated image shows."""

    entity: str
    asked: Count | None = Field(description="How many the prompt asks for; null if one is enough.")
    exact: bool = Field(description="Whether more than `asked` is too many.")
    asked_as: str | None = Field(description="The prompt's own words; null if it does not name the entity.")
    sources: list[Count] = Field(description="Indices of the contextual images that the prompt names for it, from 0.")
    found: Count | None = Field(
        description="Number of distinct objects in the generated image; null if it is not known."
    )
    status: EntityStatus
    objects: list[str] = Field(description="The `object_id`s of these objects.")
    bare: Bare | None


class ReferenceVerdict(Wire):
    """Whether one object of a contextual image is in the generated image."""

    image: Count | None = Field(description="Index in `contextual_images`; null for an image that was not given.")
    object_id: str | None
    individual: Count | None = Field(
        description="Number of the individual that the object shows, counted from 0 for each label."
    )
    match: str | None = Field(description="`object_id` of the matched object in the generated image.")
    similarity: Cosine | None = Field(description="Cosine similarity of this object and the match.")
    margin: float | None = Field(
        description="The match's similarity to this individual, minus its highest to another individual."
    )
    status: ReferenceStatus


class Overlap(Wire):
    """Two objects of one image with different labels that may be the same thing."""

    image: str = Field(description="`generated_image` or `contextual_images[i]`.")
    objects: Annotated[list[str], Field(min_length=2, max_length=2)]
    iou: Fraction


class VerdictScores(Wire):
    """The verdict in numbers. A number is null if nothing could be judged."""

    entities: Fraction | None = Field(description="Share of entities that are `ok`.")
    identity: Cosine | None = Field(description="Mean similarity of the matched individuals.")
    collapsed: Fraction | None = Field(description="Share of individuals that are not `arrived`.")


class Identity(Wire):
    """The model that compared individuals, and its settings."""

    model: str
    pooling: str
    crop: str
    threshold: Cosine


class Verdict(Wire):
    """Whether each thing that the prompt asks for is in the generated image."""

    arrived: bool | None
    entities: list[EntityVerdict]
    references: list[ReferenceVerdict]
    overlaps: list[Overlap]
    scores: VerdictScores
    reasons: list[str]
    identity: Identity | None
