"""Command lines that the parser takes though they cannot be meant, and its messages in one line. Imports no torch."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Sequence

from mechmem.errors import ConfigError

MAY_BE_EMPTY = ("--stop-when",)
"""Options whose empty value means that there is none."""

KINDS = {"INT…": "whole numbers", "FLOAT FLOAT": "2 numbers", "INT": "a whole number", "FLOAT": "a number"}
"""What an option takes, by its placeholder in the help."""

LEAST = {
    "audit": ("runs", 1, "one run directory"),
    "compare": ("runs", 2, "two run directories"),
    "over-training": ("what", 1, "one measurement: an extractor, a score, an analysis or structure"),
}
"""Of the commands that take several things: where they are kept, and the least number of them."""

REPEATABLE = "--grid"
"""The option that may be given again, and then has more values."""

_OPTION = re.compile(r"(--[A-Za-z][\w-]*)(?:=(.*))?", re.S)


class UnreadError(Exception):
    """Nobody reads what is printed any more."""


def options(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each option, by the option; of one that is given again, the last ones."""
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for each in _before_dashes(arguments):
        match = _OPTION.fullmatch(each)
        if match is None:
            values.append(each)
        else:
            values = [] if match[2] is None else [match[2]]
            found[match[1].replace("_", "-")] = values
    return found


def gathered(arguments: Sequence[str]) -> list[str]:
    """Return a line in which `REPEATABLE` stands once, last, followed by all values that it was given."""
    own = _before_dashes(arguments)
    rest, values = list[str](), list[str]()
    into = rest
    for each in own:
        match = _OPTION.fullmatch(each)
        if match is not None:
            into = values if match[1] == REPEATABLE else rest
        if match is not None and into is values:
            values += [] if match[2] is None else [match[2]]
        else:
            into.append(each)
    given = any(match[1] == REPEATABLE for each in own if (match := _OPTION.fullmatch(each)))
    return [*rest, *([REPEATABLE, *values] if given else []), *arguments[len(own) :]]


def check_line(arguments: Sequence[str]) -> None:
    """Refuse a line with an empty value, or with an option that is given again: the parser would take the last one.

    Raises:
        ConfigError: the message names the option.
    """
    empty = [before for before, after in itertools.pairwise(arguments) if after == ""]
    empty += [each.removesuffix("=") for each in arguments if re.fullmatch("--[a-z-]+=", each)]
    if any(before not in MAY_BE_EMPTY for before in empty):
        raise ConfigError(f"nothing is given after {empty[0]}")
    matches = [match for each in _before_dashes(arguments) if (match := _OPTION.fullmatch(each))]
    for option, count in Counter(match[1].replace("_", "-") for match in matches).items():
        if count > 1:
            raise ConfigError(f"{option} is given {count} times: give it once, followed by all of its values")


def check_parsed(name: str, command: object, arguments: Sequence[str]) -> None:
    """Refuse a parsed command with nothing after an option that takes several values, or with too few arguments.

    Args:
        name: the command's name.
        command: the command, whose attributes are its options and arguments.
        arguments: the line.

    Raises:
        ConfigError: the message names the option, or says what is missing.
    """
    for option in options(arguments):
        if getattr(command, option.strip("-").replace("-", "_"), None) == ():
            raise ConfigError(f"nothing is given after {option}")
    field, least, wanted = LEAST.get(name, ("", 0, ""))
    if least and len(getattr(command, field)) < least:
        raise ConfigError(f"{name} takes at least {wanted}")


def in_one_line(box: str, arguments: Sequence[str], known: Collection[str]) -> str:
    """Turn the parser's framed message into one line, without its title, which it repeats, and its help.

    Args:
        box: the message.
        arguments: the line.
        known: the command's own options; the parser also suggests those of others.
    """
    lines = [line for line in (line.strip(" │╭╮╰╯") for line in box.splitlines()) if line]
    message = " ".join(" ".join(lines[1:]).split("For full helptext")[0].split())
    # Rules are hyphens if the terminal has no box characters.
    message = ". ".join(filter(None, (part.strip(" .") for part in re.split("[─-]{5,}", message))))
    wrong = re.match(r"Error parsing (--[\w-]+): .*Argument helptext: \1 (?:\{None\}\|)?(.*)", message)
    kind = None if wrong is None else next((KINDS[each] for each in KINDS if wrong[2].startswith(each)), None)
    if wrong is not None and kind is not None:
        return f"{wrong[1]} must be {kind}, got {' '.join(options(arguments).get(wrong[1], [])) or 'nothing'}"
    place = re.match(r"Error parsing (?:INT|FLOAT): .*'(.*)'\. Argument helptext: (INT|FLOAT)", message)
    if place is not None:
        return f"an argument must be {KINDS[place[2]]}, got {place[1]}"
    said, _, near = message.partition("Perhaps you meant:")
    names = [name for name in dict.fromkeys(re.findall(r"--[a-z][\w-]*", near)) if name in known]
    # Of options that belong to another command it also says how it reads a line.
    said = re.sub(r" \(applied to [^)]*\)|Arguments are applied.*", "", said).replace(" or misplaced", "").strip(" .")
    return f"{said}. Did you mean {names[0]}?" if names else said


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments
