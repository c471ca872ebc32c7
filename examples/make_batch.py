r"""Writes a batch file from prompts, a line each, checked by the openai package's own types.

pip install openai
printf 'Name a colour.\nName a fruit.\n' | python examples/make_batch.py smollm2 > batch.jsonl
inference-relay batch run batch.jsonl -o answers.jsonl
"""

import json
import sys

from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

BODY = TypeAdapter(CompletionCreateParamsNonStreaming)


def line(custom_id: str, model: str, prompt: str) -> str:
    """One request in OpenAI's batch form."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 64}
    BODY.validate_python(body)
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for number, text in enumerate(sys.stdin, start=1):
        print(line(f"prompt-{number}", sys.argv[1], text.rstrip("\n")))
