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
    asked: Count | None = Field(
        description="How many the prompt asks for: 0 if it excludes the entity, null if at least one is enough."
    )
    exact: bool = Field(description="True if more than `asked` is a fault.")
    asked_as: str | None = Field(
        description="The words of the prompt for this entity; null if the prompt does not mention it."
    )
    sources: list[Count] = Field(
        description="Indices, from 0, of the contextual images from which the prompt takes this entity."
    )
    found: Count | None = Field(
        description="Number of distinct objects in the generated image; null if it is not known."
    )
    status: EntityStatus = Field(description="The result; `unknown` if no generated image was segmented.")
    objects: list[str] = Field(description="The `object_id`s of the objects that `found` counts.")
    bare: Bare | None = Field(
        description="What was found without the adjectives if `status` is `other_attribute`, otherwise null."
    )


class ReferenceVerdict(Wire):
    """Whether one object of a contextual image is in the generated image."""

    image: Count | None = Field(
        description="Index in `contextual_images`; null if the prompt names an image that the request does not have."
    )
    object_id: str | None = Field(
        description="`object_id` of the object; null if the image shows no such object, failed or was not given."
    )
    individual: Count | None = Field(
        description=(
            "Index of the individual, from 0 within the label. Objects with the same index show the same individual."
        )
    )
    match: str | None = Field(description="`object_id` of the matched object in the generated image.")
    similarity: Cosine | None = Field(description="Cosine similarity of this object and the match.")
    margin: float | None = Field(
        description=(
            "Similarity of the match to this individual, minus its highest similarity to any other individual of the "
            "label; null if there is no match or no other individual."
        )
    )
    status: ReferenceStatus = Field(description="The result; `unknown` if there was nothing to compare.")


class Overlap(Wire):
    """Two objects in one image that have different labels but may be the same thing."""

    image: str = Field(description="`generated_image` or `contextual_images[i]`.")
    objects: Annotated[list[str], Field(min_length=2, max_length=2, description="Their `object_id`s.")]
    iou: Fraction = Field(description="Intersection over union of their masks.")


class VerdictScores(Wire):
    """The verdict in numbers. A number is null if nothing could be judged."""

    entities: Fraction | None = Field(description="Share of `ok` among the entities whose status is not `unknown`.")
    identity: Cosine | None = Field(description="Mean similarity of the matched individuals.")
    collapsed: Fraction | None = Field(
        description=(
            "Share of individuals that did not arrive (`different`, `merged` or `missing`) among those whose status is "
            "neither `unknown` nor `not_asked`."
        )
    )


class Identity(Wire):
    """The model that compared individuals, and its settings."""

    model: str
    pooling: str
    crop: str
    threshold: Cosine


class Verdict(Wire):
    """Whether each thing that the prompt asks for is in the generated image."""

    arrived: bool | None = Field(
        description="True if everything arrived, false if anything is wrong, null if it is not known."
    )
    entities: list[EntityVerdict]
    references: list[ReferenceVerdict]
    overlaps: list[Overlap]
    scores: VerdictScores
    reasons: list[str] = Field(description="Why `arrived` is not true, and what was not compared: one sentence each.")
    identity: Identity | None = Field(description="Null if objects were not compared.")
