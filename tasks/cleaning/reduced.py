"""Posts reduced by units to scopes and pieces of the partial tables, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tasks.cleaning.counts import Scope
from tasks.cleaning.partials import AUTHOR_DAYS, WINDOWS, WORD_HISTOGRAM, Accumulator, Ints, PostPartials
from tasks.cleaning.pieces import WHOLE, PartialTable, Piece, PieceFile, merge_pieces, piece_spool
from tasks.platform.workers import HERE, Workers
from tasks.workspace import Workspace

PARTIALS = (AUTHOR_DAYS, WORD_HISTOGRAM)


@dataclass
class Reduced:
    """What a unit found in its posts: how many by as_of (µs), and its pieces by partial table. Units add up."""

    as_of: int
    after_as_of: int = 0
    windows: dict[int, int] = field(default_factory=lambda: dict.fromkeys(WINDOWS, 0))
    pieces: dict[str, list[Piece]] = field(default_factory=lambda: {partial.name: [] for partial in PARTIALS})

    def add(self, other: Reduced) -> None:
        """Add what another unit found."""
        self.after_as_of += other.after_as_of
        for days, posts in other.windows.items():
            self.windows[days] += posts
        for name, pieces in other.pieces.items():
            self.pieces[name] += pieces

    def scope(self) -> Scope:
        """The posts by as_of."""
        return Scope(self.as_of, self.after_as_of, self.windows)

    def merge(self, workspace: Workspace, *, workers: Workers = HERE) -> None:
        """Make the partial tables of the run from all pieces, which go."""
        merge_pieces([(PartialTable(workspace, of), self.pieces[of.name]) for of in PARTIALS], workers=workers)
        for partial in PARTIALS:
            piece_spool(workspace, partial).remove()


@contextmanager
def piece_files(workspace: Workspace, index: int, users: int) -> Iterator[tuple[PieceFile, ...]]:
    """The files of unit `index` for pieces of author days and of the word histogram. users: how many are kept."""
    author_days, histogram = PARTIALS
    with ExitStack() as stack:
        cut = (author_days.cut_for(users), histogram)
        files = (PieceFile(partial, piece_spool(workspace, partial).path(index)) for partial in cut)
        yield tuple(stack.enter_context(file) for file in files)


@contextmanager
def reducing(workspace: Workspace, index: int, as_of: int, signed_up: Ints) -> Iterator[tuple[PostPartials, Reduced]]:
    """What the posts of unit `index` are added to, and its result once the block has ended. as_of, signed_up: µs."""
    with piece_files(workspace, index, len(signed_up)) as files:
        author_days, histogram = (Accumulator(file.partial, file.write) for file in files)
        partials = PostPartials(as_of, signed_up, author_days, histogram)
        reduced = Reduced(as_of, pieces={file.partial.name: file.pieces for file in files})
        yield partials, reduced
        scope = partials.end()
        reduced.after_as_of, reduced.windows = scope.after_as_of, dict(scope.windows)


def clear_partials(workspace: Workspace, group: str = WHOLE) -> None:
    """Remove what an earlier start has left of pieces, and the partial tables of a group."""
    for partial in PARTIALS:
        piece_spool(workspace, partial).remove()
        PartialTable(workspace, partial, group).spool.remove()
