"""A program's supervisor: ``python -I -S supervisor.py PARENT GRACE MOUNT… -- PROGRAM ARGUMENT…``.

It runs a program, and ends all its descendants with it, whatever sessions they have made and
whichever of their parents has ended: the kernel gives orphans to the supervisor. Nix before 2.19,
killed, leaves its builders running, and a builder without a sandbox can start anything.

The program has its own folder for temporary files, ``nixery-0`` or the next free number, which is
removed with all that is in it. A lock on the folder goes with the supervisor; a folder without a
lock was left by a supervisor that was killed, and the next one removes it.

Mounts change the files that the program sees: ``-PATH`` hides a file or folder, ``+PATH`` shows
again what lies in a hidden folder. For these the program has its own mount namespace, within its
own user namespace unless this is root.

On TERM, which the kernel sends when the parent dies, the program's group gets a TERM, and after
the grace all descendants a KILL. The supervisor ends as its program did: with its exit code, or by
its signal.

It is a script that imports little and nothing of Nixery: it starts within 10 ms.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import signal
import stat
import sys
import time
import warnings  # noqa: F401 (os.execvpe imports it, when Python's library may be hidden)

_MOST_FOLDERS = 1000
_MODE = 0o711
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_NOT_FOUND = 127
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
_AWAITED = (signal.SIGTERM, signal.SIGCHLD)


def keep(parent: int, grace: float, mounts: list[str], argv: list[str]) -> int:
    """Run a program until it ends, and end all that it has started.

    :param parent: the process that this ends with.
    :param grace: seconds between TERM and KILL.
    :param mounts: changes to the files that the program sees.
    :return: how it ended, as ``os.waitpid`` has it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    os.setsid()
    if os.getppid() != parent:  # the parent died before prctl
        os._exit(1)
    environ = _given()
    folder = take_folder(environ.get(b"TMPDIR") or b"/tmp")
    if folder is not None:
        environ[b"TMPDIR"] = folder[0]
        if mounts:  # it may lie in what is hidden
            mounts = [*mounts, "+" + os.fsdecode(folder[0])]
    program = os.fork()
    if program == 0:
        _become(argv, environ, mounts)
    status = _wait(program, grace)
    _end_all()
    if folder is not None:
        leave_folder(*folder)
    return status


def _become(argv: list[str], environ: dict[bytes, bytes], mounts: list[str]) -> None:
    """Become the program, which ends when the supervisor is killed."""
    try:
        if mounts:
            # First: new credentials reset the signal for a parent's death.
            _change_view(mounts)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        os.execvpe(argv[0], argv, environ)
    except OSError as error:
        what = f" {error.filename}:" if error.filename not in (None, argv[0]) else ""
        os.write(2, f"{argv[0]}:{what} {error.strerror}\n".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(_NOT_FOUND)


def _change_view(mounts: list[str]) -> None:
    """Hide files and folders from this process, and show some again, in the given order.

    :raises OSError: if the machine does not allow that.
    """
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWNS if user == 0 else _CLONE_NEWNS | _CLONE_NEWUSER)
    if user != 0:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _mount("none", "/", _MS_REC | _MS_PRIVATE)
    shown = [mount[1:] for mount in mounts if mount[0] == "+"]
    held = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in shown if os.path.exists(path)}
    for mount in mounts:
        path = mount[1:]
        if mount[0] == "-":
            _hide(path)
        elif path in held:
            _show(path, held[path])


def _hide(path: str) -> None:
    if os.path.isdir(path):
        _mount("none", path, _MS_NOSUID | _MS_NODEV, "tmpfs", "mode=755")
    elif os.path.exists(path):
        _mount("/dev/null", path, _MS_BIND)


def _show(path: str, held: int) -> None:
    """Mount what a descriptor refers to where it was, in a folder that is hidden by now."""
    place = f"/proc/self/fd/{held}"
    if os.path.isdir(place):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "a"):
            pass
    _mount(place, path, _MS_BIND | _MS_REC)


def _mount(source: str, target: str, flags: int, kind: str = "", data: str = "") -> None:
    texts = [os.fsencode(text) or None for text in (source, target, kind, data)]
    _call("mount", *texts[:3], ctypes.c_ulong(flags), texts[3], path=target)


def _call(function: str, *arguments: object, path: str | None = None) -> None:
    """Call a function of the C library.

    :raises OSError: if it fails.
    """
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}", path)


def _given() -> dict[bytes, bytes]:
    """The environment that was given: Python adds a locale to its own."""
    with open("/proc/self/environ", "rb") as file:
        entries = (entry.partition(b"=") for entry in file.read().split(b"\0") if entry)
        return {name: value for name, _, value in entries}


def take_folder(parent: bytes) -> tuple[bytes, int] | None:
    """Make a folder for temporary files, and lock it.

    :param parent: where; folders there whose supervisors were killed are removed.
    :return: its path, and the descriptor that holds the lock; nothing if none can be made.
    """
    try:
        for name in os.listdir(parent):
            if re.fullmatch(rb"nixery-[0-9]+", name):
                _remove_if_left(os.path.join(parent, name))
        for number in range(_MOST_FOLDERS):
            path = os.path.join(parent, b"nixery-%d" % number)
            with contextlib.suppress(FileExistsError):
                os.mkdir(path)
                # Builders of other users pass through it.
                os.chmod(path, _MODE)
                if (held := _lock(path)) is not None:
                    return path, held
    except OSError:
        pass  # no room, or no permission: the program will say so if it needs a folder
    return None


def leave_folder(path: bytes, held: int) -> None:
    """Remove such a folder with all that is in it."""
    remove(path)
    os.close(held)


def remove(path: bytes) -> None:
    """Remove a folder with all that is in it, though it may be thousands of levels deep, or
    unreadable. What can't be removed is left."""
    with contextlib.suppress(OSError):
        os.rmdir(path)
        return
    # Unlike shutil, these two can cope with such folders.
    name = os.fsdecode(path)
    _run("chmod", "-R", "u+rwx", "--", name)
    _run("rm", "-rf", "--", name)


def _lock(path: bytes) -> int | None:
    """Lock a folder of this user.

    :return: the descriptor that holds the lock; none if another process has it.
    """
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # it was removed just now, or is another user's
        return None
    found = os.fstat(held)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if found.st_uid == os.geteuid() and os.path.samestat(found, os.lstat(path)):
            return held
    except OSError:
        pass
    os.close(held)
    return None


def _remove_if_left(path: bytes) -> None:
    held = _lock(path)
    if held is None:
        return
    if stat.S_IMODE(os.fstat(held).st_mode) == _MODE:  # else it has that name by chance
        leave_folder(path, held)
    else:
        os.close(held)


def _run(*argv: str) -> None:
    quiet = [(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
    with contextlib.suppress(OSError):
        os.waitpid(os.posix_spawnp(argv[0], argv, os.environ, file_actions=quiet), 0)


def _wait(program: int, grace: float) -> int:
    """Wait until a program ends; on TERM, end it."""
    deadline: float | None = None
    while True:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == program:
                return ended[1]
        if deadline is None:
            number = signal.sigwait(_AWAITED)
        else:
            found = signal.sigtimedwait(_AWAITED, max(0.0, deadline - time.monotonic()))
            number = found.si_signo if found is not None else signal.SIGKILL
        if number == signal.SIGTERM and deadline is None:
            deadline = time.monotonic() + grace
            # This process gets it too; now that there is a deadline, that changes nothing.
            os.killpg(0, signal.SIGTERM)
        if deadline is not None and time.monotonic() >= deadline:
            for pid in _descendants():
                _kill(pid)


def _end_all() -> None:
    """Kill all descendants: the children of each that ends become the supervisor's."""
    while True:
        for pid in _descendants():
            _kill(pid)
        try:
            os.waitpid(-1, 0)
            # Collect all that have ended, which may be thousands, before the next look.
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return


def _descendants() -> list[int]:
    """All descendants of this process, parents before their children."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                # The name of a program may hold anything, parentheses too.
                state, ppid = stat.read().rpartition(b")")[2].split()[:2]
                if state != b"Z":
                    children.setdefault(int(ppid), []).append(int(name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _end_as(status: int) -> None:
    """End in the same way as another process."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    end = sys.argv.index("--")
    _end_as(keep(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:end], sys.argv[end + 1 :]))
