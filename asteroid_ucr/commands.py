"""How a function becomes a sub-command of `asteroid-ucr`: its options, its help and its errors."""

from __future__ import annotations

import argparse
import codecs
import inspect
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from asteroid_ucr.config import parse_recipe, recipe_parser
from asteroid_ucr.utils.errors import AudioWarning, UserError, system_error

Option = tuple[tuple[str, ...], dict[str, Any]]


class Parser(argparse.ArgumentParser):
    """Reports mistakes as a `UserError`, so that every error of the command is one line."""

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print after its usage."""
        if "required: FILE" in message:
            message += " (name files before an option that takes several values)"
        raise UserError(f"{message}; see `{self.prog} --help`.")


@dataclass(frozen=True)
class Command:
    """A sub-command.

    A function whose first parameter is `config` takes the recipe's configuration, and a function
    with the parameter `kind` takes `ucr` or the name of a baseline before all options.

    Attributes:
        function: What the command calls, with its options as keyword arguments.
        options: Options besides those of the recipe.
    """

    function: Callable[..., int | None]
    options: tuple[Option, ...]

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return str(self.function.__doc__).split("\n")[0].rstrip(".")

    def run(self, name: str, arguments: Sequence[str]) -> int | None:
        """Parses the arguments and calls the function.

        Raises:
            UserError: If an option is unknown, or its value is not valid.
        """
        parameters = inspect.signature(self.function).parameters
        prog, description = f"asteroid-ucr {name}", inspect.getdoc(self.function)
        if "config" not in parameters:
            return self.function(**vars(self.parser(name).parse_args(arguments)))
        parser, given = recipe_parser(description), {}
        parser.usage = f"{prog} [options]"
        if "kind" in parameters:
            # The options of the section `model` depend on the name, so it is taken out first.
            kind = "ucr"
            if arguments and not arguments[0].startswith("-"):
                kind, *arguments = arguments
            if kind != "ucr":
                from asteroid_ucr.training.baselines import find_baseline

                parser = recipe_parser(description, find_baseline(kind).options)
            parser.usage = f"{prog} [ucr|BASELINE] [options]"
            given["kind"] = kind
        parser.prog = prog
        names = self.add_options(parser)
        config, parsed = parse_recipe(parser, arguments)
        return self.function(config=config, **given, **{name: parsed[name] for name in names})

    def parser(self, name: str) -> Parser:
        """The parser of a command without the recipe's configuration."""
        parser = Parser(f"asteroid-ucr {name}", description=inspect.getdoc(self.function))
        self.add_options(parser)
        return parser

    def add_options(self, parser: argparse.ArgumentParser) -> list[str]:
        """Adds the options to a parser, and returns their names."""
        return [parser.add_argument(*flags, **about).dest for flags, about in self.options]


COMMANDS: dict[str, Command] = {}


def option(*flags: str, **about: Any) -> Option:
    """An option, with the arguments of `ArgumentParser.add_argument`; the help has its default."""
    default = about.get("default")
    if default not in (None, []) and "default:" not in about.get("help", ""):
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        about["help"] = f"{about['help'].removesuffix('.')} (default: {shown})."
    return flags, about


def out_option(default: str | None, text: str, **about: Any) -> Option:
    """The option `--out`, which is required without a default."""
    place = {"required": True} if default is None else {"default": Path(default)}
    return option("-o", "--out", type=Path, help=text, **place, **about)


MODEL = "Bundled name, file, folder or Hugging Face id."
DEVICE = option("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps.")
CODEC_DIR = option("--codec_dir", help="Folder of the codec's published weights.")


def command(*options: Option) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Makes a function the sub-command of its name, with hyphens."""

    def register(function: Callable[..., int | None]) -> Callable[..., int | None]:
        COMMANDS[function.__name__.replace("_", "-")] = Command(function, options)
        return function

    return register


def exit_code(function: Callable[[], int | None]) -> int:
    """Runs a function, and prints an error that the user can correct as one line.

    Returns:
        0, what the function returned, 2 after an error, or 130 after Ctrl-C.
    """
    try:
        code = function() or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # as in `asteroid-ucr models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell reports for SIGPIPE
    except UserError as error:
        logging.getLogger(__name__).debug("this is where:", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:  # of the extra "recipe"
        logging.getLogger(__name__).debug("this is where:", exc_info=True)
        install = "pip install 'asteroid-ucr[recipe]'"
        print(f"error: This needs the package {error.name}: run `{install}`.", file=sys.stderr)
    except OSError as error:
        logging.getLogger(__name__).debug("this is where:", exc_info=True)
        print(f"error: {system_error(error)}", file=sys.stderr)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, KeyboardInterrupt):
            raise  # Lightning turns Ctrl-C into an exit code of its own
        print("interrupted", file=sys.stderr)
        return 130
    return 2


_LEVELS = {"-q": "ERROR", "--quiet": "ERROR", "-v": "DEBUG", "--verbose": "DEBUG"}


class _Lines(logging.Handler):
    """Writes messages to the standard error, above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def set_up_logging(arguments: Sequence[str]) -> list[str]:
    """Sets how much is told; returns the arguments other than --quiet and --verbose."""
    logger = logging.getLogger("asteroid_ucr")
    logger.handlers, logger.propagate = [_Lines()], False
    logger.setLevel(next((_LEVELS[word] for word in arguments if word in _LEVELS), "INFO"))
    warnings.simplefilter("always", AudioWarning)
    warnings.showwarning = _show_warning
    return [word for word in arguments if word not in _LEVELS]


_show_others = warnings.showwarning


def _show_warning(message: Warning | str, *about: Any) -> None:
    """Tells what happened to a user's file as a line; other warnings are for programmers."""
    if isinstance(message, AudioWarning):
        logging.getLogger(__name__).warning("warning: %s", message)
    else:
        _show_others(message, *about)


def as_a_process() -> None:
    """Prepares the process for a command.

    SIGTERM and SIGHUP end it as an exception does, which removes temporary files. Characters that
    the terminal or the file does not have are replaced, so that they never end a run.
    """
    for name in ("SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, _stop)
    codecs.register_error("asteroid_ucr", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="asteroid_ucr")


def _stop(number: int, _: object) -> NoReturn:
    """Ends the process with the exit code that a shell expects after a signal."""
    raise SystemExit(128 + number)


_PLAIN = {"±": "+/-", "−": "-", "–": "-", "×": "x", "…": "...", "α": "alpha", "²": "^2"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replaces what cannot be encoded, as an error handler of `codecs`."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    known = [_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text]
    return "".join(known), error.end
