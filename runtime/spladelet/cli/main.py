"""The command `spladelet`: its subcommands, each a thin twin of a method.

A subcommand returns or yields what is to be printed; only `console` prints.
"""

import argparse
from collections.abc import Sequence

from spladelet._version import __version__
from spladelet.cli import console
from spladelet.cli.console import Parser
from spladelet.cli.evaluating import EVALUATING
from spladelet.cli.exploring import EXPLORING
from spladelet.cli.handing_over import HANDING_OVER
from spladelet.cli.indexing import INDEXING
from spladelet.cli.inspecting import INSPECTING
from spladelet.cli.options import Command, add_model, add_progress
from spladelet.cli.searching import FIRST_STEPS, SEARCHING
from spladelet.cli.serving import SERVING
from spladelet.index.format import KINDS
from spladelet.progress import showing

_COMMANDS = (
    *FIRST_STEPS,
    *INDEXING,
    *SEARCHING,
    *EXPLORING,
    *EVALUATING,
    *HANDING_OVER,
    *SERVING,
    *INSPECTING,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, see `console.run`."""

    def run() -> None:
        options = _parser().parse_args(arguments)
        with showing(options.progress, options.command if options.ends else None):
            result = options.run(options)
            for text in [result] if isinstance(result, str) else result:
                console.show(text)

    return console.run(run)


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="spladelet",
        description="Learned sparse search without PyTorch: encode, search and explain.",
    )
    parser.add_argument("--version", action="version", version=f"spladelet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        description = command.help.capitalize() + "."
        _fill(
            commands.add_parser(command.name, help=command.help, description=description), command
        )
    return parser


def _fill(parser: argparse.ArgumentParser, command: Command) -> None:
    parser.set_defaults(
        run=command.run,
        command=command.name,
        ends=command.ends,
        max_active_dims=None,
        min_weight=0.0,
        weights=KINDS[0],
        long_texts="cut",
    )
    command.add(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_progress(parser)
    if command.has_model:
        add_model(parser)
