"""Try models on a local page: `python -m catpose.demo --checkpoint runs/mobilenet/best.ckpt`.

Drop a picture, move the box, switch models, drag keypoints that are wrong, and save the correction, which
`prepare coco demo/corrections.json --onto DATA` brings back. The page is served to this machine alone, asks no other
one for anything, and ends with Ctrl-C.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from catpose.errors import InputError, Parser, command, one_line, whole
from catpose.run.options import add_import_option
from catpose.shipped import DEFAULT_MODEL, find_model, shipped_models

if TYPE_CHECKING:
    from catpose.serving.app import Model

#: What browsers on this machine may call it, in its own address's place.
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@command
def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise InputError(f"the demo needs {error.name}, which isn't installed; pip install 'catpose[demo]'") from None
    if arguments.port > 65535:
        raise InputError(f"--port {arguments.port}: ports end at 65535; leave it out, or give 0 for a free one")
    with _listening(arguments.host, arguments.port) as listening:
        from catpose.files import refuse_owned, require_writable
        from catpose.serving.app import Demo, create_app
        from catpose.serving.corrections import CorrectionsFile

        require_writable(arguments.out, "--out", folder=True)
        refuse_owned(arguments.out, "--out", "run", "study")
        models = _models(arguments.checkpoint or [find_model(DEFAULT_MODEL)], tuple(arguments.trusted))
        skeleton = next(iter(models.values())).skeleton
        demo = Demo(models, CorrectionsFile(arguments.out / "corrections.json", skeleton))
        address, port = listening.getsockname()[:2]
        local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        host = f"[{address}]" if ":" in address else address
        app = create_app(demo, [*_LOOPBACK, host] if local else ["*"])
        print(f"catpose demo: http://{host}:{port} (Ctrl-C ends it)", flush=True)
        if not local:
            print("catpose demo: whoever reaches this address can use it", file=sys.stderr)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again once it has ended
            server.run(sockets=[listening])


def _parser() -> Parser:
    examples = (
        "catpose demo --checkpoint runs/mobilenet/best.ckpt",
        "catpose demo --checkpoint a.ckpt b.ckpt --port 0 --out corrected/",
    )
    parser = Parser(prog="catpose demo", description="Try models on a local page.", examples=examples)
    parser.add_argument("--checkpoint", type=find_model, nargs="+", metavar="FILE",
                        help="best.ckpt or last.ckpt of fit, several of which can be switched on the page"
                        f" ({DEFAULT_MODEL}, which comes with catpose)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR",
                        help="folder for corrections.json (%(default)s)")  # fmt: skip
    parser.add_argument("--port", type=whole, default=8765, help="0: any free one (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at; the default is this machine alone")
    add_import_option(parser)
    return parser


def _listening(host: str, port: int) -> socket.socket:
    """A socket that browsers can connect to already; InputError where the port is taken."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            remedy = "give another with --port, or --port 0 for a free one"
            raise InputError(f"--port {port}: can't be had ({one_line(error.strerror)}); {remedy}") from None
        raise InputError(f"--host {host}: is no address of this machine; leave it out") from None


def _models(checkpoints: list[Path], trusted: tuple[str, ...]) -> dict[str, Model]:
    """The models by the names that they come with, or by their files.

    Raises:
        InputError: one is missing, or of other keypoints than the first.
    """
    from catpose.run.predictor import load

    ours = {file: name for name, file in shipped_models().items()}
    models: dict[str, Model] = {}
    for file in checkpoints:
        model = models[ours.get(file, str(file))] = load(file, trusted=trusted)
        first = next(iter(models.values())).skeleton
        difference = model.skeleton.difference(first)
        if difference:
            raise InputError(f"{file}: has other keypoints than {checkpoints[0]}: {difference}; start a demo for each")
    return models


if __name__ == "__main__":
    main()
