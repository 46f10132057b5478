"""Reads YAML files, which others may have written or damaged, and writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.errors import UserError

# The C loader is about ten times as fast; a whole Slakh tree has two thousand metadata files.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, loader: Any = YAML_LOADER, sections: bool = False) -> dict[Any, Any]:
    """The mapping in a YAML file, of plain values.

    Args:
        path: Path of the file.
        loader: Loader of yaml that makes nothing but plain values.
        sections: Whether the values have to be mappings, too.

    Raises:
        UserError: If the file is missing, cannot be read or holds something else.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: restore the file.") from None
    # Beside its own errors, yaml raises those of dates and numbers that do not exist.
    except (yaml.YAMLError, ValueError, OSError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason}): restore the file.") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} is not a mapping: restore the file.")
    if sections and not all(isinstance(value, dict) for value in data.values()):
        raise UserError(f"{path} does not hold sections of options: restore the file.")
    return data


def write_yaml(path: Path, data: dict[Any, Any]) -> None:
    """Writes a mapping of plain values atomically, in its own order."""
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(data, sort_keys=False))
