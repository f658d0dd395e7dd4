"""Two ways to a language model: an OpenAI-compatible endpoint, and a model on this machine.

Knows the chat protocol and what may go wrong with it. Does not know what is asked (`chat.py`).
Taught in notebook 01.

A key comes from the environment variable ``AIKIT_CHAT_KEY`` only, and no name or error holds it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

KEY = "AIKIT_CHAT_KEY"
TEMPERATURE = 0.7  # the paper's
Messages = list[dict[str, str]]


class Chat(Protocol):
    """A way to a chat model."""

    name: str  # for metadata

    def __call__(self, messages: Messages, seed: int) -> str:
        """The answer's text; raises `NoAnswer`."""


class NoAnswer(RuntimeError):
    """Nothing came back: a time-out, a refused connection, an error status."""


@dataclass
class Endpoint:
    """``POST {url}/chat/completions`` in JSON mode.

    Parameters
    ----------
    url : up to and with the version, e.g. ``http://localhost:8000/v1``
    model : the first one that the endpoint lists when ""
    timeout_s : for one answer
    """

    url: str
    model: str = ""
    timeout_s: float = 30.0

    @property
    def name(self) -> str:
        """What metadata say: the model, never the address or a key."""
        return f"chat {self.model}".strip()

    def __call__(self, messages: Messages, seed: int) -> str:
        """The answer's text; raises `NoAnswer`."""
        self.model = self.model or self._request("GET", "models")["data"][0]["id"]
        body = {"model": self.model, "messages": messages, "temperature": TEMPERATURE, "seed": seed,
                "response_format": {"type": "json_object"}}  # fmt: skip
        answer = self._request("POST", "chat/completions", body)
        try:
            return answer["choices"][0]["message"]["content"] or ""
        except (KeyError, IndexError, TypeError) as error:
            raise NoAnswer("the endpoint answered, but not in the chat protocol") from error

    def _request(self, method: str, path: str, body: dict | None = None) -> dict:
        import httpx

        key = os.environ.get(KEY)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            with httpx.Client(timeout=self.timeout_s) as client:
                response = client.request(
                    method, f"{self.url.rstrip('/')}/{path}", json=body, headers=headers
                )
        except httpx.HTTPError as error:  # its text may hold the address: name the kind only
            raise NoAnswer(f"{type(error).__name__} after at most {self.timeout_s:g} s") from None
        if response.status_code != 200:
            hint = f"; is {KEY} set?" if response.status_code in (401, 403) else ""
            raise NoAnswer(f"status {response.status_code}{hint}")
        try:
            return response.json()
        except ValueError:
            raise NoAnswer("the endpoint answered, but not in JSON") from None


@dataclass
class LocalModel:
    """A chat model of `transformers` on this machine, loaded when it is first asked.

    Parameters
    ----------
    model : a folder or a hub name
    max_new_tokens : of one answer
    """

    model: str
    max_new_tokens: int = 1500

    @property
    def name(self) -> str:
        """What metadata say."""
        return f"local {Path(self.model).name}"

    @cached_property
    def _pipeline(self):
        from transformers import pipeline

        return pipeline("text-generation", model=self.model)

    def __call__(self, messages: Messages, seed: int) -> str:
        """The answer's text; the same seed gives the same answer."""
        from transformers import set_seed

        set_seed(seed)
        out = self._pipeline(messages, max_new_tokens=self.max_new_tokens, do_sample=True,
                             temperature=TEMPERATURE, return_full_text=False)  # fmt: skip
        return out[0]["generated_text"]
