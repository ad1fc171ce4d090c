"""The verdict of a result document, exactly as users see it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serve_app.schemas.base import Fraction, Wire

EntityStatus = Literal["ok", "missing", "too_few", "too_many", "unwanted", "other_attribute", "unknown"]
ReferenceStatus = Literal["unknown", "missing", "arrived", "different", "not_asked", "merged"]

Cosine = Annotated[float, Field(ge=-1.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]


class Bare(Wire):
    """What was found of an entity's noun without its adjectives: "sofa" for "blue sofa"."""

    entity: str
    found: Annotated[int, Field(ge=1)]


class EntityVerdict(Wire):
    """What was asked of one entity, and what the generated image shows of it."""

    entity: str
    asked: Count | None = Field(description="How many the prompt asks for; null if one is enough.")
    exact: bool = Field(description="Whether more than `asked` are too many.")
    asked_as: str | None = Field(description="The prompt's own words; null if it does not name the entity.")
    sources: list[Count] = Field(description="The contextual images that the prompt names for it, from 0.")
    found: Count | None = Field(description="Distinct objects in the generated image; null if they are not known.")
    status: EntityStatus
    objects: list[str] = Field(description="Their `object_id`s.")
    bare: Bare | None


class ReferenceVerdict(Wire):
    """What became of one object of a contextual image."""

    image: Count | None = Field(description="Index in `contextual_images`; null for an image that was not given.")
    object_id: str | None
    individual: Count | None = Field(description="Number of the individual that it shows, within its label, from 0.")
    match: str | None = Field(description="`object_id` in the generated image.")
    similarity: Cosine | None = Field(description="Cosine of this view and the match.")
    margin: float | None = Field(description="Similarity to this individual less that to the most similar other one.")
    status: ReferenceStatus


class Overlap(Wire):
    """Two objects of one image and of different labels that may be one thing."""

    image: str = Field(description="`generated_image` or `contextual_images[i]`.")
    objects: Annotated[list[str], Field(min_length=2, max_length=2)]
    iou: Fraction


class VerdictScores(Wire):
    """The verdict in numbers; null where nothing could be judged."""

    entities: Fraction | None = Field(description="Share of entities that are `ok`.")
    identity: Cosine | None = Field(description="Mean similarity over matched individuals.")
    collapsed: Fraction | None = Field(description="Share of individuals that are not `arrived`.")


class Identity(Wire):
    """The model that compared individuals, and how."""

    model: str
    pooling: str
    crop: str
    threshold: Cosine


class Verdict(Wire):
    """Did each thing that the prompt asks for arrive?"""

    arrived: bool | None
    entities: list[EntityVerdict]
    references: list[ReferenceVerdict]
    overlaps: list[Overlap]
    scores: VerdictScores
    reasons: list[str]
    identity: Identity | None
