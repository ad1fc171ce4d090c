"""The embedded parser: the checkpoint loads by the stock classes, and its parts do what training relies on."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from serve_app.embedded.parser.batches import Answer, BatchChunks, ChatEncoder, batches, collate, parts, with_slip
from serve_app.embedded.parser.checkpoint import (
    CHAT_TEMPLATE,
    INSTRUCTION,
    answer_text,
    build_model,
    prompt_text,
    save_checkpoint,
)
from serve_app.embedded.parser.evaluation import (
    CHECKPOINT_FOLDER,
    ParserCheckpoint,
    head_noun,
    held_out_samples,
    measure,
    names_unseen_noun,
    read_answer,
    read_prompts,
)
from serve_app.embedded.parser.forward import answer_logits
from serve_app.embedded.parser.grammar import PromptGrammar, PromptSample
from serve_app.embedded.parser.lexicon import load_lexicon
from serve_app.embedded.parser.random_prompts import random_prompts
from serve_app.embedded.parser.rare_tokens import RareTokens
from serve_app.embedded.parser.training import learning_rate, rising_length_limit
from serve_app.entities.chat import chat_messages

DATA = Path(__file__).parents[2] / "data"
PROMPTS = DATA / "prompts.json"
LONG_PROMPTS = DATA / "prompts_long.json"
GRAMMAR_PROMPTS = DATA / "prompts_grammar.json"
"""Held-out prompts of the grammar as it was before it had long prompts and edit instructions."""
MAX_CHECKPOINTS_BYTES = 26_000_000
"""All embedded models together, in the package."""


@pytest.fixture(scope="module")
def processor() -> Qwen3VLProcessor:
    return AutoProcessor.from_pretrained(CHECKPOINT_FOLDER)


@pytest.fixture(scope="module")
def checkpoint() -> ParserCheckpoint:
    torch.set_num_threads(1)
    return ParserCheckpoint(CHECKPOINT_FOLDER)


def test_checkpoints_are_small_and_have_a_card() -> None:
    checkpoints = CHECKPOINT_FOLDER.parent
    assert sum(path.stat().st_size for path in checkpoints.rglob("*") if path.is_file()) < MAX_CHECKPOINTS_BYTES
    assert {card.parent.name for card in checkpoints.glob("*/README.md")} == {"parser", "segmenter", "identity"}


def test_checkpoint_loads_without_missing_or_unused_weights() -> None:
    model, info = Qwen3VLForConditionalGeneration.from_pretrained(
        CHECKPOINT_FOLDER, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_chat_template_renders_qwen_turns_with_an_instruction_of_its_own(processor: Qwen3VLProcessor) -> None:
    turns = f"<|im_start|>system\n{INSTRUCTION}<|im_end|>\n<|im_start|>user\nA dog<|im_end|>\n<|im_start|>assistant\n"
    plain = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A dog"}]
    for template in (None, CHAT_TEMPLATE):  # the checkpoint's, and that of the next one
        for messages in (chat_messages("A dog"), plain):
            text = processor.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=True, tokenize=False
            )
            assert text == turns


@pytest.mark.parametrize("word", ["ocelot", "samovar", "zorblat", "café", "t-shirt", "x-ray machine", "bowl of figs"])
def test_tokenizer_writes_an_entity_alike_in_prompt_and_answer(processor: Qwen3VLProcessor, word: str) -> None:
    alone = processor.tokenizer(word)["input_ids"]
    contexts = (f"The {word} on a table", f"{word}, soft light", f"A red {word.upper()}.", answer_text([word, "dog"]))
    for text in contexts:
        ids = processor.tokenizer(text)["input_ids"]
        runs = [ids[start : start + len(alone)] for start in range(len(ids))]
        assert alone in runs, text


@pytest.mark.parametrize("text", ['["dog", "red sofa"]', "[]", '["café", "bowl of oranges", "t-shirt"]'])
def test_tokenizer_gives_answers_back(processor: Qwen3VLProcessor, text: str) -> None:
    assert processor.tokenizer.decode(processor.tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("key_heads", [1, 2], ids=["shared key head", "a key head each"])
def test_answer_logits_equal_the_stock_forward(processor: Qwen3VLProcessor, key_heads: int) -> None:
    torch.manual_seed(0)
    model = build_model(len(processor.tokenizer), hidden_size=64, layers=2, key_heads=key_heads).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    encoder = ChatEncoder(processor)
    samples = list(itertools.islice(PromptGrammar(5), 4))
    answers = [answer_text(sample.entities) for sample in samples]
    encoded = encoder.encode([sample.prompt for sample in samples], [Answer(answer) for answer in answers])
    expected = []
    for sample, answer, own in zip(samples, answers, encoded, strict=True):
        tokens, start = own.tokens, own.answer_start
        whole = processor.tokenizer(prompt_text(processor, sample.prompt) + answer + "<|im_end|>")["input_ids"]
        assert whole == encoder.prefix_ids + tokens
        expected.append(model(input_ids=torch.tensor([whole])).logits[0, len(encoder.prefix_ids) + start - 1 : -1])
    batch = collate(encoded, pad_id=0)
    logits = answer_logits(model, encoder.prefix_ids, batch, dtype=torch.float32)
    torch.testing.assert_close(logits, torch.cat(expected), atol=1e-4, rtol=1e-4)

    targets = batch.input_ids[batch.is_answer]
    weights = [*model.model.language_model.parameters()]
    ours = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, targets), weights)
    stock = torch.autograd.grad(torch.nn.functional.cross_entropy(torch.cat(expected), targets), weights)
    for our, their in zip(ours, stock, strict=True):
        torch.testing.assert_close(our, their, atol=1e-5, rtol=1e-3)


def test_batches_are_the_same_from_any_first_step(processor: Qwen3VLProcessor) -> None:
    encoder, rare = ChatEncoder(processor), RareTokens(processor.tokenizer, seed=1)

    def limit(step: int) -> int:
        return 36 if step < 16 else 64

    whole = list(itertools.islice(batches(BatchChunks(encoder, rare, 1, 2, 0, limit), first_step=0), 20))
    resumed = list(itertools.islice(batches(BatchChunks(encoder, rare, 1, 2, 0, limit), first_step=17), 3))
    for first, second in zip(whole[17:], resumed, strict=True):
        assert torch.equal(first.input_ids, second.input_ids)
        assert torch.equal(first.is_answer, second.is_answer)


def test_rare_tokens_replace_copied_ones_alike_in_prompt_and_answer(processor: Qwen3VLProcessor) -> None:
    rare = RareTokens(processor.tokenizer, seed=1)
    answer = Answer(answer_text(["red dog", "lamp"]))
    [sample] = ChatEncoder(processor).encode(["A red dog and a lamp"], [answer])
    tokens, start = sample.tokens, sample.answer_start
    swapped = [rare.swap(tokens, start, random.Random(seed)) for seed in range(50)]
    assert swapped.count(tokens) > 10
    for other in swapped:
        pairs = set(zip(tokens, other, strict=True))
        assert len(pairs) == len(set(tokens))
        assert {new for old, new in pairs if new != old} <= set(rare.rare)
        assert processor.tokenizer.decode(other[start:]).count('"') == 4
    assert any("red" not in processor.tokenizer.decode(other) for other in swapped)


def test_rare_tokens_are_the_bytes_of_other_letters_too(processor: Qwen3VLProcessor) -> None:
    rare = set(RareTokens(processor.tokenizer, seed=1).rare)
    assert set(processor.tokenizer("\u0142\u017a\u043c\u72d7")["input_ids"]) <= rare


@pytest.mark.parametrize("seed", range(40))
def test_a_slip_is_read_and_not_learnt(processor: Qwen3VLProcessor, seed: int) -> None:
    sample = PromptSample("A red dog on a big lamp", ("red dog", "big lamp") if seed % 4 else ())
    answer = with_slip(sample, random.Random(seed))
    right = answer_text(sample.entities)
    rest = answer.text[: answer.slip.start] + answer.text[answer.slip.stop :]
    # What is left is the right answer, but for the quotes around what has slipped in.
    assert rest.replace('"', "").replace(", ", "") == right.replace('"', "").replace(", ", "")
    encoder = ChatEncoder(processor)
    [encoded] = encoder.encode([sample.prompt], [answer])
    batch = collate([encoded], pad_id=0)
    learnt = processor.tokenizer.decode(batch.input_ids[batch.is_answer])
    assert learnt.endswith("<|im_end|>")
    assert all(entity in learnt for entity in sample.entities)
    assert batch.is_answer.sum() == len(encoded.tokens) - encoded.answer_start - len(encoded.slip)
    slipped = answer.text[answer.slip.start : answer.slip.stop]
    assert (len(encoded.slip) > 0) == (answer.text != right)
    assert answer.text.count(json.dumps(slipped)) < 2 or slipped in sample.entities


def test_a_slip_is_no_entity_that_is_still_to_come() -> None:
    sample = PromptSample("lamp", ("lamp",))
    answers = {with_slip(sample, random.Random(seed)).text for seed in range(60)}
    assert '["lamp"]' in answers
    assert all(text.endswith('"lamp"]') for text in answers)


def test_parts_of_a_batch_hold_its_rows_in_order(processor: Qwen3VLProcessor) -> None:
    encoder, rare = ChatEncoder(processor), RareTokens(processor.tokenizer, seed=1)
    batch = next(batches(BatchChunks(encoder, rare, 1, 8, 0, lambda _: 64), first_step=0))
    length = batch.input_ids.shape[1]
    for most, sizes in ((3 * length, [3, 3, 2]), (1, [1] * 8), (100 * length, [8])):
        cut = list(parts(batch, most))
        assert [len(part.input_ids) for part in cut] == sizes
        assert torch.equal(torch.cat([part.input_ids for part in cut]), batch.input_ids)
        assert torch.equal(torch.cat([part.is_answer for part in cut]), batch.is_answer)


def test_learning_rate_rises_then_falls_to_a_hundredth() -> None:
    rates = [learning_rate(step, 1000, 1.0) for step in range(1001)]
    assert rates[0] < rates[199] <= 1.0
    assert rates[200:] == sorted(rates[200:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_length_limit_grows_over_a_run() -> None:
    limits = [rising_length_limit(step, 100) for step in range(120)]
    assert limits == sorted(limits)
    assert limits[0] < limits[-1]


def test_save_checkpoint_replaces_weights_and_keeps_the_card(processor: Qwen3VLProcessor, tmp_path: Path) -> None:
    folder = tmp_path / "parser"
    model = build_model(len(processor.tokenizer), hidden_size=64, layers=1, key_heads=1)
    save_checkpoint(model, processor, folder)
    (folder / "README.md").write_text("card")
    save_checkpoint(model, processor, folder)
    assert (folder / "README.md").read_text() == "card"
    assert [path.name for path in tmp_path.iterdir()] == ["parser"]
    loaded = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    torch.testing.assert_close(loaded.lm_head.weight, model.lm_head.weight, atol=1e-3, rtol=1e-3)


def test_hand_written_prompts_are_half_of_unseen_nouns() -> None:
    samples, lexicon = read_prompts(PROMPTS), load_lexicon()
    assert len(samples) == 100
    assert len({sample.prompt for sample in samples}) == 100
    assert sum(names_unseen_noun(sample, lexicon) for sample in samples) >= 50
    for sample in samples:
        assert all(entity in sample.prompt.lower() for entity in sample.entities)
        assert len(set(sample.entities)) == len(sample.entities)


def test_long_prompts_are_as_long_as_they_are_said_to_be() -> None:
    samples = read_prompts(LONG_PROMPTS)
    assert len({sample.prompt for sample in samples}) == 100
    words = [len(sample.prompt.split()) for sample in samples]
    assert min(words) >= 40
    assert max(words) <= 120
    assert sum(len(sample.entities) > 8 for sample in samples) > 80
    for sample in samples:
        assert all(word in sample.prompt.lower() for entity in sample.entities for word in entity.split())
        assert len(set(sample.entities)) == len(sample.entities)


def test_held_out_samples_have_as_many_entities_as_asked() -> None:
    few, many = held_out_samples(30, seed=0, most=8), held_out_samples(5, seed=0, fewest=9)
    assert len(few) == 30
    assert all(len(sample.entities) <= 8 for sample in few)
    assert len(many) == 5
    assert all(len(sample.entities) >= 9 for sample in many)


def test_random_prompts_are_of_many_shapes_and_the_same_for_a_seed() -> None:
    prompts = list(itertools.islice(random_prompts(3), 200))
    assert prompts == list(itertools.islice(random_prompts(3), 200))
    assert all(prompt.strip() and len(prompt) <= 1000 for prompt in prompts)
    assert len(set(prompts)) == 200
    assert any(not any(letter.isascii() and letter.isalpha() for letter in prompt) for prompt in prompts)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [('["dog"]', ("dog",)), ("[]", ()), ('["dog", "do', None), ('{"dog": 1}', None), ("[1]", None), ("dog", None)],
)
def test_an_answer_is_an_array_of_strings(reply: str, answer: tuple[str, ...] | None) -> None:
    assert read_answer(reply) == answer


@pytest.mark.parametrize(
    ("entity", "head"), [("dog", "dog"), ("old oak tree", "tree"), ("bowl of red apples", "bowl"), ("café", "café")]
)
def test_head_noun_of_an_entity(entity: str, head: str) -> None:
    assert head_noun(entity) == head


def test_measure_counts_lists_and_entities() -> None:
    samples = [sample for sample in read_prompts(PROMPTS) if len(sample.entities) == 3][:3]
    replies = [answer_text(samples[0].entities), answer_text(samples[1].entities[:2]), "no array"]
    figures = measure(samples, replies)
    assert (figures.exact, figures.unreadable, figures.found, figures.expected, figures.answered) == (1, 1, 5, 9, 5)
    assert figures.precision == 1.0
    assert figures.recall == pytest.approx(5 / 9)
    assert figures.f1 == pytest.approx(10 / 14)


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        ("A dog sitting on a red sofa in a garden", '["dog", "red sofa", "garden"]'),
        ("Two red balloons over a city, golden hour, 8k", '["red balloons", "city"]'),
        ("A cat and dog on a wooden table", '["cat", "dog", "wooden table"]'),
        ("A zorblat next to a blue car", '["zorblat", "blue car"]'),
        ("A dog!", '["dog"]'),
        ("a \u201cred\u201d sofa & a dog\u2026", '["red sofa", "dog"]'),
        ("A dog,\r\na cat\r\n", '["dog", "cat"]'),
        ("a \U0001f436 dog \u2014 a cat/#tree", '["dog", "cat", "tree"]'),
        ('A sign saying "open" above a door', '["sign", "door"]'),
        ("A bowl of jalape\u00f1o peppers", '["bowl of jalape\u00f1o peppers"]'),
        ("Two dogs from image 1 on a blue sofa, no tree", '["dogs", "blue sofa"]'),
        ("Put the dog from image 1 on a red sofa", '["dog", "red sofa"]'),
        ("Change the car to red", '["red car"]'),
        ("Replace the cat with a rabbit", '["rabbit"]'),
        ("A park with no dogs", '["park"]'),
        (
            "A postman riding a bicycle with a loaf of bread in the front basket",
            '["postman", "bicycle", "loaf of bread", "front basket"]',
        ),
    ],
)
def test_checkpoint_reads_simple_prompts(checkpoint: ParserCheckpoint, prompt: str, reply: str) -> None:
    assert checkpoint.reply(prompt) == reply


def test_checkpoint_answers_alike_alone_and_in_a_batch(checkpoint: ParserCheckpoint) -> None:
    prompts = ["A dog", "A cat sitting on a red sofa in a garden at night", "Two red balloons over a city"]
    assert checkpoint.replies(prompts) == [checkpoint.reply(prompt) for prompt in prompts]


def test_checkpoint_reads_most_hand_written_prompts(checkpoint: ParserCheckpoint) -> None:
    samples = read_prompts(PROMPTS)[::4]
    figures = measure(samples, [checkpoint.reply(sample.prompt) for sample in samples])
    assert figures.unreadable == 0
    assert figures.f1 >= 0.85, str(figures)


def test_checkpoint_reads_most_of_long_prompts(checkpoint: ParserCheckpoint) -> None:
    samples = read_prompts(LONG_PROMPTS)[::5]
    figures = measure(samples, checkpoint.replies([sample.prompt for sample in samples]))
    assert figures.unreadable <= 1
    assert figures.f1 >= 0.75, str(figures)


@pytest.mark.parametrize("samples", [read_prompts(GRAMMAR_PROMPTS), held_out_samples(80, seed=0, most=8)])
def test_checkpoint_reads_held_out_prompts_of_the_grammar(
    checkpoint: ParserCheckpoint, samples: list[PromptSample]
) -> None:
    replies = [reply for some in batched(samples) for reply in checkpoint.replies([each.prompt for each in some])]
    figures = measure(samples, replies)
    assert figures.unreadable == 0
    assert figures.exact_rate >= 0.9, str(figures)


def batched(samples: list[PromptSample]) -> Iterator[list[PromptSample]]:
    """Yield twenty at a time: half the work of one at a time, and the answers are the same."""
    for start in range(0, len(samples), 20):
        yield samples[start : start + 20]
