"""The bare noun of phrases as prompts have them: what adjectives leave out, and what stays whole."""

from __future__ import annotations

import pytest

from serve_app.entities.mentions import bare_noun

SHORTENED = """
    brown teddy bear = teddy bear; red fire hydrant = fire hydrant; glass table = table; stone bridge = bridge; old
    man = man; wooden spoon = spoon; striped shirt = shirt; broken window = window; baby elephant = elephant; tall
    wine glass = wine glass; white golden retriever = golden retriever; large chocolate cake = chocolate cake; grey
    concrete wall = wall; rusty metal gate = gate; shiny silver car = car; half-empty bottle = bottle; fallen leaves
    = leaves; parked cars = cars; snow-covered mountain = mountain; snowy mountain = mountain; moss-covered rock =
    rock; weathered wooden boat = boat; worn leather armchair = armchair; crumpled paper = paper; torn poster =
    poster; blue-and-white vase = vase; black-and-white cat = cat; dark green velvet curtain = curtain; light brown
    cabinet = cabinet; multi-colored umbrella = umbrella; rainbow-colored kite = kite; heart-shaped box = box;
    long-haired cat = cat; one-eyed cat = cat; bald man = man; elderly woman = woman; middle-aged man = man; young
    girl = girl; newborn baby = baby; red high heels = high heels; yellow hard hat = hard hat; red onion = onion;
    brown rice = rice; white rice = rice; green bell pepper = bell pepper; red cabbage = cabbage; white tiger =
    tiger; red fox = fox; grey wolf = wolf; gray squirrel = squirrel; black swan = swan; folding chair = chair;
    burning candle = candle; lit candle = candle; melting snowman = snowman; glowing lantern = lantern; curly hair =
    hair; blonde hair = hair; straight hair = hair; marble statue = statue; bronze statue = statue; brick wall =
    wall; brick house = house; cobblestone street = street; gravel path = path; thatched roof = roof; cast iron pan
    = pan; stainless steel pot = pot; corrugated iron roof = roof; leopard print scarf = scarf; floral wallpaper =
    wallpaper; gingham tablecloth = tablecloth; paisley tie = tie; argyle socks = socks; houndstooth jacket =
    jacket; camouflage jacket = jacket; round mirror = mirror; oval mirror = mirror; triangular flag = flag;
    spherical lamp = lamp; crooked tree = tree; bent antenna = antenna; damaged rover = rover; ruined castle =
    castle; abandoned factory = factory; cracked phone screen = phone screen; wilted rose = rose; dried flowers =
    flowers; sliced lemon = lemon; peeled orange = orange; orange orange = orange; navy blue suit = suit; baby blue
    dress = dress; sky blue car = car; hot pink shoes = shoes; off-white sofa = sofa; forest green door = door; rose
    gold watch = watch; red brick house = house; old and rusty car = car; big, red ball = ball; very old car = car;
    bright red car = car; empty street = street; wet dog = dog; sleeping cat = cat; crying child = child; frozen
    lake = lake; frozen moon = moon; shaggy dog = dog; fluffy white dog = dog; colorful parrot = parrot; transparent
    umbrella = umbrella; porcelain doll = doll; rubber boots = boots; paper lantern = lantern; gold medal = medal;
    silver medal = medal; gold coin = coin; copper pot = pot; leather jacket = jacket; denim jacket = jacket; silk
    scarf = scarf; woolly hat = hat; dead tree = tree; young adult = adult; small child = child; open book = book;
    closed door = door; black sheep = sheep
"""

WHOLE = """
    hot dog; palm tree; ice cream; vanilla ice cream; teddy bear; fire hydrant; polar bear; black bear; red panda;
    white wine; glass of wine; wine glass; golden retriever puppy; full moon; new moon; crescent moon; high heels;
    hard hat; green beans; green onion; black pepper; sweet potato; bell pepper; orange juice; white board;
    blackboard; grand piano; double bass; electric guitar; wild boar; sea lion; killer whale; blue whale; snow
    leopard; arctic fox; bald eagle; golden eagle; brown bear; flying saucer; rocking chair; swimming pool; stained
    glass window; stained glass; dirt road; lavender; rag doll; rubber duck; paper plane; tin can; straw hat; fur
    coat; sand castle; Christmas tree; french fries; white house; wet suit; dry cleaner; open sign; black hole
"""


def _items(text: str) -> list[str]:
    return [" ".join(item.split()) for item in text.split(";")]


@pytest.mark.parametrize("item", _items(SHORTENED))
def test_leading_adjectives_are_left_out(item: str) -> None:
    phrase, noun = item.split(" = ")
    assert bare_noun(phrase) == noun


@pytest.mark.parametrize("phrase", _items(WHOLE))
def test_phrases_without_adjectives_and_compounds_stay_whole(phrase: str) -> None:
    assert bare_noun(phrase) is None


def test_the_tables_are_as_long_as_they_should_be() -> None:
    assert len(_items(SHORTENED)) >= 100
    assert len(_items(WHOLE)) >= 50
