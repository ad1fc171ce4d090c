"""Lists of English words for reading prompts, grouped by their role in a sentence. Data only.

Every word is in lower case. The lists were written for this project.
"""

from __future__ import annotations

import re
from typing import Final


def words_of(text: str) -> frozenset[str]:
    """Split a text into its words, as a set."""
    return frozenset(text.split())


def phrases_of(text: str) -> tuple[tuple[str, ...], ...]:
    """Split a text at its commas, and each part into its words."""
    return tuple(tuple(phrase.split()) for phrase in text.split(","))


_UP_TO_TWENTY = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty"""
_TENS = "thirty forty fifty sixty seventy eighty ninety hundred"
NUMBERS: Final = {word: value for value, word in enumerate(_UP_TO_TWENTY.split())} | {
    word: value for value, word in zip(range(30, 101, 10), _TENS.split(), strict=True)
}
"""Number words and their values."""

NUMBER: Final = re.compile(
    r"(?:0|[1-9]\d{0,5}|(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)-(?:one|two|three|four|five|six|seven|eight|nine)|"
    + "|".join(sorted(NUMBERS, key=len, reverse=True))
    + ")"
)
"""Matches a number in digits or words."""

SETS: Final = {"pair": 2, "duo": 2, "trio": 3, "threesome": 3, "quartet": 4, "foursome": 4, "quintet": 5}
"""Nouns before "of" that give a number: "a pair of dogs" is two dogs."""

_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth"
ORDINALS: Final = {word: value for value, word in enumerate(_ORDINALS.split(), start=1)}
"""Ordinal words and their values."""

UNITS: Final = words_of(
    "mm cm dm m km meter meters metre metres inch inches in foot feet ft yard yards mile miles kg g gram grams lb lbs "
    "pound pounds oz ounce ounces ton tons liter liters litre litres ml cl gallon gallons year years month months week "
    "weeks day days hour hours minute minutes second seconds o'clock degree degrees percent story storey stories "
    "storeys floor px pixel pixels megapixel megapixels mp fps k hp watt watts volt volts euro euros dollar dollars "
    "cent cents am pm bc ad sided seater legged door string piece speed"
)
"""Words that make the number before them a measure: "a 2 meter pole" is one pole."""

LABELLED: Final = words_of(
    "size number no route type formula version area level apollo boeing model mark chapter season episode track room "
    "highway class grade pier gate platform step page volume part phase windows playstation chanel nr"
)
"""Words that make the number after them a name: "Formula 1 cars"."""

INDEFINITE: Final = words_of("a an another one")
DEFINITE: Final = words_of("the this that these those his her its their my your our same said")
"""Determiners that point to something known, or to something in an image."""

VAGUE: Final = words_of(
    "several some many few various multiple numerous countless plenty lots loads tons dozens hundreds thousands scores "
    "any all each every more most enough different assorted scattered"
)
"""Words before a noun that leave the number open: one is enough."""

COLLECTIONS: Final = words_of(
    "group herd bunch flock pack crowd swarm school pile heap cluster row line stack lot number couple handful "
    "collection set array series variety range bouquet team gang bevy colony litter pride assortment scattering"
)
"""Nouns before "of" that leave the number open: "a herd of cows"."""

APPROXIMATE: Final = words_of("about approximately roughly nearly almost circa")
"""Words that make the number after them inexact."""

ONE_PAIRED: Final = words_of(
    "glasses sunglasses eyeglasses spectacles goggles binoculars jeans trousers pants shorts leggings tights pyjamas "
    "pajamas scissors shears pliers tweezers tongs headphones earphones earbuds shoes boots sneakers sandals slippers "
    "heels socks gloves mittens skis skates earrings handcuffs chopsticks crutches"
)
"""Nouns of which "a pair" is one thing, because the two are worn or used together."""

MASS: Final = words_of(
    "water seawater rainwater grass snow slush sand fog mist haze smoke rain drizzle hail frost dew ice lightning "
    "thunder air wind sunlight hair fur stubble makeup blood sweat skin fire ash mud dirt soil earth clay gravel "
    "dust steam vapor vapour foam moss ivy heather clover bamboo kelp seaweed algae coral plankton foliage "
    "vegetation greenery undergrowth underbrush shrubbery driftwood firewood lumber timber plywood wood bark hay "
    "straw peat wheat corn barley lavender pollen asphalt tarmac concrete cement plaster mortar charcoal coal lava "
    "magma granite marble slate limestone sandstone rubble debris wreckage trash garbage rubbish litter graffiti "
    "traffic machinery equipment furniture upholstery bedding luggage baggage clothing footwear outerwear underwear "
    "lingerie sportswear workwear denim fabric cloth leather wool cotton silk lace velvet satin linen tweed suede "
    "felt yarn thread string wire jewelry jewellery armor armour weaponry ammunition cutlery silverware crockery "
    "glassware tableware cookware pottery porcelain earthenware stationery merchandise scaffolding fencing paneling "
    "panelling bunting tinsel confetti glitter paint varnish lacquer wax glue ink chalk gold silver bronze copper "
    "brass iron steel metal plastic rubber glass paper cardboard parchment newsprint foil bread toast dough pasta "
    "spaghetti rice couscous quinoa flour sugar salt pepper cinnamon paprika butter margarine cheese mozzarella "
    "parmesan milk cream yogurt coffee espresso tea wine champagne beer whiskey whisky vodka rum juice lemonade "
    "soda soup broth stew ramen sauce ketchup mustard mayonnaise gravy syrup honey jam marmalade caramel chocolate "
    "candy popcorn cereal granola oatmeal porridge meat beef pork ham bacon chicken poultry seafood caviar sushi "
    "tofu lettuce spinach kale cabbage broccoli cauliflower celery parsley basil cilantro rosemary thyme mint "
    "garlic ginger fruit food produce wasabi oil gasoline petrol fuel rust mold mould mildew dandruff shade "
    "wilderness terrain farmland grassland woodland"
)
"""Mass nouns: unless "a" or a number stands before them, one is enough."""

INVARIANT: Final = words_of(
    "sheep fish deer moose bison salmon trout aircraft spacecraft hovercraft series species scissors jeans people "
    "police cattle glasses sunglasses trousers pants shorts clothes"
)
"""Nouns with one form for singular and plural."""

PREPOSITIONS: Final = words_of(
    "of on in at by with from through over under across above below behind between among amid against along around "
    "into onto near beside besides beneath underneath upon within without during toward towards to for like as "
    "outside inside throughout off past beyond atop opposite alongside next up down out about via per instead than "
    "while that which who whose whom where when if because so then than except featuring showing depicting "
    "containing including"
)
"""Prepositions and other words that cannot be part of the noun phrase after them."""

VERBS: Final = words_of(
    "is are was were be been being has have had having do does did can could will would should may might must put "
    "place add insert remove delete erase replace swap exchange substitute turn transform change convert make "
    "take keep use get give show draw paint create generate render move bring let combine merge edit show draw "
    "depict include exclude stand stands sit sits lie lies lay hold holds wear wears ride rides look looks play "
    "plays eat eats walk walks run runs jump jumps sleep sleeps fly flies swim swims drive drives carry carries "
    "lean leans rest rests hang hangs watch watches chase chases push pushes pull pulls surround surrounds fill "
    "fills cover covers wearing holding carrying riding having using eating drinking chasing pushing pulling "
    "making taking giving throwing catching selling buying feeding towing please i we you he she it they them "
    "there here not never only just also"
)
"""Verbs, pronouns and adverbs that cannot be part of the noun phrase after them."""

CONJUNCTIONS: Final = words_of("and or nor but plus & versus vs")

COLOURS: Final = words_of(
    "red orange yellow green blue teal cyan turquoise purple violet magenta pink brown grey gray black white silver "
    "gold golden amber beige ivory crimson scarlet maroon navy indigo lavender lilac mauve peach coral tan khaki "
    "olive mint emerald ruby sapphire burgundy bronze copper cream charcoal aqua azure cerulean fuchsia ginger blond "
    "blonde brunette transparent translucent colorful colourful multicolored multicoloured rainbow dark light bright "
    "pale deep pastel neon off-white multi-colored multi-coloured reddish bluish greenish yellowish brownish greyish "
    "whitish"
)

MATERIALS: Final = words_of(
    "wooden metal metallic steel iron brass chrome plastic glass ceramic porcelain clay stone marble granite concrete "
    "brick leather suede velvet corduroy tweed silk cotton wool woolen woollen woolly knitted crocheted linen denim "
    "lace satin fur furry fluffy cobblestone gravel terracotta aluminum aluminium tin zinc titanium chrome-plated "
    "paper cardboard rubber bamboo wicker rattan straw oak pine mahogany walnut teak birch cedar crystal golden "
    "gilded rusty rusted"
)
PATTERNS: Final = words_of(
    "striped spotted dotted checkered checked chequered plaid tartan gingham paisley argyle houndstooth pinstriped "
    "quilted embroidered marbled mottled speckled floral flowery patterned polka-dot camouflage camo tie-dye"
)
LOOKS: Final = COLOURS | MATERIALS | PATTERNS
"""Adjectives that an edit can give to a thing: "change the car to red"."""

ADJECTIVES: Final = LOOKS | words_of(
    # size and shape
    "big large huge giant gigantic enormous massive oversized small little tiny miniature mini tall short long wide "
    "narrow thick thin slim slender fat chubby plump skinny muscular round rounded circular square rectangular "
    "triangular oval spherical cylindrical conical hexagonal curved flat crooked pointed pointy arched tangled "
    # age
    "old ancient antique vintage retro new brand-new modern contemporary young younger elderly older aged baby "
    "newborn adult teenage middle-aged medieval "
    # state
    "plain tabby open opened closed shut locked empty full broken cracked shattered chipped torn ripped tattered "
    "frayed dirty grimy clean wet damp soaked dry frozen icy snowy muddy dusty mossy weathered worn faded peeling "
    "burning burnt burned charred lit unlit glowing shiny shining glossy matte polished smooth rough soft hard sharp "
    "blunt folded unfolded folding crumpled wrinkled rolled melting melted bent damaged destroyed ruined crumbling "
    "abandoned collapsed overgrown sunken wrecked overturned toppled fallen scattered parked stacked floating "
    "sleeping awake sitting seated standing kneeling crouching running walking jumping flying smiling laughing crying "
    "happy sad angry scared tired cute adorable beautiful pretty handsome ugly fancy ornate simple rustic elegant "
    "decorative decorated painted carved framed tiled paved thatched corrugated half-empty half-full half-eaten "
    "half-open ripe unripe rotten fresh withered wilted blooming dried sliced chopped peeled cooked raw dead bare "
    "leafless leafy bald bearded shaggy hairy curly straight wavy messy tidy lush heavy lightweight steaming dripping "
    "hanging inflated deflated lighted illuminated loose crowded"
)
"""Adjectives that do not change the kind of thing that a phrase names."""

TWO_WORD_ADJECTIVES: Final = frozenset(
    phrases_of(
        "cast iron, stainless steel, wrought iron, sky blue, baby blue, navy blue, royal blue, ice blue, midnight "
        "blue,  steel blue, powder blue, hot pink, baby pink, forest green, lime green, olive green, mint green, sea "
        "green,  emerald green, army green, rose gold, blood red, cherry red, wine red, brick red, burnt orange, "
        "lemon yellow,  mustard yellow, off white, snow white, jet black, leopard print, zebra print, tiger print, "
        "animal print,  polka dot, tie dye, pin stripe, run down, worn out, faux leather, faux fur, patent leather, "
        "solid gold"
    )
)
"""Adjectives of two words."""

ADJECTIVE_ENDINGS: Final = words_of(
    "colored coloured covered shaped sized aged old lit painted striped patterned dotted worn haired legged eyed "
    "sleeved tiered filled lined trimmed rimmed stained faced toned built made like"
)
"""Last parts of hyphenated adjectives: "snow-covered", "heart-shaped"."""

COMPOUNDS: Final = frozenset(
    phrases_of(
        "hot dog, palm tree, bald eagle, tin can, red panda, polar bear, black bear, brown bear, grizzly bear, black "
        "hole, red carpet,  green screen, white board, black board, blue jay, red cross, little finger, orange juice, "
        "orange tree,  orange slice, orange peel, silver screen, golden retriever, golden gate bridge, white house, "
        "yellow cab,  green tea, black tea, red wine, white wine, dry ice, soft drink, hard hat, hard  drive, high "
        "chair, high  heels, flat screen, full moon, new moon, big ben, big wheel, round  table, long board, long "
        "bow, short bow,  great dane, great white shark, baby carriage, baby stroller, baby bottle, baby carrot, "
        "paper clip, paper  plane, paper airplane, glass  eye, glass slipper, rubber duck, rubber band, rubber stamp, "
        "brass band, brass  knuckles, iron  man, lace curtain, straw hat, cotton candy, cotton ball, steel drum, "
        "light bulb, light  saber, light switch, dark room, fresh water, open sign, running shoe, running shoes, "
        "sleeping bag, sitting  room, standing desk, flying fish, flying saucer, walking stick, smiling face, happy "
        "meal, crystal ball,  marble run, pine cone, pine tree, oak tree, bamboo shoot, peach tree, coral reef, mint "
        "leaf, lavender  field, olive oil, olive tree, cream cheese, emerald city, ginger root, gingerbread man, "
        "charcoal grill, fur  coat, wet suit, dry suit, high heel, goldfish bowl, green bean, green onion, green "
        "pepper, black pepper,  blue whale, golden eagle, black widow, blue cheese, red snapper, red bull, brown "
        "sugar, brown bread, white  chocolate, dark chocolate, orange blossom, orange grove, silver birch, silver "
        "fern, dry cleaner, dry  cleaning, wet wipe, wet floor sign, fire hydrant, hard drive, soft toy, soft serve, "
        "flat iron, flat cap,  long johns, tall ship, big cat, little league, new zealand, open fire, closed sign, "
        "burning man, flying fox,  flying squirrel, sleeping beauty, sleeping mat, standing ovation, walking frame, "
        "running track, jumping  jack, jumping spider, jumping castle, dead sea, baby powder, baby monitor, baby "
        "food, baby shower, paper  towel, paper crane, paper boat, glass house, steel mill, stone fruit, marble cake, "
        "marble arch, brick oven,  clay pigeon, rubber plant, cotton swab, cotton field, bamboo forest, oak leaf, "
        "pine needle, pine forest,  crystal palace, straw man, fur seal, coral snake, coral island, ruby slippers, "
        "mint tea, mint ice cream,  olive branch, peach cobbler, peach blossom, lavender oil, ginger ale, ginger "
        "beer, ginger tea, ginger snap,  copper mine, gold mine, gold rush, charcoal drawing, charcoal sketch, cream "
        "puff, cream soda, cream cake,  cream pie, navy seal, navy ship, rainbow trout, light fixture, light pole, "
        "light post, light box, light  show, light beam, light stand, light meter, light aircraft, metal detector, "
        "metal band, stained glass,  square dance, vintage shop, antique shop, antique store, antique dealer, rolled "
        "oats, clean room, dirt road,  smooth fox terrier, rough collie, fancy dress, painted turtle, painted lady, "
        "spotted hyena, spotted owl,  striped bass, full house, long jump, high jump, baby crib, baby seat, baby "
        "clothes, baby blanket, new york"
    )
)
"""Phrases that name another thing if their first word is left out, so they stay whole."""

PLURALS: Final = words_of("people police cattle men women children feet teeth geese mice cacti fungi dice oxen kids")
"""Plurals that do not end in "s"."""

NO_PARTICIPLES: Final = words_of(
    "bed sled shed seed weed reed feed breed steed creed bleed speed hundred seaweed tweed birdseed flatbed "
    "watershed moped biped kindred ring king wing string spring swing sling thing sting earring ceiling building "
    "painting clothing awning railing wedding lightning pudding drawing lighting opening crossing parking "
    "dwelling carving covering landing siding stocking herring dumpling duckling sapling gosling darling sibling "
    "icing topping filling dressing stuffing coating padding bedding flooring roofing fencing paneling "
    "scaffolding plumbing wiring engraving etching morning evening offspring mooring handwriting viking piping "
    "lining bunting hamstring drawstring shoestring starling seedling yearling"
)
"""Nouns that end like participles."""

PLURAL_MODIFIERS: Final = words_of(
    "sports arms clothes goods news jeans savings sales customs systems games drinks glasses men women children ladies "
    "kids arts crafts parks athletics gymnastics billiards darts cards antiques headquarters graphics robotics "
    "logistics electronics plus texas kansas mercedes"
)
"""Words ending in "s" that can stand before a noun in its phrase: "sports car"."""

S_SINGULARS: Final = words_of(
    "lens canvas gas atlas christmas bus cactus octopus walrus iris trellis chrysalis tennis hibiscus crocus lotus "
    "asparagus circus platypus hippopotamus rhinoceros albatross compass mattress waitress actress princess cypress "
    "grass glass dress cross moss chess brass class harness necklace oasis pancreas gas bias chaos cosmos "
    "venus"
)
"""Singular nouns that end in "s"."""


def is_number(word: str) -> bool:
    """Tell whether a word is a number or a range of numbers: "12", "twelve", "twenty-one", "2-3"."""
    if word.isalpha():
        return word in NUMBERS
    return NUMBER.fullmatch(word) is not None or all(NUMBER.fullmatch(part) for part in word.split("-", 1))


def is_plural(word: str) -> bool:
    """Tell whether a noun is a plural, or has one form for both. Only the last part of a hyphenated word counts."""
    noun = word.rpartition("-")[2] or word
    if noun in PLURALS or noun in INVARIANT:
        return True
    return noun.endswith("s") and noun not in S_SINGULARS and not noun.endswith(("ss", "us", "is"))
