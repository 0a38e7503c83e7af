"""Arguments that several commands have, what they may be, and the model that they name."""

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from spladelet.encoder.cpus import MOST_THREADS
from spladelet.encoder.encoder import Encoder
from spladelet.errors import InputError
from spladelet.lexical.languages import LANGUAGES
from spladelet.lexical.words import LEXICAL, Words

_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand.

    Attributes:
        name: What it is called by.
        run: Does it; returns or yields what is to be printed.
        add: Adds its arguments.
        help: What it does, in a few words.
        has_model: Whether it takes a model.
        ends: Whether it ends by itself, so that it is worth saying that it goes on.
    """

    name: str
    run: Callable[[argparse.Namespace], str | Iterable[str]]
    add: Callable[[argparse.ArgumentParser], None]
    help: str
    has_model: bool = True
    ends: bool = True


def add_model(command: argparse.ArgumentParser) -> None:
    """Add which model encodes, and on how many threads."""
    command.add_argument("--model", metavar="MODEL", help="a bundle or hub id (default: ours)")
    command.add_argument(
        "--revision", metavar="REV", type=readable, help="of a hub id: a commit, tag or branch"
    )
    command.add_argument("--threads", type=_threads, metavar="N", help="threads (default: all)")


def load_encoder(options: argparse.Namespace) -> Encoder:
    """Load the model that the options name."""
    return Encoder.load(options.model, revision=options.revision, threads=options.threads)


def add_progress(command: argparse.ArgumentParser) -> None:
    """Add whether progress is shown."""
    command.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="draw a bar, or nothing (default: a bar on a terminal, else a line every half minute)",
    )


def add_pruning(command: argparse.ArgumentParser, least: float | None = 0.0) -> None:
    """Add which light terms are dropped."""
    command.add_argument(
        "--max-active-dims", type=whole, metavar="N", help="keep the N heaviest terms of each text"
    )
    command.add_argument(
        "--min-weight", type=finite, default=least, metavar="W", help="drop terms that weigh less"
    )


def add_top(command: argparse.ArgumentParser) -> None:
    """Add how many terms are shown."""
    command.add_argument(
        "--top", type=positive, default=10, metavar="N", help="terms shown (default: 10)"
    )


def add_words(command: argparse.ArgumentParser) -> None:
    """Add how words are counted beside the model's terms."""
    command.add_argument(
        "--language",
        choices=LANGUAGES,
        metavar="LANGUAGE",
        help="whose stems and stop words words have, or none (default: the model's)",
    )
    command.add_argument(
        "--no-words", action="store_true", help="count no words: the model's terms alone"
    )


def chosen_words(options: argparse.Namespace) -> Words | Literal["auto"] | None:
    """Return how the options say that words are counted."""
    if options.no_words:
        if options.language is not None:
            raise InputError("--no-words counts none, so that --language means nothing.")
        return None
    return "auto" if options.language is None else Words(options.language)


def add_lexical(command: argparse.ArgumentParser) -> None:
    """Add how much words count."""
    command.add_argument(
        "--lexical",
        type=lexical,
        metavar="C",
        help=f"what BM25 counts beside the model; 0 for the model alone, only for words alone "
        f"(default: {LEXICAL} where the index has words)",
    )


def lexical(given: str) -> float | Literal["only"]:
    """Read how much words count."""
    if given == "only":
        return "only"
    try:
        return finite(given)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f'{given!r:.40}; expected a number or "only"') from error


def whole(given: str) -> int:
    """Read a whole number that fits 31 bits; whether it makes sense is said where it is used."""
    try:
        value = int(given)
    except ValueError:  # no number, or one of thousands of digits
        value = _LARGEST + 1
    if abs(value) > _LARGEST:
        raise argparse.ArgumentTypeError(
            f"{given!r:.40}; expected a whole number, at most {_LARGEST}"
        )
    return value


def positive(given: str) -> int:
    """Read a whole number from 1."""
    value = whole(given)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{given!r:.40}; expected at least 1")
    return value


def finite(given: str) -> float:
    """Read a finite number."""
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{given!r:.40}; expected a number")
    return value


def readable(given: str) -> str:
    """Take an argument that is read as text: bytes that are none come as halves of characters."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"{given!r:.60} is no text in {sys.getfilesystemencoding()}, as the locale has it; "
            "mend the locale, or give it on standard input or in a file, in UTF-8"
        ) from None
    return given


def _threads(given: str) -> int:
    value = whole(given)
    if value > MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{given!r:.40}; expected at most {MOST_THREADS}")
    return value
