"""Words of image prompts that name no physical thing, by the reason that the user sees.

Data only; `filter` defines how the words combine into phrases. Every word is singular and in lower case; hyphens are
written as spaces.

Source: the vocabulary of public prompt guides for diffusion models, sorted by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LIGHTING: Final = "lighting"
MOOD: Final = "mood"
STYLE: Final = "style"
CAMERA: Final = "camera"
QUALITY: Final = "quality"
SCENE: Final = "scene"


def _terms(text: str) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(term.split()) for term in text.replace("\n", " ").split(",") if term.strip())


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ALWAYS: Final[Mapping[str, frozenset[tuple[str, ...]]]] = {
    LIGHTING: _terms(
        """lighting, sunlight, moonlight, daylight, candlelight, lamplight, firelight, starlight, backlight,
        backlighting, uplighting, glow, shadow, reflection, glare, glint, gleam, shimmer, luminosity, luminance,
        illumination, chiaroscuro, sunbeam, sunray, sunshine, moonbeam, moonshine, golden hour, blue hour, magic
        hour, god ray, sun ray, crepuscular ray, lens flare, light leak, light trail, light streak, light beam,
        light ray, light shaft, caustic, ray tracing, sun kissed, subsurface scattering, global illumination,
        ambient occlusion, brightness, darkness, specular"""
    ),
    MOOD: _terms(
        """mood, atmosphere, ambiance, ambience, vibe, feeling, emotion, serenity, tranquility, tranquillity,
        melancholy, nostalgia, happiness, sadness, solitude, loneliness, coziness, cosiness, mystique, wonderment,
        euphoria, calmness, stillness, togetherness, elegance, grandeur, whimsy, suspense, sense of wonder, sense of
        scale, spirit of adventure"""
    ),
    STYLE: _terms(
        """style, aesthetic, art style, photorealism, hyperrealism, realism, surrealism, impressionism, expressionism,
        minimalism, maximalism, cubism, futurism, vaporwave, synthwave, retrowave, cottagecore, color palette,
        colour palette, color scheme, colour scheme, color grading, colour grading, color grade, colour grade,
        concept art, digital art, pixel art, fan art, line art, vector art, pop art, op art, art deco, art nouveau,
        low poly, cel shading, octane render, unreal engine, unreal engine 5, interior design, graphic design, unity
        engine, blender render, black and white, double exposure, colorway, colourway, genre"""
    ),
    CAMERA: _terms(
        """photography, cinematography, bokeh, depth of field, field of view, point of view, rule of thirds, golden
        ratio, composition, framing, perspective, camera angle, camera movement, camera setting, camera work, close
        up, closeup, close up shot, wide angle, low angle, high angle, dutch angle, eye level, bird eye view, worm
        eye view, top down, motion blur, focal length, shutter speed, long exposure, short exposure, multiple
        exposure, tilt shift, film grain, white balance, vignette, vignetting, chromatic aberration, autofocus,
        viewpoint, vantage point, photoshoot, photo shoot, pov, view, out of focus, full body, half body, three
        quarter, head on, foreshortening, f stop, aperture, iso, headshot, medium format, telephoto, macro,
        timelapse, time lapse, slow motion"""
    ),
    QUALITY: _terms(
        """quality, resolution, masterpiece, sharpness, clarity, high res, highres, hi res, hires, hd, uhd, full hd,
        hdr, hdri, dynamic range, 2k, 4k, 5k, 6k, 8k, 16k, 32k, 1080p, 2160p, raw photo, level of detail, attention
        to detail, high definition, award winning, crystal clear, trending on artstation, artstation, award winner,
        best of show, upscale, megapixel, fidelity, wallpaper quality, craftsmanship"""
    ),
    SCENE: _terms(
        """scene, scenery, environment, surrounding, time of day, weather, daytime, nighttime, indoor, outdoor,
        vicinity, whereabouts, locale, ambient environment, springtime, summertime, wintertime, mise en scene"""
    ),
}
"""Heads that describe the picture after any words ("Victorian style", "neon glow")."""

BESIDE_ADJECTIVES: Final[Mapping[str, frozenset[tuple[str, ...]]]] = {
    LIGHTING: _terms(
        """light, ray, softness, highlight, contrast, exposure, shade, tint, sheen, radiance, twilight, dusk, dawn,
        sunset, sunrise, silhouette lighting, sparkle, haziness, neon"""
    ),
    MOOD: _terms(
        """tone, undertone, energy, aura, joy, peace, calm, drama, tension, chaos, romance, warmth, beauty, wonder,
        freedom, love, hope, fear, dream, mystery, intimacy, innocence, adventure, motion, movement, silence, sense,
        impression, touch, hint, concept, idea, story, storytelling, narrative, memory, music, sound, laughter,
        theme, feel"""
    ),
    STYLE: _terms(
        """art, rendering, render, color, colour, hue, saturation, tonality, illustration, watercolor, watercolour,
        gouache, cartoon, anime, manga, cgi, 3d, 2d, aesthetic quality, geometry, symmetry, artwork style, portrait,
        portraiture, collage style, sketch, texture, design, gradient, simplicity"""
    ),
    CAMERA: _terms(
        "angle, shot, focus, depth, blur, photo, photograph, snapshot, image, focal point, aspect ratio, frame rate"
    ),
    QUALITY: _terms("detail, detailing, finish, precision, accuracy, complexity"),
    SCENE: _terms(
        """background, backdrop, foreground, midground, middle ground, setting, landscape, cityscape view, interior,
        exterior, night, day, morning, afternoon, evening, noon, midnight, summer, winter, autumn, season, time,
        distance, moment, negative space, empty space, space around, corner of the frame, air"""
    ),
}
"""Heads that describe the picture if they stand alone or after known words: "soft light", but not "traffic light"."""

ONLY_WITH_ADJECTIVES: Final[Mapping[str, frozenset[tuple[str, ...]]]] = {
    LIGHTING: _terms("haze"),
    STYLE: _terms("painting, drawing, palette, artwork, picture, photo realism, engraving, graphic"),
    CAMERA: _terms("lens, film, camera, shutter"),
    QUALITY: _terms("work, edge, line"),
}
"""Heads that describe the picture only after certain adjectives: "oil painting" does, "painting" is a thing."""

ADJECTIVES: Final[Mapping[str, frozenset[str]]] = {
    LIGHTING: _words(
        """soft softer softest harsh warm cool cold golden dim dimmed bright brilliant dark darkened dramatic natural
        ambient diffuse diffused directional volumetric radiant glowing luminous shimmering hazy dappled filtered
        overhead incandescent fluorescent artificial subtle gentle faint low intense strong backlit sunlit moonlit
        candlelit iridescent bioluminescent shadowy lit deep long high stark muted crepuscular reflected illuminated
        shaded overexposed underexposed direct indirect even"""
    ),
    MOOD: _words(
        """moody cozy cosy serene peaceful tranquil calm calming dreamy dreamlike mysterious ethereal whimsical
        romantic nostalgic melancholic melancholy cheerful gloomy eerie tense epic ominous haunting magical mystical
        enchanting enchanted uplifting joyful happy sad somber sombre bleak festive playful intimate relaxed
        relaxing inviting welcoming energetic vibrant lively majestic heroic sinister spooky creepy dystopian
        utopian sentimental quiet heartwarming wholesome otherworldly surreal fantastical atmospheric emotional
        evocative"""
    ),
    STYLE: _words(
        """cinematic photorealistic hyperrealistic hyperreal realistic surrealistic stylized stylised stylish
        minimalist minimalistic minimal abstract vintage retro futuristic noir monochrome monochromatic sepia pastel
        painterly impressionist impressionistic expressionist cubist baroque gothic rococo cyberpunk steampunk
        solarpunk dieselpunk anime manga cartoon cartoonish ghibli pixar disney digital conceptual concept editorial
        artistic aesthetic illustrated elegant decorative saturated desaturated vivid earthy tonal complementary
        harmonious graphic geometric 3d 2d cgi"""
    ),
    CAMERA: _words(
        """wide ultrawide macro telephoto fisheye anamorphic aerial overhead close closeup zoomed panoramic candid
        blurred blurry sharp shallow selective isometric handheld dslr grainy analog analogue focused tilted
        unfocused kodak fujifilm portra cinestill 35mm 50mm 85mm 24mm 28mm 70mm 100mm 135mm 200mm 16mm photographic
        bokeh"""
    ),
    QUALITY: _words(
        """detailed intricate ultra highly hyper extremely best professional stunning beautiful gorgeous breathtaking
        amazing perfect flawless crisp clean polished exquisite fine premium 4k 8k 2k 16k hd uhd hdr super insane
        insanely masterful superb pristine lifelike"""
    ),
    SCENE: _words(
        """scenic picturesque idyllic indoor outdoor plain simple empty neutral solid seamless busy rustic rainy sunny
        stormy cloudy windy"""
    ),
}
"""Adjectives that describe the picture. A phrase of such adjectives alone is dropped."""

SPECIFIC: Final[Mapping[str, frozenset[str]]] = {
    STYLE: _words(
        """oil acrylic ink pencil charcoal watercolor watercolour gouache matte stock digital pastel monochrome
        monochromatic sepia anime cartoon surreal surrealistic impressionist impressionistic expressionist cubist
        realistic photorealistic hyperrealistic cinematic painterly stylized stylised color colour muted warm cool
        vivid earthy saturated desaturated tonal harmonious complementary 3d 2d cgi concept conceptual ghibli
        graphic"""
    ),
    CAMERA: _words(
        """wide ultrawide angle macro telephoto fisheye anamorphic prime zoom shallow grainy kodak fujifilm portra
        cinestill"""
    ),
}
"""The adjectives that make a head of ONLY_WITH_ADJECTIVES describe the picture: "abstract painting" is a thing.

A category that is not listed here uses its ADJECTIVES."""

FILLERS: Final = _words(
    """very slightly quite rather so and or of the a an more most less overall general slight some all white black
        red orange yellow green blue teal cyan turquoise purple violet magenta pink brown grey gray silver gold
        amber beige ivory crimson colorful colourful colored coloured light rich pale rainbow multicolored late
        early nice good great pretty primary"""
)
"""Neutral words that may stand among the adjectives. Alone they decide nothing: "pink" may be a flower."""

TIMES: Final = _words(
    "morning afternoon evening night day dawn dusk sunset sunrise noon midday summer winter autumn studio"
)
"""Nouns that say when a picture was taken, or that it was taken in a studio: "night shot", "winter landscape"."""

LIGHT_SOURCES: Final = TIMES | _words(
    "window sun moon star candle fire lamp key fill rim back side top edge hair overcast available practical rembrandt"
)
"""Nouns that make "light" lighting in the singular ("window light"); "studio lights" are lamps."""

MEDIA: Final = _words(
    "oil acrylic ink pencil charcoal pen watercolor watercolour gouache chalk crayon matte stock line"
)
"""Materials that make a painting or a drawing the style of the picture: "oil painting of a castle"."""

THINGS: Final = _terms(
    """eye shadow, hair style, nativity scene, manta ray, sting ray, electric ray, skin tone, sun shade, x ray,
        night light, string light, fairy light, street light, traffic light, table setting, place setting, night
        sky, light house, light bulb, light fixture, light switch, light box, light saber, light blue, light brown,
        light grey, light gray, light green, light pink, light wood, shadow box, cool bag, stained glass, northern
        light, sky light, warning light, signal light, back light unit, ring light, crown of light, festoon of
        light, photo frame, picture frame, door frame, window frame, bed frame, film reel, contact lens, dream
        catcher"""
)
"""Phrases that are things although the lists above would drop them."""

OF_WHAT: Final = _words(
    """ray beam shaft pool play patch streak splash burst flood glimmer flicker touch hint sense feeling air lot
        kind type sort bit abundance mix blend interplay sliver wash lack effect presence trace source spot band
        dapple pop"""
)
"""Nouns whose words after "of" decide: "beam of light" is dropped, "pool of water" is kept."""

PREPOSITIONS: Final = _words(
    """of on in at by with from through over under across above below behind between among against along around
        into onto near beside beneath upon within without during toward towards to for like as outside inside
        throughout casting cast falling streaming shining coming filtering pouring glowing dancing stretching
        playing hitting illuminating bathing reflecting reflected surrounding behind that which while showing
        depicting featuring"""
)
"""Words that end a phrase's head: "shadow | on the wall"."""

PLACING: Final = _words("on in at by over under above below behind near beside against inside upon outside")
"""Prepositions that place a picture in the scene: "photo on the desk" is a thing, "photo of a desk" is not."""

PICTURES: Final = _words(
    "photo photograph portrait image picture painting drawing snapshot illustration sketch artwork art"
)
"""Heads that are things when a preposition of PLACING follows."""

SHOOTING: Final = _words("camera drone dslr studio")
"""Devices and places for taking photos: before a head of BESIDE_ADJECTIVES they describe the picture ("drone shot")."""
