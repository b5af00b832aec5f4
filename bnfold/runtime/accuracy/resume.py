"""The state file of a run: how far it came, the counts so far, and what must be the same for them to be worth anything."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bnfold.errors import InputError
from bnfold.runtime.accuracy.tally import Tally

_VERSION = 1


@dataclass(frozen=True)
class State:
    """One state file.

    Attributes:
        path: where it is.
        key: what the run depends on: setting → value; hashes of the models and the data among them.
    """

    path: Path
    key: Mapping[str, str]

    def load(self) -> tuple[int, Tally]:
        """The number of samples that are done, and their tally; nothing where there is no file yet.

        Raises:
            InputError: the file is no state file, or belongs to another run.
        """
        if not self.path.exists():
            return 0, Tally()
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["version"] != _VERSION:
                raise InputError(f"{self.path} was written by another version of bnfold. Delete it to start over.")
            key, done, tally = stored["key"], int(stored["done"]), Tally.from_dict(stored["tally"])
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.path} is no state file of bnfold accuracy. Name another one with --resume.") from error
        for setting, value in self.key.items():
            if key.get(setting) != value:
                raise InputError(
                    f"{self.path} belongs to another run: {setting} is {value or 'none'}, and was {key.get(setting) or 'none'}. "
                    "Delete it to start over, or name another one with --resume."
                )
        return done, tally

    def save(self, done: int, tally: Tally) -> None:
        """Replaces the file in one step.

        Raises:
            InputError: it cannot be written.
        """
        document = {"version": _VERSION, "key": dict(self.key), "done": done, "tally": tally.to_dict()}
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            part.write_text(json.dumps(document) + "\n", encoding="utf-8")
            part.replace(self.path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise InputError(
                f"the state {self.path} cannot be written: {error.strerror}. Name another file with --resume."
            ) from error
