"""Reads an output file with the openai package's types.

python examples/read_answers.py answers.jsonl
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from openai.types.chat import ChatCompletion


def answers(path: Path) -> Iterator[tuple[str, ChatCompletion]]:
    """Each request's id, and the model's answer to it."""
    with path.open() as file:
        for text in file:
            line = json.loads(text)
            yield line["custom_id"], ChatCompletion.model_validate(line["response"]["body"])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for custom_id, completion in answers(Path(sys.argv[1])):
        print(f"{custom_id}: {completion.choices[0].message.content}")
