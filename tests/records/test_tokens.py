"""How many tokens a text or a request has, near enough."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstream.records import exact
from llmstream.records.tokens import TOKENS_AROUND_A_MESSAGE, text_of_message, tokens_of_request, tokens_of_text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("four", 1), ("fives", 2), ("Đà Nẵng", 3), ("東京", 2), ("\ud800", 1), ("a" * 4001, 1001)],
)
def test_a_token_for_every_four_bytes_begun(text: str, tokens: int) -> None:
    assert tokens_of_text(text) == tokens
    assert tokens_of_text(text.encode("utf-8", "surrogatepass")) == tokens


@given(st.text(), st.text())
def test_more_text_has_no_fewer_tokens(text: str, more: str) -> None:
    both = tokens_of_text(text + more)
    assert tokens_of_text(text) <= both <= tokens_of_text(text) + tokens_of_text(more)


def request(*messages: dict[str, Any], **more: Any) -> bytes:
    return exact.dumps({"model": "sim", "messages": messages, **more})


def test_a_request_has_the_tokens_of_its_messages_and_a_few_around_each() -> None:
    system, user = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Đà Nẵng"}
    assert tokens_of_request(request(user)) == 3 + TOKENS_AROUND_A_MESSAGE
    assert tokens_of_request(request(system, user)) == 2 + 3 + 2 * TOKENS_AROUND_A_MESSAGE
    assert tokens_of_request(request(user, seed=1, response_format={"type": "json_object"})) == 3 + 4
    assert tokens_of_request(request()) == 0


def test_only_the_text_of_a_message_counts() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
    look, now = {"type": "text", "text": "Look."}, {"type": "text", "text": "Now."}
    message = {"role": "user", "content": [look, picture, now]}
    assert text_of_message(message) == "Look.\n\nNow."
    assert tokens_of_request(request(message)) == 3 + TOKENS_AROUND_A_MESSAGE


@pytest.mark.parametrize("content", [None, 7, {}, [None, 7, {"text": 7}], []])
def test_a_message_that_says_nothing(content: Any) -> None:
    assert text_of_message({"role": "assistant", "content": content}) == ""
    assert tokens_of_request(request({"role": "assistant", "content": content}, {})) == 2 * TOKENS_AROUND_A_MESSAGE
