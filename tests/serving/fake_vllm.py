"""A stand-in for vLLM's server: says what vLLM would say, serves a little HTTP, and ends as FAKE_VLLM (JSON) tells it.

Run as a script it serves at the port that it is given. `install` makes a package `vllm` of it, with as much of vLLM as
`localemp.serving.vllm.main` uses, so that the command can be tested where no engine is.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PACKAGE = {
    "entrypoints/cli/serve.py": """
        import os

        import fake_vllm

        class ServeSubcommand:
            def subparser_init(self, subparsers):
                parser = subparsers.add_parser("serve", usage="vllm serve [model_tag] [options]")
                parser.add_argument("model_tag")
                for name in ("--served-model-name", "--host", "--middleware", "--max-model-len", "--seed"):
                    parser.add_argument(name)
                for name in ("--kv-cache-memory-bytes", "--chat-template", "--default-chat-template-kwargs"):
                    parser.add_argument(name)
                parser.add_argument("--lora-modules", nargs="+", default=[])
                for name in ("--max-loras", "--max-cpu-loras", "--max-lora-rank", "--worker-extension-cls"):
                    parser.add_argument(name)
                parser.add_argument("--enable-lora", action="store_true")
                parser.add_argument("--grpc-port", type=int)
                for name in ("--enforce-eager", "--no-enable-log-requests", "--disable-uvicorn-access-log"):
                    parser.add_argument(name, action="store_true")
                parser.add_argument("--no-enable-prefix-caching", action="store_true")
                for name in ("--port", "--shutdown-timeout", "--max-num-seqs"):
                    parser.add_argument(name, type=int)
                return parser

            def validate(self, arguments):
                pass

            def cmd(self, arguments):
                print("arguments:", vars(arguments), flush=True)
                print("batch-invariant:", os.environ.get("VLLM_BATCH_INVARIANT"), flush=True)
                fake_vllm.serve(arguments.port, arguments.lora_modules)
        """,
    "entrypoints/serve/utils/api_utils.py": "def cli_env_setup(): pass",
    "logger.py": "def configure_logging_from_args(arguments): pass",
    "platforms.py": """
        import os

        capability = int(os.environ.get("FAKE_CAPABILITY", 0))  # of a GPU; 0 for a CPU

        class current_platform:
            device_name = "a fake"
            is_cpu = staticmethod(lambda: not capability)
            is_cuda = staticmethod(lambda: bool(capability))
            has_device_capability = staticmethod(lambda least: capability >= least)
        """,
    "utils/argparse_utils.py": """
        from argparse import ArgumentParser
        from pathlib import Path

        class FlexibleArgumentParser(ArgumentParser):
            def parse_args(self, words):
                if "--config" in words:  # the file's options come before those of the command line
                    at = words.index("--config")
                    lines = Path(words[at + 1]).read_text().splitlines()
                    told = [word for line in lines for word in ("--" + line.split(": ")[0], line.split(": ")[1])]
                    words = [*words[:2], *told, *words[2:at], *words[at + 2 :]]
                return super().parse_args(words)
        """,
}


def install(folder: Path) -> dict[str, str]:
    """Write the package into a folder; returns the environment in which it is found before the real one."""
    from textwrap import dedent

    for name, code in PACKAGE.items():
        path = folder / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in path.relative_to(folder).parents[:-1]:
            (folder / package / "__init__.py").touch()  # without these the installed vLLM would be found before
        path.write_text(dedent(code), "utf-8")
    paths = [str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def serve(port: int, adapters: Sequence[str] = ()) -> None:
    """Say, then serve or end; bare, it lists `adapters`, which are JSON."""
    told = json.loads(os.environ.get("FAKE_VLLM", "{}"))
    if told.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if told.get("worker"):  # one that does not end with its parent, nor when it is asked to
        subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600 & wait; wait"])
    for line in told.get("says", ()):
        print(line, flush=True)
        time.sleep(told.get("pause", 0))
    if "exits" in told:
        _end(told["exits"])
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.__dict__["adapters"] = [json.loads(each)["name"] for each in adapters]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if "exits_later" in told:
        while not server.__dict__.get("listed"):
            time.sleep(0.05)
        time.sleep(0.5)
        print("\n".join(told.get("says_later", ())), flush=True)
        _end(told["exits_later"])
    while True:
        time.sleep(60)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(200, {})
        elif self._is_known():
            settings = json.loads(os.environ.get("LOCALEMP_SERVE", '{"model": "tiny", "strategies": []}'))
            bare = [settings["model"], *self.server.__dict__["adapters"]]
            names = [*bare, *(f"{each}:{name}" for each in bare for name in settings["strategies"])]
            self._answer(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]})
            self.server.__dict__["listed"] = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self._is_known():
            message = {"role": "assistant", "content": f"{body['model']} heard {body['messages'][-1]['content']}"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            self._answer(200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    def log_message(self, format: str, *args: object) -> None:
        return

    def _is_known(self) -> bool:
        keys = json.loads(os.environ.get("LOCALEMP_SERVE", "{}")).get("api_keys")
        if not keys or self.headers.get("authorization") in [f"Bearer {key}" for key in keys]:
            return True
        self._answer(401, {"error": {"message": "no key"}})
        return False

    def _answer(self, status: int, content: object) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def _end(code: int) -> None:
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
