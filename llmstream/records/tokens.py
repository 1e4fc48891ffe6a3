"""How many tokens a text has, near enough for a budget, a bundle or a dry run.

A rule of thumb that knows no model: about four bytes of English prose make a token. JSON, code and
digits have more tokens than that, and most other scripts are denser still; that their characters
have two or three bytes makes up for a part of it. Being off by a third is ordinary, and by a factor
of two it is possible. A bill is what the endpoint says it is.
"""

from __future__ import annotations

from typing import Any

from llmstream.records import exact

BYTES_OF_A_TOKEN = 4
TOKENS_AROUND_A_MESSAGE = 4  # its role, and where it begins and ends


def tokens_of_text(text: str | bytes) -> int:
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    return -(-len(text) // BYTES_OF_A_TOKEN)


def tokens_of_request(body: bytes) -> int:
    """Of the body of a chat completion: what its messages say, but no picture and no response_format."""
    messages = exact.loads_quickly(body)["messages"]
    return sum(tokens_of_text(text_of_message(message)) + TOKENS_AROUND_A_MESSAGE for message in messages)


def text_of_message(message: dict[str, Any]) -> str:
    """What a message says, whether in one piece or in parts, some of which may be no text."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n\n".join(text for text in texts if isinstance(text, str))
