"""Checks that a parser's chat template and tokenizer do not lose text, and do not start the reply with a thought."""

from __future__ import annotations

from transformers import Qwen3VLProcessor

from serve_app.entities.chat import INSTRUCTION, chat_messages
from serve_app.entities.thoughts import ends_in_thought
from serve_app.errors import CheckpointError


def check_text(model_name: str, processor: Qwen3VLProcessor) -> None:
    """Refuse a checkpoint whose tokenizer or chat template loses text.

    This finds missing files too: transformers replaces a missing tokenizer by an empty one.

    Args:
        model_name: the name as configured, for the message.
        processor: the checkpoint's processor, with its tokenizer and chat template.

    Raises:
        CheckpointError: the chat lacks the instruction or the prompt, its tokens do not decode to the same text, or it
            ends inside a thought.
    """
    messages = [chat_messages("A dog")]
    chat = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)[0]
    asked = processor.apply_chat_template(messages, add_generation_prompt=False, tokenize=False)[0]
    # Look only at what the template adds for the reply, because a system message may mention thoughts.
    if ends_in_thought(chat.removeprefix(asked)):
        raise CheckpointError(
            f"model {model_name}: its chat template starts the reply with a thought, so it is a Thinking model; use "
            "the -Instruct one"
        )
    spelled = processor.tokenizer.decode(processor.tokenizer.encode(chat))
    # A tokenizer may change case and white space, but it must not lose words.
    lost = "A dog" not in chat or not (INSTRUCTION in chat or _has_own_instruction(processor))
    if lost or spelled.casefold().split() != chat.casefold().split():
        raise CheckpointError(
            f"model {model_name}: its tokenizer or chat template is missing or damaged; download it again"
        )


def _has_own_instruction(processor: Qwen3VLProcessor) -> bool:
    """Tell whether the chat template ignores the system message and writes an instruction of its own."""
    system, user = ({"role": role, "content": "A dog"} for role in ("system", "user"))
    with_own, without = (
        processor.apply_chat_template(messages, tokenize=False) for messages in ([system, user], [user])
    )
    # The marks of an empty system turn are at most three words; an instruction is longer.
    return with_own.count("A dog") == 1 and len(with_own.split()) > len(without.split()) + 3
