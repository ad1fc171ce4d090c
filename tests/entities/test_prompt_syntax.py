# ruff: noqa: RUF001 - the characters that look like others are what this is about
from __future__ import annotations

import doctest
import time
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.config.schema import EntityFilterConfig
from serve_app.entities import lenient_json, prompt_syntax, thoughts
from serve_app.entities.filter import EntityFilter
from serve_app.entities.prompt_syntax import has_only_tags, is_tag, read_phrases, read_prompt

TAGS = [
    "<lora:add_detail:0.8>", "<lora:x>", "<lyco:x:1>", "<hypernet:x:0.5>", "<embedding:x>", "embedding:x",
    "embedding:bad_hands:1.2", "BREAK", "AND", "__color__", "__animals/cat__", "--ar 16:9", "--v 6 --ar 16:9",
    "--no hands, blur",
]  # fmt: skip


@pytest.mark.parametrize(
    ("phrase", "phrases"),
    [
        ("(cat:1.2)", ["cat"]), ("( cat : 1.2 )", ["cat"]), ("cat:1.2", ["cat"]), ("(cat:.5)", ["cat"]),
        ("(cat:-1)", ["cat"]), ("(cat)", ["cat"]), ("((red sofa))", ["red sofa"]), ("(((cat)))", ["cat"]),
        ("( (cat) )", ["cat"]), ("((cat:1.2))", ["cat"]), ("((red sofa):1.3)", ["red sofa"]), ("[[x]]", ["x"]),
        ("[x]", ["x"]), ("{x}", ["x"]), ("{{{x}}}", ["x"]), ("([x])", ["x"]), ("{cat:1.2}", ["cat"]),
        ("（猫：1.2）", ["猫"]), ("cat++", ["cat"]), ("cat--", ["cat"]), ("(red cat)++", ["red cat"]),
        ("(cat)1.3", ["cat"]), ("cat::2", ["cat"]), ("cat::", ["cat"]), ("1.3::cat", ["cat"]),
        ("(mp5 gun:1.2)", ["mp5 gun"]), ("(mp5:1.2)", ["mp5"]), ("(a (red:1.2) cat:0.9)", ["a red cat"]),
        # halves of a group whose middle was a comma
        ("(red sofa", ["red sofa"]), ("cat:1.2)", ["cat"]), ("((red sofa", ["red sofa"]), ("cat))", ["cat"]),
        # steps and alternatives
        ("[cat:dog:0.5]", ["cat", "dog"]), ("[cat:dog:10]", ["cat", "dog"]), ("[cat::0.5]", ["cat"]),
        ("[cat:0.5]", ["cat"]), ("cat|dog", ["cat", "dog"]), ("[cat|dog]", ["cat", "dog"]),
        ("[red|blue] car", ["red car", "blue car"]), ("[red:blue:0.5] car", ["red car", "blue car"]),
        ("{red|blue} {car|bus}", ["red car", "red bus", "blue car", "blue bus"]), ("{2$$cat|dog}", ["cat", "dog"]),
        ("cat AND dog", ["cat", "dog"]),
        # tags beside a thing
        ("cat <lora:x:0.8>", ["cat", "<lora:x:0.8>"]), ("dog BREAK", ["dog", "BREAK"]),
        ("__color__ cat", ["cat", "__color__"]), ("dog --ar 16:9", ["dog", "--ar 16:9"]),
        (r"ganyu \(genshin impact\)", ["ganyu (genshin impact)"]), (r"\(cat\)", ["(cat)"]),
        ("(((", []), ("))", []),
        # groups that touch
        ("(cat:1.2)(dog:1.3)", ["cat dog"]), ("((cat))((dog))", ["cat dog"]), ("{cat}{dog}", ["cat dog"]),
        ("[cat|dog][sofa|chair]", ["cat sofa", "cat chair", "dog sofa", "dog chair"]),
        ("[red:blue:0.5]car", ["red car", "blue car"]), ("(cat:1.2)'s toy", ["cat's toy"]),
        ("{red|blue}(car:1.2)", ["red car", "blue car"]),
    ],
)  # fmt: skip
def test_read_phrases_takes_the_syntax_off(phrase: str, phrases: list[str]) -> None:
    assert read_phrases(phrase) == phrases


@pytest.mark.parametrize(
    "phrase",
    [
        "dog", "red sofa", "dog (golden retriever)", "sofa [red]", "[V] dog", "clock at 10:30", "16:9", "screen (16:9)",
        "R2-D2", "C++ book", "t-shirt", "black and white cat", "BLACK AND WHITE CAT", "man's hat", "a/b", "<image1>",
        "cat: sleeping", "sign \"STOP: 2\" left", "狗", "BREAKFAST table", "embedding", "snake_case__word",
        "rock & roll sign",
        "cat --really-- cute", "sign with an A+",
        "C++", "g++", "ISO:100", "room:101", "snake__case__name", "snake___case___name",
    ],
)  # fmt: skip
def test_read_phrases_leaves_plain_phrases_alone(phrase: str) -> None:
    assert read_phrases(phrase) == [phrase]
    assert not is_tag(phrase)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("builtin", [True, False])
def test_a_tag_is_dropped_by_name(tag: str, builtin: bool) -> None:
    assert is_tag(tag)
    assert read_phrases(tag) == [tag]
    result = EntityFilter(EntityFilterConfig(builtin_terms=builtin)).apply([tag, "zeppelin"])
    assert result.dropped == [(tag, "prompt tag")]
    assert result.kept == ["zeppelin"]


@pytest.mark.parametrize(
    "weighted", ["(best quality:1.4)", "((masterpiece))", "{soft light}", "[8k]", "golden hour:1.3"]
)
def test_words_about_the_picture_do_not_pass_the_filter_in_brackets(weighted: str) -> None:
    assert EntityFilter(EntityFilterConfig()).apply(read_phrases(weighted)).kept == []


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("((red sofa)), a (cat:1.2) <lora:add_detail:0.8>", "red sofa, a cat"),
        ("a (cat:1.2) <lora:x:1> on a sofa", "a cat on a sofa"),
        ("<lora:x:1>, a cat", "a cat"),
        ("(a (cat:1.2) on a ((blue)) sofa:0.9)", "a cat on a blue sofa"),
        ("[red|blue] car, [cat:dog:0.5]", "red or blue car, cat or dog"),
        ("a cat BREAK a hat AND a bird", "a cat, a hat, a bird"),
        ("hot dog::2 sofa::1", "hot dog, sofa"),
        ("a cat, 8k --ar 16:9 --v 6", "a cat, 8k"),
        ("a cat --no hands, blur --ar 16:9", "a cat"),
        ("a cat --sref https://x.y/a.png::2 random --style raw --hd", "a cat"),
        ("a cat --ar=16:9 \n", "a cat"),
        (r"ganyu \(genshin impact\), {{hat}}", "ganyu (genshin impact), hat"),
        ("<lora:x:1>, BREAK", "<lora:x:1>, BREAK"),
        ("(cat:1.2)(dog:1.3)", "cat dog"),
        ("((cat))((dog)) and {hat}{bird}", "cat dog and hat bird"),
        ("(masterpiece:1.2)(best quality:1.3)a cat", "masterpiece best quality a cat"),
        ("a (red:1.2)car", "a red car"),
        ("a cat(sitting:1.1)", "a cat sitting"),
        ("a [red|blue]car", "a red or blue car"),
        ("[cat|dog][sofa|chair]", "cat or dog sofa or chair"),
        ("(red:1.1)(((big)))[old|new]{car}", "red big old or new car"),
        ("（猫：1.2）（狗：1.2）", "猫 狗"),
        ("a (cat:1.2). The (dog:1.1)'s toy, a (bear:1.2)-shaped sign", "a cat. The dog's toy, a bear-shaped sign"),
        ("a __color__ cat named snake__case__name, __a____b__", "a cat named snake__case__name"),
    ],
)
def test_read_prompt_writes_plain_text(prompt: str, plain: str) -> None:
    assert read_prompt(prompt) == plain


@pytest.mark.parametrize(
    "prompt",
    [
        " A dog\n", "A dog (a golden retriever) on a sofa [red], 16:9", "a cat (from image 1) on <image2>",
        "A BIG DOG AND A CAT", "a sign that says (10:30)", "x <y, z> w", "a cat --really cute-- on a sofa",
        "a house --raw and old-- on a hill", "a dog --no leash-- on the grass", "barn -- style unknown",
        "a,b ,c, ,d",
        "two  spaces, [V] dog", "狗和猫",
    ],
)  # fmt: skip
def test_read_prompt_leaves_other_prompts_alone(prompt: str) -> None:
    assert read_prompt(prompt) == prompt


@pytest.mark.parametrize(
    "tags", ["--no text, a dog", "<lora:x:1>", "<lora:x:1> AND <lora:y:1>", "BREAK", "(__color__)"]
)
def test_a_prompt_of_tags_alone_is_told_from_one_with_words(tags: str) -> None:
    assert has_only_tags(tags)
    assert not has_only_tags(f"a cat {tags}")


@pytest.mark.parametrize("prompt", ["", " ", "()", "AND", "a dog", "snake__case__name"])
def test_a_prompt_without_tags_is_none_of_tags_alone(prompt: str) -> None:
    assert not has_only_tags(prompt)


@given(st.text(st.sampled_from(list("()[]{}|:<>\\-+_ 1.2aBREAKND,（）：")), max_size=60))
def test_any_mix_of_syntax_is_read(text: str) -> None:
    read_prompt(text)
    assert all(phrase.strip() for phrase in read_phrases(text))


@pytest.mark.parametrize(
    "text",
    ["(" * 4000, "(a:1" * 1000, "[a:" * 1300, "{|" * 2000, "((((a:1.2" * 400, "<a:" * 1300, "\\(" * 2000, "::" * 2000,
     "(" * 2000 + ")" * 2000, "a::" * 1300, "[|:" * 1300, "(" * 1990 + "a" + ":1)" * 600, "- " * 2000, ":1.2" * 1000,
     "{a|b}" * 800, "__" * 2000, "( " * 2000, "--ar " * 800,
     "--ar a " * 600 + "x,", "--no a " * 600 + "--", "--no a, b " * 400 + "-- x", "--ar a b c d " * 300],
    ids=lambda text: text[:6],
)  # fmt: skip
def test_hostile_syntax_is_read_quickly(text: str) -> None:
    start = time.perf_counter()
    read_prompt(text)
    assert len(read_phrases(text)) < 5000
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "text",
    ["[" + ":" * 3990, "[" + "|" * 3990, "{" + "|" * 3990, "(： " + " |::[" * 800, "((a" + " " * 3990,
     " " * 3990 + "AN", "(a" + ": " * 1999, "((" + "a:1" * 1300, "[" + "a:" * 1990, "-__a__b" * 570, "*__a" * 1000,
     "_" * 4000, "（" + "：1" * 1999, "(:" + "1" * 2000 + " " * 1990],
    ids=lambda text: text[:6],
)  # fmt: skip
def test_work_grows_with_the_length_of_the_text_only(text: str) -> None:
    assert len(text) <= 4100
    for read in (read_prompt, read_phrases, has_only_tags):
        took = []
        for _ in range(3):  # the quickest counts: others may use the machine, too
            start = time.perf_counter()
            read(text)
            took.append(time.perf_counter() - start)
        assert min(took) < 0.2


@pytest.mark.parametrize("module", [prompt_syntax, lenient_json, thoughts], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
