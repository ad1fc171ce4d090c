from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import product

import pytest

from serve_app.config.files import app_config_from
from serve_app.config.schema import EntityFilterConfig
from serve_app.entities import filter as entity_filter
from serve_app.entities import terms as vocabulary
from serve_app.entities.filter import Dropped, EntityFilter, FilterResult
from serve_app.entities.words import all_forms, split_words

DROPPED = {
    "lighting": [
        "light", "Soft Light", "golden light", "white light", "lighting", "dramatic lighting", "studio lighting",
        "shadows", "shadow", "The Shadows", "dark shadows", "shadows on the wall", "shadow of a tree",
        "long shadows across the floor", "moonlight", "sunlight through the window", "golden hour", "golden-hour light",
        "rays of light", "god rays", "sun rays", "beam of light", "warm glow", "neon glow", "window light",
        "morning light", "rim light", "light and shadow", "lens flare", "reflections", "reflection in the water",
        "lights", "bright lights", "soft golden light through the window", "with soft lighting", "sunset", "dusk",
        "high contrast", "bokeh lights", "play of light and shadow",
    ],
    "mood": [
        "mood", "moods", "moody", "gloomy mood", "cinematic mood", "cozy atmosphere", "serene", "sense of wonder",
        "feeling of peace", "peaceful ambiance", "warm tones", "emotion", "magical aura", "nostalgia",
    ],
    "style": [
        "style", "anime style", "Victorian style", "style of Monet", "in the style of Van Gogh", "oil painting style",
        "oil painting", "oil painting of a castle", "minimalist aesthetic", "photorealistic", "cinematic",
        "concept art", "digital art", "black and white", "vivid colors", "pastel colours", "color palette",
        "pastel palette", "3d render", "watercolor", "moody portrait of an old man", "portrait", "cyberpunk",
    ],
    "camera": [
        "bokeh", "shallow depth of field", "depth of field", "wide angle", "wide-angle shot", "close-up",
        "close up of a face", "camera angle", "low angle shot", "drone shot", "35mm lens", "wide angle lens", "85mm",
        "f/1.8", "50mm f1.4", "iso 100", "film grain", "35mm film", "sharp focus", "photo", "photo of a dog",
        "photography", "macro photography", "bird's eye view", "aerial view", "wide shot of a street",
        "rule of thirds", "motion blur", "long exposure", "composition",
    ],
    "quality": [
        "quality", "high quality", "best quality", "masterpiece", "8k", "4K", "8k resolution", "HDR", "highly detailed",
        "ultra-detailed", "intricate details", "award-winning", "trending on artstation", "clean lines",
    ],
    "scene": [
        "scene", "winter scene", "background", "backgrounds", "blurred background", "white background", "scenery",
        "time of day", "foreground", "night", "in the background", "beautiful landscape", "simple backdrop",
        "environment", "rainy day",
    ],
}  # fmt: skip

KEPT = [
    # what a word about the picture is made into by the noun that follows it
    "light brown cabinet", "light bulb", "light switch", "light blue car", "lightsaber", "lighthouse", "lamp",
    "table lamp with soft light", "shadow puppet", "shadow box", "mood ring", "style magazine", "retro style sofa",
    "Victorian-style house", "quality inspector", "scene painter", "background dancer", "photo frame", "photo album",
    "camera tripod", "camera lens", "film reel", "detailed map", "shot glass", "night sky", "nightstand",
    "evening gown", "winter coat", "energy drink", "love letter", "dream catcher", "4k monitor", "glow stick",
    "color pencils", "art gallery", "anime girl", "comic book", "reflecting pool", "cyberpunk city", "moody sky",
    "dark forest", "golden retriever", "soft pillow", "cozy cabin", "black and white cat", "stained glass window",
    # what it is made into by the noun before it
    "traffic light", "traffic lights", "red traffic light", "street light", "street lights at night", "string lights",
    "christmas lights", "neon lights", "brake light", "ring light", "eye shadow", "hair style", "manta ray",
    "nativity scene", "table setting", "wooden beam", "forest background", "family photo", "framed photo",
    # things that share a word with a category
    "camera", "vintage camera", "camera on a tripod", "polaroid camera", "drone", "lens", "mirror", "rear view mirror",
    "painting", "painting of a horse", "portrait on the wall", "photo on the desk", "abstract painting", "palette",
    "wooden palette", "neon sign", "candle", "lantern", "sun", "moon", "stars", "fog", "clouds", "silhouette",
    "shot of whiskey", "pool of water", "bowl of soup", "studio lights", "red and blue lights", "headlights",
    # places and parts of the scene are entities
    "garden", "street", "beach", "sky", "wall", "desert landscape", "city skyline",
    # a word about the picture inside the phrase's tail
    "man in the shadows", "woman in soft light", "house in the background", "light and dark brown table",
    # colours that are also things, and other languages
    "orange", "rose", "gold", "chien rouge", "красный диван", "红色沙发",
]  # fmt: skip


@pytest.mark.parametrize(
    ("entity", "reason"),
    [pytest.param(entity, reason, id=f"{reason}: {entity}") for reason, group in DROPPED.items() for entity in group],
)
def test_reason_names_what_the_words_describe(entity: str, reason: str) -> None:
    assert EntityFilter(EntityFilterConfig()).reason(entity) == reason


@pytest.mark.parametrize("entity", KEPT, ids=KEPT)
def test_reason_is_none_for_things(entity: str) -> None:
    assert EntityFilter(EntityFilterConfig()).reason(entity) is None


@pytest.mark.parametrize(
    ("terms", "entity", "dropped"),
    [
        pytest.param(["fog"], "fog", True, id="exact"),
        pytest.param(["Fog"], "FOG", True, id="any case"),
        pytest.param(["tree"], "trees", True, id="plural of a term"),
        pytest.param(["trees"], "tree", True, id="singular of a term"),
        pytest.param(["leaves"], "leaf", True, id="irregular plural"),
        pytest.param(["people"], "person", True, id="people"),
        pytest.param(["gloves"], "glove", True, id="plural in -ves"),
        pytest.param(["boxes"], "box", True, id="plural in -es"),
        pytest.param(["houses"], "house", True, id="plural in -ses"),
        pytest.param(["the wall"], "wall", True, id="article in the term"),
        pytest.param(["shadows"], "shadows on the wall", True, id="leading word"),
        pytest.param(["fog"], "fog over the lake", True, id="leading word before a preposition"),
        pytest.param(["fog"], "fog background", True, id="leading word before a word about the picture"),
        pytest.param(["film set"], "film sets", True, id="two words"),
        pytest.param(["тень"], "Тень", True, id="another alphabet"),
        pytest.param(["fog"], "fog machine", False, id="part of a compound"),
        pytest.param(["wall"], "brick wall", False, id="not leading"),
        pytest.param(["wall"], "wallpaper", False, id="part of a word"),
        pytest.param(["light"], "light brown cabinet", False, id="light brown cabinet"),
        pytest.param(["cap"], "cape", False, id="similar word"),
        pytest.param(["film set"], "film", False, id="part of a term"),
        pytest.param([""], "dog", False, id="blank term"),
    ],
)
def test_apply_drops_excluded_terms(terms: list[str], entity: str, dropped: bool) -> None:
    only_config = EntityFilterConfig(excluded_terms=tuple(terms), builtin_terms=False)
    result = EntityFilter(only_config).apply([entity, "zeppelin"])

    assert result.dropped == ([(entity, "excluded by config")] if dropped else [])
    assert result.kept == (["zeppelin"] if dropped else [entity, "zeppelin"])


def test_apply_keeps_order_and_wording_on_both_sides() -> None:
    result = EntityFilter(EntityFilterConfig(excluded_terms=("snow",))).apply(
        ["Red Sofa", "soft light", "dog", "snow", "8k", "light bulb"]
    )

    assert result.kept == ["Red Sofa", "dog", "light bulb"]
    assert result.dropped == [("soft light", "lighting"), ("snow", "excluded by config"), ("8k", "quality")]


def test_apply_answers_nothing_with_nothing() -> None:
    result = EntityFilter(EntityFilterConfig()).apply([])

    assert (result.kept, result.dropped) == ([], [])


def test_apply_without_builtin_terms_keeps_words_about_the_picture() -> None:
    assert EntityFilter(EntityFilterConfig(builtin_terms=False)).apply(["mood", "dog"]).kept == ["mood", "dog"]


@pytest.mark.parametrize(
    "entity", ["beam of " * 400 + "light", "shot " * 800, "soft " * 800 + "light", "light and " * 400 + "light"]
)
def test_reason_of_a_text_as_long_as_a_prompt_is_none_and_found_quickly(entity: str) -> None:
    start = time.perf_counter()
    assert EntityFilter(EntityFilterConfig(excluded_terms=["fog", "soft rain"])).reason(entity) is None
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("entity", ["beam of " * 23 + "light", "soft " * 47 + "light"])
def test_reason_of_a_long_phrase_is_still_found(entity: str) -> None:
    assert EntityFilter(EntityFilterConfig()).reason(entity) == "lighting"


@pytest.mark.parametrize("entity", ["", " ", "...", "and", "of", "the", "of of of", "x" * 4000, "🛋️", "1 2 3"])
def test_reason_keeps_what_it_cannot_read(entity: str) -> None:
    assert EntityFilter(EntityFilterConfig()).reason(entity) is None


@pytest.mark.parametrize(
    ("entity", "prompt", "kept"),
    [
        pytest.param("red sofa", "A dog on a red sofa", True, id="copied"),
        pytest.param("sofas", "A red sofa", True, id="the plural of what the prompt says"),
        pytest.param("leaf", "autumn leaves", True, id="the singular of what the prompt says"),
        pytest.param("red car", "Change the car to red", True, id="copied words in another order"),
        pytest.param("Red Sofa", "a RED-SOFA", True, id="case and hyphen"),
        pytest.param("cat", "a (cat:1.2)", True, id="inside prompt syntax"),
        pytest.param("girl", "masterpiece, 1girl", True, id="joined to its number"),
        pytest.param("🛋️", "a sofa", True, id="without a word"),
        pytest.param("spraw car", "A sprawling garage with a car", False, id="garbled"),
        pytest.param("morningvtrending dog", "morning, trending, [V] dog", False, id="joined"),
        pytest.param("dog", "ein Hund", False, id="translated"),
        pytest.param("art", "a cart", False, id="part of a word"),
    ],
)
def test_a_parser_that_copies_cannot_name_what_the_prompt_lacks(entity: str, prompt: str, kept: bool) -> None:
    off = EntityFilterConfig(builtin_terms=False)
    on = EntityFilterConfig(builtin_terms=False, only_from_prompt=True)
    expected = FilterResult([entity], []) if kept else FilterResult([], [Dropped(entity, "not in the prompt")])

    assert EntityFilter(off, copies=True).apply([entity], prompt) == expected
    assert EntityFilter(on).apply([entity], prompt) == expected
    assert EntityFilter(off).apply([entity], prompt).kept == [entity]
    assert EntityFilter(on).apply([entity]).kept == [entity]
    assert EntityFilter(EntityFilterConfig(only_from_prompt=False), copies=True).apply(["dog"], "x").kept == ["dog"]


@pytest.mark.parametrize(("model_name", "dropped"), [("embedded", True), ("Qwen/Qwen3-VL-8B-Instruct", False)])
def test_only_the_embedded_parser_counts_as_one_that_copies(model_name: str, dropped: bool) -> None:
    config = app_config_from({"models": {"text_parser": {"model_name": model_name}}})
    assert bool(EntityFilter.of(config).apply(["dog"], "ein Hund").dropped) == dropped


def decision_table() -> list[tuple[str, list[str], str]]:
    """Read the table in the module's docstring: phrase, lists and result of each row."""
    lines = (entity_filter.__doc__ or "").split("-+-")[-1].splitlines()[1:]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.strip()]
    return [(phrase, [name for name in lists.split(", ") if name], result) for phrase, _, lists, result in rows]


def entries(name: str) -> set[tuple[str, ...]]:
    """All terms of a list, as words."""
    if name == "excluded_terms":
        return {("fog",)}
    found = getattr(vocabulary, name)
    groups = found.values() if isinstance(found, Mapping) else [found]
    return {(entry,) if isinstance(entry, str) else entry for group in groups for entry in group}


@pytest.mark.parametrize(("phrase", "lists", "result"), decision_table(), ids=[row[0] for row in decision_table()])
def test_the_decision_table_in_the_docstring_holds(phrase: str, lists: list[str], result: str) -> None:
    reason = EntityFilter(EntityFilterConfig(excluded_terms=("fog",))).reason(phrase)
    assert {None: "kept", "excluded by config": "excluded"}.get(reason, reason) == result
    words = all_forms(split_words(phrase))
    parts = [words[start:end] for start in range(len(words)) for end in range(start + 1, len(words) + 1)]
    for name in lists:
        assert any(form in entries(name) for part in parts for form in product(*part)), name


def test_the_decision_table_shows_every_list() -> None:
    lists = {
        name for name, value in vars(vocabulary).items() if isinstance(value, frozenset | Mapping) and name[0] != "_"
    }
    assert {name for _, names, _ in decision_table() for name in names} == lists | {"excluded_terms"}


def test_words_that_a_choice_is_read_with_count_as_the_prompts() -> None:
    on = EntityFilter(EntityFilterConfig(only_from_prompt=True))
    assert on.apply(["red or blue car"], "[red|blue] car").kept == ["red or blue car"]
