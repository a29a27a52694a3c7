"""One process trains in a folder: its lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import stat
import time
from pathlib import Path
from typing import NamedTuple

from tfdet.errors import UserError
from tfdet.files import is_in_place
from tfdet.strict_json import field, parse_json

_MOVE_AWAY = "move it away, or choose another --model_dir"
_LONGEST = 4096  # bytes of the file that are read
_PROCESSES = Path("/proc")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Owner(NamedTuple):
    """Who holds a lock."""

    host: str
    pid: int
    process_start: str  # when the process began, by its machine's count; "" where the system does not say
    since: str  # when it took the lock, for people

    @classmethod
    def this_process(cls) -> Owner:
        """The owner that this process would be."""
        return cls(socket.gethostname(), os.getpid(), _process_start(os.getpid()), time.strftime("%Y-%m-%d %H:%M:%S"))

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """What `json` wrote; None for anything else, such as the empty file of a process that died at once."""
        try:
            content = parse_json(text)
            return cls(*(field(content, name, kind) for name, kind in zip(cls._fields, (str, int, str, str))))
        except ValueError:
            return None

    def json(self) -> str:
        """As text."""
        return json.dumps(self._asdict()) + "\n"

    def runs_here(self) -> bool:
        """Whether the process still runs on this machine: its number alone may be another one's by now."""
        if self.pid == os.getpid():
            return False  # of an earlier call: while one is under way, its open file says so
        now = _process_start(self.pid)
        return now is not None and (now == self.process_start or not now or not self.process_start)


class RunLock:
    """The file `run.lock` in the folder of a run, which names host, process and time.

    On one machine the system decides (`flock`), so of two processes that start at the same moment one gets it, and a
    process that was killed holds nothing. What the file says decides where a disk of several machines does not know
    such locks: a process of this machine is looked up by number and time of start, one of another machine counts as
    running, for nothing here can tell.

    Args:
        path: of the file. Its folder is made with it, and both are taken away at the end where nothing else came in.
    """

    def __init__(self, path: Path):
        self._path = path
        self._descriptor: int | None = None
        self._made: list[Path] = []  # folders, the innermost first

    def owner(self) -> Owner | None:
        """Who wrote the file, whether or not that process still runs; None where nothing readable is there."""
        try:
            if not os.path.isfile(self._path):  # nor waits for what comes through a pipe
                return None
            with self._path.open("rb") as file:
                return Owner.parse(file.read(_LONGEST).decode(errors="replace"))
        except OSError:
            return None

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            UserError: a process has it, or the folder cannot be written.
        """
        folder = self._path.parent
        try:
            self._made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = self._open()
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, Owner.this_process().json().encode(), 0)
        except OSError as error:
            self.release()
            raise UserError(
                f"The model directory {folder} cannot be written ({error.strerror}): choose another --model_dir or "
                "free it"
            ) from None
        except UserError:
            self._remove_folders()
            raise

    def release(self) -> None:
        """Gives the lock back, where it was taken."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                if is_in_place(self._descriptor, self._path):
                    self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None
        self._remove_folders()

    def renew(self) -> bool:
        """Makes sure that the lock is still there; takes it again where the folder was removed.

        Returns:
            Whether it was there.

        Raises:
            UserError: another process has it by now, or the folder cannot be made again.
        """
        if self._descriptor is not None and is_in_place(self._descriptor, self._path):
            return True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self.acquire()
        return False

    def _open(self) -> int:
        while True:
            if os.path.islink(self._path):  # said in words; the system's own answer is for one that comes this moment
                raise UserError(f"{self._path} is a link, and what it leads to stays as it is: {_MOVE_AWAY}")
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                    raise UserError(f"{self._path} is no file, or one with other names too: {_MOVE_AWAY}")
                held, known = False, True
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held = True
                except OSError:  # a disk without such locks
                    known = False
                if held or is_in_place(descriptor, self._path):  # else its owner has just removed it
                    self._refuse_owner(os.pread(descriptor, _LONGEST, 0).decode(errors="replace"), held, known)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _refuse_owner(self, text: str, held: bool, known: bool) -> None:
        """`UserError` where the process that wrote this may still train here."""
        owner, folder = Owner.parse(text), self._path.parent
        if held or (owner is not None and owner.host == socket.gethostname() and owner.runs_here()):
            who = "another process" if owner is None else f"process {owner.pid} on {owner.host} since {owner.since}"
            raise UserError(
                f"the run in {folder} is being trained by {who}: wait for it, stop it, or choose another --model_dir"
            )
        if owner is not None and owner.host != socket.gethostname():
            raise UserError(
                f"the run in {folder} is locked by process {owner.pid} on {owner.host} since {owner.since}, and from "
                f"{socket.gethostname()} nothing tells whether that still runs: if it does not, remove {self._path}"
            )
        if owner is None and text and not known:
            raise UserError(f"{self._path} does not say who trains here: if nothing does, {_MOVE_AWAY}")

    def _remove_folders(self) -> None:
        with contextlib.suppress(OSError):  # what is in use stays
            for folder in self._made:
                folder.rmdir()
        self._made = []


def _process_start(pid: int) -> str | None:
    """When a process of this machine began, in a form that no later process has; "" where that is not said.

    None where there is no such process.
    """
    if pid <= 0:  # to the system these are groups of processes
        return None
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # of another user
    try:
        # Behind the name, which is in brackets and may hold any character: fields 3, 4, ...; the 22nd is the start.
        fields = (_PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else f"{_BOOT.read_text().strip()} {fields[19]}"
    except (OSError, IndexError):
        return ""
