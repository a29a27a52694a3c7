"""The report of a conversion: everything that was left out, changed or noticed, with its file and reason."""

from __future__ import annotations

import collections
import dataclasses
import os

from tfdet.files import write_json
from tfdet.text import one_line


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One finding.

    Attributes:
        kind: what it is, in words ("degenerate box", "missing file", ...); findings are counted by it.
        file: the image or annotation file.
        image_id: id of the image, None when there is none.
        reason: what exactly, for a person.
        action: what the conversion did about it.
        is_note: worth knowing but nothing wrong with the data (a converted colour space, an image without objects);
            notes do not make `--strict` fail.
    """

    kind: str
    file: str
    image_id: int | None
    reason: str
    action: str
    is_note: bool = False

    def __str__(self) -> str:
        image = "" if self.image_id is None else f" (image id {self.image_id})"
        return f"{self.kind}: {self.file}{image}: {self.reason} -> {self.action}"


class ProblemReport:
    """Collects findings; writes them as json and as a table."""

    def __init__(self):
        self.problems: list[Problem] = []

    def add(self, kind, file, image_id, reason, action, is_note=False) -> None:
        """Adds one finding; the arguments are the fields of `Problem`."""
        self.problems.append(Problem(kind, str(file), image_id, reason, action, is_note))

    def extend(self, problems) -> None:
        """Adds findings."""
        self.problems.extend(problems)

    def counts(self, notes: bool = False) -> dict[str, int]:
        """Number of problems (or of notes) by kind, most frequent first."""
        return dict(collections.Counter(p.kind for p in self.problems if p.is_note == notes).most_common())

    @property
    def has_problems(self) -> bool:
        """Whether anything but notes was found."""
        return any(not problem.is_note for problem in self.problems)

    def write(self, path: str | os.PathLike) -> None:
        """Writes the report as json: counts by kind, then every finding."""
        content = {
            "problems": self.counts(),
            "notes": self.counts(notes=True),
            "findings": [dataclasses.asdict(problem) for problem in self.problems],
        }
        write_json(content, path, for_people=True)

    def lines(self, first: int = 0) -> list[str]:
        """One line for every kind of finding: how often, and the first one. Args: first, the finding to begin at."""
        kinds: dict[str, list[Problem]] = {}
        for problem in self.problems[first:]:
            kinds.setdefault(problem.kind, []).append(problem)
        return [
            one_line(f"{kind} ({len(found)} times), such as {found[0].file}: {found[0].reason} -> {found[0].action}")
            for kind, found in kinds.items()
        ]

    def print_summary(self, console, shown_per_kind: int = 5, used: str = "") -> None:
        """Prints a table of the counts with the first findings of each kind.

        Args:
            console: a `rich.console.Console`.
            shown_per_kind: how many findings of a kind are named; report.json names all.
            used: what to say of images and boxes where nothing was found.
        """
        from rich.table import Table

        from tfdet.terminal import shown

        if not self.problems:
            console.print(f"Nothing to report: {used}." if used else "Nothing to report.", markup=False)
            return
        table = Table(title="Findings", show_lines=True)
        for heading in ("kind", "count", "first ones"):
            table.add_column(heading, justify="right" if heading == "count" else "left", overflow="fold")
        for notes in (False, True):
            for kind, count in self.counts(notes).items():
                found = [p for p in self.problems if p.kind == kind and p.is_note == notes][:shown_per_kind]
                lines = [one_line(f"{p.file}: {p.reason} -> {p.action}") for p in found]
                if count > len(found):
                    lines.append(f"... and {count - len(found)} more")
                label = f"{kind} (note)" if notes else kind
                table.add_row(shown(label), str(count), shown("\n".join(lines)))
        console.print(table)
