"""Shards of remote data sets on this machine: fetched ahead of their use, checked, and removed to make room.

A shard that is being read is locked (flock, shared), so that neither this process nor another one takes it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import filelock
import numpy as np

from tfdet.data.remote import OTHER_SUFFIXES, REMOTE_FILE, RemoteShard
from tfdet.errors import UserError
from tfdet.fetch import cache_folder, download, forget, read_record, remove
from tfdet.fetch.progress import megabytes, say
from tfdet.fetch.settings import cache_limit, shown
from tfdet.files import is_in_place

_THREADS = 4  # that fetch at once
_TRIES = 3  # of a shard that arrives damaged
_ROOM = ".room"
_LOOK = 0.02  # seconds
_STEP = 1.0  # seconds between two looks for room
_REST = 10.0  # seconds after a shard could not be fetched ahead
_TOUCH = 60.0  # seconds: a use is noted no more often
_MARGIN = 1 << 28  # bytes that stay free on the disk


class Staging:
    """Brings the shards of data sets here: those of a plan ahead of their use, any other when it is needed.

    Args:
        shards: by their number in the index; None for those of local sets.
        paths: of all shards.
    """

    def __init__(self, shards: Sequence[RemoteShard | None], paths: Sequence[str]):
        self._shards, self._paths = list(shards), list(paths)
        self._folder = cache_folder() / "data"
        self._limit = cache_limit()
        self._checked: set[int] = set()
        self._used: dict[int, float] = {}
        self._progress = threading.Condition()
        self._planned: list[int] = []  # shards in the order of their use, as far as they were staged
        self._position, self._window, self._said = 0, 1, False
        self._locks = [threading.Lock() for _ in self._shards]  # one thread of this process fetches a shard

    @property
    def total_bytes(self) -> int:
        """Bytes of all remote shards."""
        return sum(shard.bytes for shard in self._shards if shard is not None)

    def room(self) -> int:
        """Bytes of shards that the cache can hold: by its limit and the disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        status = os.statvfs(self._folder)
        held = sum(size for _, size, _ in self._held())
        free = max(held + status.f_bavail * status.f_frsize - _MARGIN, 0)
        return free if self._limit is None else min(free, self._limit)

    def fits(self) -> bool:
        """Whether all shards can be here at once."""
        return self.total_bytes <= self.room()

    def check_room(self, shards_at_once: int | None, reads_others: bool) -> None:
        """`UserError` where training would fetch its shards again and again.

        Args:
            shards_at_once: as of `TrainInput`.
            reads_others: whether an image may be mixed with any other of the set.
        """
        if self.fits():
            return
        room = f"{megabytes(self.total_bytes)} of shards, and the cache {self._folder} has room for"
        room = f"{room} {megabytes(self.room())}"
        if shards_at_once is None or reads_others:
            why = "mosaic and copy-paste take images of the whole set" if reads_others else "an epoch mixes all"
            instead = "leave them out" if reads_others else "set TrainInput.shards_at_once"
            raise UserError(f"{why}, {room}: raise TFDET_CACHE_LIMIT, free some space, or {instead}")
        sizes = sorted((shard.bytes for shard in self._shards if shard is not None), reverse=True)
        needed = sum(sizes[: 2 * shards_at_once])
        if needed > self.room():
            raise UserError(
                f"TrainInput.shards_at_once {shards_at_once} needs two times as many shards here, "
                f"{megabytes(needed)}, of {room}: lower it"
            )

    def begin(self, plan: Iterable[int], window: int = 1) -> None:
        """Starts to fetch ahead, in the background; an earlier plan ends.

        Args:
            plan: numbers of shards in the order of their use.
            window: so many shards are used at the same time.
        """
        self._say_how_much()
        with self._progress:
            self._planned, self._position, self._window = [], 0, window
        plan, lock = iter(plan), threading.Lock()
        for _ in range(_THREADS):
            work = (weakref.ref(self), plan, lock, self._planned)
            threading.Thread(target=_stage, args=work, daemon=True, name="tfdet-staging").start()

    def acquire(self, number: np.ndarray | int) -> tuple[bytes, np.int64]:
        """Where a shard is, fetched where it is not here; it stays until `release`.

        Returns:
            The path and what `release` takes.

        Raises:
            UserError: it cannot be fetched.
        """
        number = int(number)
        shard = self._shards[number]
        if shard is None:
            return os.fsencode(self._paths[number]), np.int64(-1)
        while True:
            self.fetch(number)
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(shard.path, os.O_RDONLY)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                if is_in_place(descriptor, shard.path):
                    break
                os.close(descriptor)
            self._checked.discard(number)  # another process needed the room
        self._note_use(number, descriptor)
        return os.fsencode(shard.path), np.int64(descriptor)

    def release(self, token: np.ndarray | int) -> np.int64:
        """Lets a shard go that `acquire` held."""
        if int(token) >= 0:
            os.close(int(token))
        return np.int64(0)

    def fetch(self, number: int, wait: bool = True) -> bool:
        """Sees to it that a shard is here, whole and checked.

        Args:
            number: of the shard.
            wait: until there is room, whatever has to go for it; else False where it would take what is needed sooner.

        Raises:
            UserError: it cannot be fetched, arrives damaged again and again, or is larger than the cache.
        """
        shard = self._shards[number]
        if shard is None or (number in self._checked and os.path.isfile(shard.path)):
            return True
        with self._locks[number]:
            with contextlib.ExitStack() as stack:
                if self._limit is not None and not os.path.isfile(shard.path):
                    if not self._make_room(shard, self._limit, wait, stack):
                        return False
                _download(shard)
            self._checked.add(number)
        return True

    def _note_use(self, number: int, descriptor: int) -> None:
        now = time.time()
        if now - self._used.get(number, 0.0) > _TOUCH:
            self._used[number] = now
            # By it the shards that were not used for longest are known; the time of change has to stay.
            with contextlib.suppress(OSError):
                os.utime(descriptor, ns=(time.time_ns(), os.fstat(descriptor).st_mtime_ns))
        if self._limit is None:
            return
        with self._progress:
            first = self._position + 1
            ahead, recent = self._planned[first:], self._planned[max(self._position - self._window, 0) : first]
            if number in ahead and number not in recent:  # and not its turn in the next epoch
                self._position = first + ahead.index(number)
                self._progress.notify_all()

    def _make_room(self, shard: RemoteShard, limit: int, wait: bool, stack: contextlib.ExitStack) -> bool:
        """Removes shards that were not used for longest; not those that are read. Those that are planned go last, and
        only for what is waited for.

        The room is taken until `stack` ends, by a file of that size without content, for other threads and processes.
        """
        if shard.bytes > limit:
            raise UserError(
                f"{shown(shard.address)} has {megabytes(shard.bytes)}, more than TFDET_CACHE_LIMIT allows in all: "
                f"{megabytes(limit)}"
            )
        shard.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with filelock.FileLock(self._folder / ".room.lock"):
                held = self._held()
                over = sum(size for _, size, _ in held) + shard.bytes - limit
                planned = self._needed_sooner()
                for path, size, _ in sorted(held, key=lambda one: (planned.get(one[0], 0), one[2])):
                    if over <= 0 or path in planned and not wait:
                        break
                    if path.suffix != _ROOM and _take_away(path):
                        over -= size
                if over <= 0:
                    stack.enter_context(_taking_room(shard))
                    return True
            if not wait:
                return False
            time.sleep(_LOOK)  # all are being read or fetched

    def _needed_sooner(self) -> dict[Path, int]:
        """The planned shards, each with a number above 0: the larger, the sooner it is needed."""
        with self._progress:
            numbers = self._planned[max(self._position - self._window, 0) :]
        shards = [self._shards[number] for number in reversed(numbers)]
        return {shard.path: place for place, shard in enumerate(shards, 1) if shard is not None}

    def _held(self) -> list[tuple[Path, int, int]]:
        """Path, bytes and time of the last use of all shards in the cache, of any data set, and of those under way."""
        found = []
        for mark in self._folder.glob(f"*/{REMOTE_FILE}"):
            paths = {path for path in mark.parent.rglob("*") if path.suffix not in OTHER_SUFFIXES}
            # Where a process that was killed left such a file, nobody locks it.
            under_way = {path for path in paths if path.suffix == _ROOM and not _take_away(path)}
            # A shard that has just come counts once, and stays until whoever fetched it has noted it.
            arriving = {path: path.with_name(path.name[1 : -len(_ROOM)]) for path in under_way}
            shards = {path for path in paths if path.suffix != _ROOM}.difference(arriving.values())
            # The file that stood for it may be gone since the folder was read: then the shard is there.
            for path, other in (*arriving.items(), *((path, path) for path in shards)):
                for one in dict.fromkeys((path, other)):
                    with contextlib.suppress(OSError):
                        status = one.stat()
                        if stat.S_ISREG(status.st_mode):
                            found.append((one, status.st_size, status.st_atime_ns))
                            break
        return found

    def _say_how_much(self) -> None:
        if self._said:
            return
        self._said = True
        missing = [one for one in self._shards if one is not None and not os.path.isfile(one.path)]
        if missing:
            where = shown(os.path.dirname(missing[0].address))
            size = megabytes(sum(shard.bytes for shard in missing))
            say(f"{where}: {len(missing)} shards ({size}) are fetched into {self._folder} as they are needed")


def _download(shard: RemoteShard) -> None:
    """Fetches a shard, or checks the one that is here; what arrives damaged, or was damaged here, is fetched again."""
    label, reason = f"the shard {shard.path.name} of {shown(os.path.dirname(shard.address))}", ""
    for _ in range(_TRIES):
        try:
            download([shard.address], shard.path, checksum=f"sha256:{shard.sha256}", label=label, quiet=True)
        except UserError as error:
            reason = str(error)
            if "sha256" not in reason:  # the network or the disk
                raise
        else:
            kept = read_record(shard.path)
            if kept is not None and kept.sha256 == shard.sha256:
                return
            reason = f"{label} is another one than the manifest says"  # where TFDET_CHECKSUMS let it pass
        remove(shard.path)
        forget(shard.path)
    raise UserError(f"{label} arrived damaged {_TRIES} times: {reason}")


def _stage(reference: weakref.ref, plan: Iterator[int], lock: threading.Lock, planned: list[int]) -> None:
    """A thread that fetches what is planned; it ends with the `Staging`, or where another plan has begun."""
    while True:
        staging = reference()
        if staging is None or staging._planned is not planned:
            return
        with lock:
            number = next(plan, None)
            if number is not None:
                with staging._progress:
                    planned.append(number)
        if number is None:
            return
        while staging is not None and staging._planned is planned:
            try:
                if staging.fetch(number, wait=False):
                    break
                pause = _STEP
            except (UserError, OSError):  # whoever needs it tries again, and says it
                pause = _REST
            progress = staging._progress
            if pause == _REST:
                del staging
                time.sleep(pause)
                break
            with progress:
                progress.wait(pause)
            staging = reference()


@contextlib.contextmanager
def _taking_room(shard: RemoteShard) -> Iterator[None]:
    """While entered, a file of the size of a shard stands for it; other processes know by its lock that it counts."""
    path = shard.path.with_name(f".{shard.path.name}{_ROOM}")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.ftruncate(descriptor, shard.bytes)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _take_away(path: Path) -> bool:
    """Removes a shard unless it is being read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_in_place(descriptor, path):
            return False
        os.unlink(path)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
