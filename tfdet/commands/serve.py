"""Try a detector in the browser: a page to upload photos to, and TF Serving's paths for programs.

Takes a training run (--model_dir), an exported model (--saved_model) or published weights (--weights=NAME). It is for
trying on one machine; TF Serving serves an export to many (docs/serving.md).
"""

from __future__ import annotations

import argparse

from tfdet.commands import flags
from tfdet.errors import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_detecting_model(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default 127.0.0.1: this machine alone; 0.0.0.0: whoever reaches it)",
    )
    parser.add_argument("--port", type=int, default=8501, metavar="N", help="port, 0 for a free one (default 8501)")
    parser.add_argument("--name", metavar="NAME", help="of the model in /v1/models/NAME (default: of its folder)")
    parser.add_argument(
        "--max_upload", type=float, default=20, metavar="MB", help="most megabytes of a request (default 20)"
    )
    flags.add_finding(parser)
    flags.add_max_pixels(parser, "larger ones are refused")


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    from tfdet.errors import UserError
    from tfdet.interrupts import Terminated
    from tfdet.serve.servable import servable_of
    from tfdet.serve.server import DetectionServer
    from tfdet.terminal import Console, shown

    flags.check_detecting_model(args)
    if not 0 < args.max_upload <= 1000:
        raise UserError(f"--max_upload {args.max_upload:g} must be above 0 and up to 1000 MB")
    if not 0 <= args.port < 1 << 16:
        raise UserError(f"--port {args.port} must be from 0 to 65535")
    finding = flags.finding(args)
    console = Console()

    def say(line: str) -> None:
        console.print(shown(line), soft_wrap=True, highlight=False)

    model = flags.load_detecting_model(args)
    servable = servable_of(model, args.name, finding, args.max_pixels)
    server = DetectionServer(servable, args.host, args.port, round(args.max_upload * 1e6), say)
    try:
        servable.warm_up()
        say(f"{servable.name}, {servable.about}")
        say(f"open {server.address} in a browser; Ctrl-C ends it")
        say(f"programs: POST {server.address}v1/models/{servable.name}:predict")
        server.serve_forever()
    except (KeyboardInterrupt, Terminated):
        say("stopped")
    finally:
        server.close()
    return EXIT_OK
