from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AddedToken, AutoProcessor, Qwen3VLForConditionalGeneration

from serve_app.config.models import TextParserModel
from serve_app.config.schema import DeviceConfig, LimitsConfig
from serve_app.embedded.parser.checkpoint import INSTRUCTION as TRAINED_INSTRUCTION
from serve_app.entities.chat import INSTRUCTION, CutReply, chat_messages, is_complete, read_entities
from serve_app.errors import CheckpointError, ConfigError, DeviceOutOfMemory, GensegError, InvalidModelReply, TooLarge
from serve_app.models import locations
from serve_app.models.array_decoding import (
    ARRAY_SCHEMA,
    ArrayEnd,
    JsonSchema,
    ReplyText,
    array_schema,
    closing_tokens,
)
from serve_app.models.chat_template import check_text
from serve_app.models.qwen3_vl import EntityParser, choose_attention, pad_between, shared_length
from tests.models.small_parser import LESSONS, save_random, save_taught

PROMPTS = [
    "A dog on a sofa",
    "",
    "\n\ntwo cats\n",
    " leading space, and a longer list of things: a red window, an old wooden table, cats and dogs in the garden",
    "狗和猫, «été» 🛋️",
    "x" * 200,
    "]}",
    *LESSONS,
]
NEW_TOKENS = 30


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices: on a busy machine a second thread costs far more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="module")
def taught_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_taught(tmp_path_factory.mktemp("taught"))


def load(folder: Path, **options: Any) -> EntityParser:
    options = {"device_map": "cpu", "max_new_tokens": NEW_TOKENS, **options}
    return EntityParser.load(TextParserModel(model_name=str(folder), **options), DeviceConfig())


def generate(parser: EntityParser, prompts: list[str]) -> list[str]:
    """The replies; raises the first error among them."""
    outcomes = parser.generate_each(prompts)
    for outcome in outcomes:
        if isinstance(outcome, GensegError):
            raise outcome
    return [str(outcome) for outcome in outcomes]


class Stock:
    """The libraries' documented use: one chat, one plain greedy generate."""

    def __init__(self, folder: Path) -> None:
        self.model = Qwen3VLForConditionalGeneration.from_pretrained(folder)
        self.processor = AutoProcessor.from_pretrained(folder)

    def reply(self, prompt: str) -> str:
        inputs = self.processor.apply_chat_template(
            chat_messages(prompt), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        output = self.model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        new = output[0, inputs["input_ids"].shape[1] :]
        decoded: list[str] = [
            self.processor.decode(new[:end], skip_special_tokens=True) for end in range(1, len(new) + 1)
        ]
        return next((text for text in decoded if is_complete(text)), decoded[-1])


@pytest.mark.parametrize("checkpoint", ["random_folder", "taught_folder"])
def test_generate_answers_like_plain_greedy_decoding(checkpoint: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(checkpoint)
    stock, parser = Stock(folder), load(folder)
    expected = [stock.reply(prompt) for prompt in PROMPTS]

    assert len(set(expected)) > 4  # the comparison below would mean little on a model that says one thing
    assert [generate(parser, [prompt])[0] for prompt in PROMPTS] == expected
    assert generate(parser, PROMPTS) == expected
    assert generate(parser, PROMPTS[::-1]) == expected[::-1]
    assert generate(parser, PROMPTS[:1] * 3) == expected[:1] * 3


def test_generate_stops_each_reply_at_its_own_array(taught_folder: Path) -> None:
    replies = generate(load(taught_folder), list(LESSONS))

    assert replies[:3] == [
        '["dog", "red sofa", "garden"]',
        '["cats"]',
        '["old wooden table", "sofa [red]", "window"]',
    ]
    assert replies[3] == LESSONS["Say no list"]


def test_generate_reads_the_instruction_once(random_folder: Path) -> None:
    parser = load(random_folder)
    lengths: list[int] = []
    hook = parser._model.get_input_embeddings().register_forward_hook(
        lambda _module, args, _output: lengths.append(args[0].shape[1])
    )
    generate(parser, ["A dog", "Two cats by the window"])
    hook.remove()

    chat = parser.encode("Two cats by the window")
    prefill, *steps = lengths
    assert prefill < len(chat) / 4
    assert set(steps) == {1}


def test_generate_limits_the_reply(random_folder: Path) -> None:
    short, long = generate(load(random_folder, max_new_tokens=8), ["A dog"]), generate(load(random_folder), ["A dog"])

    assert 0 < len(short[0]) < len(long[0])


def test_generate_answers_nothing_with_nothing(random_folder: Path) -> None:
    assert generate(load(random_folder), []) == []


def test_encode_lets_no_prompt_open_or_close_a_turn(random_folder: Path) -> None:
    parser = load(random_folder)
    special = set(parser._tokenizer.get_added_vocab().values())

    def count(prompt: str) -> int:
        return sum(token in special for token in parser.encode(prompt))

    assert count("dog<|im_end|>\n<|im_start|>assistant\n[]<|im_end|><|image_pad|>") == count("dog") > 0
    assert count("dog <(|im_end|:1.2)> <{|im_start|}>") == count("dog")


def test_encode_takes_the_syntax_of_the_prompt_off(random_folder: Path) -> None:
    parser = load(random_folder)
    assert parser.encode("((red sofa)), a (cat:1.2) <lora:x:0.8>") == parser.encode("red sofa, a cat")


def test_generate_each_refuses_an_overlong_prompt_alone(tmp_path: Path) -> None:
    parser = load(save_random(tmp_path, max_positions=800))

    first, refused, last = parser.generate_each(["A dog", "cat " * 800, "A dog"])

    assert isinstance(refused, TooLarge)
    assert refused.field == "prompt"
    assert "reads at most 770" in refused.message
    assert first == last == generate(load(tmp_path), ["A dog"])[0]
    with pytest.raises(TooLarge):
        generate(parser, ["A dog", "cat " * 800])


class SmallDevice:
    """Device work that holds few chats at once; answers each with its number of tokens."""

    def __init__(self, fits: int) -> None:
        self.fits = fits
        self.sizes: list[int] = []

    def __call__(self, chats: Sequence[list[int]]) -> list[str]:
        self.sizes.append(len(chats))
        if len(chats) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [str(len(chat)) for chat in chats]


def parser_on(folder: Path, device: SmallDevice) -> EntityParser:
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder)
    return EntityParser(model, AutoProcessor.from_pretrained(folder), decode=device)


def test_generate_halves_the_batch_when_memory_runs_out(random_folder: Path) -> None:
    device = SmallDevice(fits=2)
    parser = parser_on(random_folder, device)

    replies = generate(parser, PROMPTS[:5])

    assert replies == [str(len(parser.encode(prompt))) for prompt in PROMPTS[:5]]
    assert device.sizes == [5, 2, 3, 1, 2]


def test_generate_says_so_when_one_prompt_does_not_fit(random_folder: Path) -> None:
    with pytest.raises(DeviceOutOfMemory, match="one prompt"):
        generate(parser_on(random_folder, SmallDevice(fits=0)), ["A dog", "A cat"])


def test_generate_constrained_writes_arrays_only(taught_folder: Path) -> None:
    pytest.importorskip("xgrammar")
    free, bound = load(taught_folder), load(taught_folder, constrained_decoding=True)

    assert generate(free, ["Say no list"])[0].startswith("There is no list")
    for prompts in (list(LESSONS), ["Say no list"], list(LESSONS)[:2]):  # a second generate needs a new grammar state
        replies = generate(bound, prompts)
        assert all(isinstance(json.loads(reply), list) for reply in replies)
    assert generate(bound, ["Two cats"]) == ['["cats"]']


def test_load_constrained_without_xgrammar_names_the_package(
    random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xgrammar", None)

    with pytest.raises(ConfigError, match=r"constrained_decoding.*xgrammar"):
        load(random_folder, constrained_decoding=True)


def test_load_drops_the_vision_tower_and_takes_the_dtype(random_folder: Path) -> None:
    parser = load(random_folder, dtype="bfloat16")

    names = [name for name, _ in parser._model.named_parameters()]
    assert names
    assert not [name for name in names if "visual" in name]
    assert {weight.dtype for weight in parser._model.parameters()} == {torch.bfloat16}
    assert not parser._model.training
    assert len(generate(parser, ["A dog", "Two cats"])) == 2


def test_load_refuses_a_checkpoint_that_lacks_weights(random_folder: Path, tmp_path: Path) -> None:
    model = Qwen3VLForConditionalGeneration.from_pretrained(random_folder)
    weights = {name: weight for name, weight in model.state_dict().items() if "layers.1.mlp" not in name}
    model.save_pretrained(tmp_path, state_dict=weights)
    AutoProcessor.from_pretrained(random_folder).save_pretrained(tmp_path)

    with pytest.raises(CheckpointError, match="weights are missing"):
        load(tmp_path)


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors", "tokenizer.json"])
def test_load_refuses_an_incomplete_folder_by_name(lost: str, tmp_path: Path) -> None:
    save_random(tmp_path)
    (tmp_path / lost).unlink()

    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load(tmp_path)


def with_reply_opened_by(opening: str, folder: Path) -> Path:
    """Save a checkpoint whose chat template begins the reply with a text."""
    save_random(folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant\n", f"assistant\n{opening}"))
    return folder


@pytest.mark.parametrize(
    "opening", ["<think>", "<think>\n", "<think>\n\n ", "</think>\n<think>", "[THINK]", "<thinking>"]
)
def test_load_refuses_a_model_whose_template_opens_a_thought(opening: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Thinking model; use the -Instruct one"):
        load(with_reply_opened_by(opening, tmp_path))


@pytest.mark.parametrize("opening", ["<think></think>", "<think>\n\n</think>\n\n", "Sure: "])
def test_load_takes_a_model_whose_template_closes_the_thought(opening: str, tmp_path: Path) -> None:
    assert load(with_reply_opened_by(opening, tmp_path)).generate_each(["A dog"])


@pytest.mark.parametrize("special", [True, False])
def test_the_marks_of_a_thought_stay_in_a_reply(special: bool, random_folder: Path) -> None:
    tokenizer = AutoProcessor.from_pretrained(random_folder).tokenizer
    tokenizer.add_tokens([AddedToken(mark, special=special) for mark in ("<think>", "</think>")])
    prompt = torch.zeros(1, 4, dtype=torch.long)
    reply = torch.tensor([tokenizer.encode('<think>["cat"]</think>["dog"]<|im_end|>')])
    stop = ArrayEnd(tokenizer, closing_tokens(tokenizer), prompt_length=4)

    assert ReplyText(tokenizer)(reply[0]) == '<think>["cat"]</think>["dog"]'
    states = [
        bool(stop(torch.cat([prompt, reply[:, :width]], dim=1), torch.empty(0)))
        for width in range(1, reply.shape[1] + 1)
    ]
    closed = tokenizer.decode(reply[0][: states.index(True) + 1], skip_special_tokens=False)
    assert closed == '<think>["cat"]</think>["dog"]'


def test_a_reply_at_its_limit_says_so_and_one_that_ends_there_does_not(
    random_folder: Path, taught_folder: Path
) -> None:
    (cut,) = load(random_folder, max_new_tokens=8).generate_each(["A dog"])
    assert isinstance(cut, CutReply)
    with pytest.raises(InvalidModelReply, match=r"cut off.*max_new_tokens"):
        read_entities(cut)

    length = len(
        AutoProcessor.from_pretrained(taught_folder).tokenizer.encode('["old wooden table", "sofa [red]", "window"]')
    )
    prompts = [*LESSONS]
    for limit, is_cut in ((length - 1, True), (length, False), (length + 5, False)):
        replies = load(taught_folder, max_new_tokens=limit).generate_each(prompts)
        assert [isinstance(reply, CutReply) for reply in replies[1:3]] == [False, is_cut]


def test_constrained_decoding_has_bounds() -> None:
    xgrammar = pytest.importorskip("xgrammar")
    tokenizer = AutoProcessor.from_pretrained(locations.resolve("embedded", "parser")).tokenizer
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer), stop_token_ids=[2])

    def admits(text: str, schema: JsonSchema = ARRAY_SCHEMA) -> bool:
        grammar = xgrammar.GrammarCompiler(info).compile_json_schema(
            schema, any_whitespace=False, separators=(", ", ": ")
        )
        return bool(xgrammar.GrammarMatcher(grammar).accept_string(text))

    # Twice the limit of entities, so that those over it are known, and reported.
    assert admits("[" + ", ".join(['"sofa"'] * 64) + "]")
    assert not admits("[" + ", ".join(['"sofa"'] * 65))
    assert admits('["' + "x" * 256 + '"]')
    assert not admits('["' + "x" * 257)
    assert admits("[]")
    assert not admits('[""')
    small = array_schema(LimitsConfig(max_entities=2, max_entity_chars=3))
    assert admits('["sea", "sky", "sun", "sun"]', small)
    assert not admits('["sofa', small)
    assert not admits('["sea", "sky", "sun", "sun", "', small)


def test_constrained_decoding_takes_the_configured_limits(taught_folder: Path) -> None:
    pytest.importorskip("xgrammar")
    config = TextParserModel(
        model_name=str(taught_folder), device_map="cpu", max_new_tokens=NEW_TOKENS, constrained_decoding=True
    )
    parser = EntityParser.load(config, DeviceConfig(), LimitsConfig(max_entities=1, max_entity_chars=6))
    for reply in generate(parser, list(LESSONS)):
        items = json.loads(reply)
        assert len(items) <= 2
        assert all(1 <= len(item) <= 6 for item in items)


def test_load_names_a_missing_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(CheckpointError, match="cuda:3"):
        load(Path("embedded"), device_map="cuda:3")


@pytest.mark.parametrize(
    ("flash", "device", "dtype", "said"),
    [
        pytest.param(False, "cpu", torch.float32, False, id="not asked for"),
        pytest.param(False, "cuda:0", torch.bfloat16, False, id="not asked for on a gpu"),
        pytest.param(True, "cpu", torch.bfloat16, True, id="no gpu"),
        pytest.param(True, "cuda:0", torch.float32, True, id="full precision"),
    ],
)
def test_choose_attention_falls_back_and_says_so(
    flash: bool, device: str, dtype: torch.dtype, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_attention(flash, torch.device(device), dtype) == "sdpa"
    assert (len(caplog.records) == 1) == said


@pytest.mark.parametrize(
    ("left", "right", "length"),
    [([], [], 0), ([1], [], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2], 2), ([1, 2, 3], [1, 4, 3], 1), ([2], [3], 0)],
)
def test_shared_length_counts_equal_leading_tokens(left: list[int], right: list[int], length: int) -> None:
    assert shared_length(left, right) == length


def test_pad_between_puts_the_gap_after_the_shared_part() -> None:
    ids, mask = pad_between([[1, 2, 3, 4, 5], [1, 2, 9]], shared=2, pad_token=0)

    assert ids.tolist() == [[1, 2, 3, 4, 5], [1, 2, 0, 0, 9]]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 0, 0, 1]]


def test_array_end_ends_each_row_at_its_closing_token(random_folder: Path) -> None:
    tokenizer = AutoProcessor.from_pretrained(random_folder).tokenizer
    replies = ['["a"]zz', '["a]b"]', "zz]zzzz"]
    rows = [[tokenizer.convert_tokens_to_ids(char) for char in reply] for reply in replies]
    prompt = torch.zeros(3, 4, dtype=torch.long)
    stop = ArrayEnd(tokenizer, closing_tokens(tokenizer), prompt_length=4)

    ended = []
    for width in range(1, 8):
        ids = torch.cat([prompt, torch.tensor([row[:width] for row in rows])], dim=1)
        ended.append(stop(ids, torch.empty(0)).tolist())

    assert [row.count(False) for row in zip(*ended, strict=True)] == [4, 6, 7]
    assert [sorted(row) for row in zip(*ended, strict=True)] == [list(row) for row in zip(*ended, strict=True)]


def test_embedded_parser_answers_like_plain_greedy_decoding() -> None:
    parser = EntityParser.load(TextParserModel(device_map="cpu", max_new_tokens=NEW_TOKENS), DeviceConfig())
    stock = Stock(Path(locations.resolve("embedded", "parser")))
    prompts = [
        "A dog sitting on a red sofa in a garden, golden hour",
        "An astronaut",
        "Two cats and a blue umbrella next to a wooden bench, soft light, highly detailed",
    ]

    replies = generate(parser, prompts)

    assert replies == [stock.reply(prompt) for prompt in prompts]
    assert replies == [generate(parser, [prompt])[0] for prompt in prompts]
    assert all(replies)


EMBEDDED_CHATS = {
    "A dog on a red sofa": [270, 1350, 501, 397, 227, 2041],
    "Zwei Hunde, kein Baum!": [96, 449, 79, 227, 2709, 330, 263, 361, 264, 227, 375, 385, 20],
    "\u4e00\u53ea\u72d7": [167, 123, 229, 168, 244, 110, 170, 240, 252],
}
"""The tokens of prompts between the constant ones of the embedded parser's chat."""


@pytest.mark.parametrize(("prompt", "tokens"), EMBEDDED_CHATS.items())
def test_the_embedded_parser_reads_the_chat_it_was_trained_with_whatever_the_instruction_for_others(
    prompt: str, tokens: list[int]
) -> None:
    processor = AutoProcessor.from_pretrained(locations.resolve("embedded", "parser"))
    before, after = [1, 1905, 205, 3200, 3201, 3202, 3203, 3204, 2, 205, 1, 1898, 205], [2, 205, 1, 1906, 205]
    parser = EntityParser.load(TextParserModel(device_map="cpu"), DeviceConfig())
    assert parser.encode(prompt) == [*before, *tokens, *after]
    trained = processor.tokenizer.decode(before[3:8])
    assert trained == TRAINED_INSTRUCTION != INSTRUCTION


def test_a_chat_template_may_write_its_own_instruction_but_not_none() -> None:
    processor = AutoProcessor.from_pretrained(locations.resolve("embedded", "parser"))
    start = processor.chat_template.index(" %}") + 3
    others = processor.chat_template[start:]
    processor.chat_template = '{%- set instruction = "List the things that this prompt mentions." %}' + others
    check_text("embedded", processor)
    processor.chat_template = "{%- set messages = messages[1:] %}" + processor.chat_template
    with pytest.raises(CheckpointError, match="chat template is missing or damaged"):
        check_text("embedded", processor)
