"""LlamaIndex, unmodified, against a running gateway: python scripts/try_llama_index.py http://127.0.0.1:8080/v1 support

It pulls in more than a test environment should hold, so it is run by hand in one of its own:

    python3 -m venv llama && llama/bin/pip install llama-index-llms-openai-like
    llama/bin/python scripts/try_llama_index.py URL MODEL

Prints one line for each thing that works; ends with 1 at the first that does not.
"""

from __future__ import annotations

import asyncio
import sys

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

QUESTION = "What does express shipping cost?"


def main() -> int:
    url, model, *key = sys.argv[1:]
    llm = OpenAILike(
        model=model, api_base=url, api_key=key[0] if key else "none", is_chat_model=True, max_retries=0, timeout=60
    )
    asked = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content=QUESTION)]
    whole = llm.chat(asked).message.content or ""
    print(f"chat: {whole[:60]}")
    streamed = "".join(piece.delta or "" for piece in llm.stream_chat(asked))
    print(f"stream: {streamed[:60]}")
    completed = llm.complete(QUESTION).text
    print(f"complete: {completed[:60]}")
    later = asyncio.run(llm.achat(asked)).message.content or ""
    print(f"asynchronous: {later[:60]}")
    return 0 if whole and whole == streamed == completed == later else 1


if __name__ == "__main__":
    sys.exit(main())
