"""What a mutant is: the package with one bug in it, made by changing its source text in a copy."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import enrich_pipeline

PACKAGE = Path(enrich_pipeline.__file__).parent
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Edit:
    """One change: in this file of the package, `old` becomes `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug. `noticed_by`: the campaigns that must notice it, the quickest first."""

    name: str
    bug: str
    edits: tuple[Edit, ...]
    noticed_by: tuple[str, ...]


def misfits(mutant: Mutant, package: Path = PACKAGE) -> list[str]:
    """Edits whose old text is not in the source exactly once."""
    found = []
    for edit in mutant.edits:
        times = (package / edit.file).read_text(encoding="utf-8").count(edit.old)
        if times != 1:
            found.append(f"{edit.file} has this {times} times: {edit.old.strip()}")
    return found


def copy_sources(folder: Path) -> None:
    """Puts the package and its campaigns into `folder`, as they are now."""
    for source in (PACKAGE, TESTS):
        shutil.copytree(source, folder / source.name)


def plant(mutant: Mutant | None, sources: Path, folder: Path) -> None:
    """Copies `sources` into `folder`, with that bug or without any.

    Raises:
        ValueError: the mutant does not fit this source.
    """
    shutil.copytree(sources, folder, dirs_exist_ok=True)
    package = folder / PACKAGE.name
    if mutant and (found := misfits(mutant, package)):
        raise ValueError(f"{mutant.name}: {'; '.join(found)}")
    for edit in mutant.edits if mutant else ():
        path = package / edit.file
        path.write_text(path.read_text(encoding="utf-8").replace(edit.old, edit.new))
