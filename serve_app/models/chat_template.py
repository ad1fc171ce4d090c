"""Checks a parser's chat template and tokenizer: does the prompt reach the model, and does the reply begin at once?"""

from __future__ import annotations

from transformers import Qwen3VLProcessor

from serve_app.entities.chat import INSTRUCTION, chat_messages
from serve_app.entities.thoughts import ends_in_thought
from serve_app.errors import CheckpointError


def check_text(model_name: str, processor: Qwen3VLProcessor) -> None:
    """Refuse a checkpoint whose tokenizer or template loses text: where one is missing the library makes an empty one.

    Raises:
        CheckpointError: the chat does not hold an instruction and the prompt, or its tokens do not spell it; or it
            ends inside a thought.
    """
    messages = [chat_messages("A dog")]
    chat = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)[0]
    asked = processor.apply_chat_template(messages, add_generation_prompt=False, tokenize=False)[0]
    # Only what the template adds for the reply: a system message may speak of thoughts.
    if ends_in_thought(chat.removeprefix(asked)):
        raise CheckpointError(
            f"model {model_name}: its chat template opens a thought, so it is a Thinking model; use the -Instruct one"
        )
    spelled = processor.tokenizer.decode(processor.tokenizer.encode(chat))
    # A tokenizer may fold case and white space; it may not lose words.
    lost = "A dog" not in chat or not (INSTRUCTION in chat or _has_own_instruction(processor))
    if lost or spelled.casefold().split() != chat.casefold().split():
        raise CheckpointError(
            f"model {model_name}: its tokenizer or chat template is missing or damaged; is the download complete?"
        )


def _has_own_instruction(processor: Qwen3VLProcessor) -> bool:
    """Whether the chat template writes the instruction that the checkpoint was trained with, not the caller's."""
    system, user = ({"role": role, "content": "A dog"} for role in ("system", "user"))
    with_own, without = (
        processor.apply_chat_template(messages, tokenize=False) for messages in ([system, user], [user])
    )
    # A turn's own marks are fewer words than these.
    return with_own.count("A dog") == 1 and len(with_own.split()) > len(without.split()) + 3
