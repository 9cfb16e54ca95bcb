"""Gives a command an /opt/ml of its own, as it has in a container: `python private_opt_ml.py BASE_DIR COMMAND …`

With `--hosts FILE` before it, FILE is its /etc/hosts too; with `--stay` it runs in the working directory, and else in
BASE_DIR.

Where the kernel lets it, BASE_DIR is mounted at /opt/ml in a mount namespace that only the command and what it starts
can see; nothing of the machine changes, and nothing has to be undone. Where not, one line on standard error says so,
and the command runs all the same, with BASE_DIR in its words where they begin with /opt/ml. In both cases this process
becomes the command, so that signals, the process group and the exit code are the command's own.

An ordinary user gets the namespace inside a user namespace in which he keeps his id; files of other users then seem to
be nobody's, and programs such as sudo do not work (user_namespaces(7)). This is run as a file and needs the standard
library alone.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

NOTE = "local cloud: /opt/ml is not the model's own here: "
_WAY_OUT = "name files by the model_dir that model_fn gets, or run containers (tidegate cloud up --container)"
_PLACE = Path("/opt/ml")

# Of <sched.h> and <sys/mount.h>.
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_SLAVE = 2, 4, 4096, 16384, 1 << 19


def main(arguments: list[str]) -> None:
    hosts = None
    if arguments[0] == "--hosts":
        _, hosts, *arguments = arguments
    stays = arguments[0] == "--stay"
    base, *command = arguments[1:] if stays else arguments
    directory = str(Path.cwd()) if stays else base
    why = _in_the_way(base, command[0], directory) or _rehearsed(base, hosts)
    if why is None:
        _enter(base, hosts)
        os.chdir(directory)  # it may lie where something is mounted now
    else:
        sys.stderr.write(f"{NOTE}{why}; {_WAY_OUT}\n")
        sys.stderr.flush()
        command = [_outside(word, base) for word in command]
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the command is the purpose
    except OSError as error:
        sys.exit(f"local cloud: {command[0]} cannot be run: {error.strerror}")


def _outside(word: str, base: str) -> str:
    """A word of the command that is a path below /opt/ml, as the path that it has without a namespace."""
    return f"{base}{word.removeprefix(str(_PLACE))}" if Path(word).is_relative_to(_PLACE) else word


def _in_the_way(*needed: str) -> str | None:
    if sys.platform != "linux":
        return "only Linux has mount namespaces"
    if not _PLACE.parent.is_dir():
        return f"this machine has no {_PLACE.parent}"
    for path in (*needed, sys.base_prefix):
        if Path(path).is_relative_to(_PLACE) or Path(path).resolve().is_relative_to(_PLACE):
            return f"{path} is below it"
    return None


def _rehearsed(base: str, hosts: str | None) -> str | None:
    """Why it would not work: tried in a child, because a process cannot leave a namespace that it entered half."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _enter(base, hosts)
            status = 0
        except OSError as error:
            os.write(writing, f"the kernel refuses a mount namespace ({error.strerror})".encode())
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as said:
        why = said.read()
    _, status = os.waitpid(child, 0)
    return None if status == 0 else why or f"the trial ended with status {status}"


def _enter(base: str, hosts: str | None) -> None:
    """Enters a namespace in which ``base`` is /opt/ml, and ``hosts`` is /etc/hosts. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"{what}: {os.strerror(error)}")

    def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
        words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
        check(libc.mount(*words, ctypes.c_ulong(flags), data and data.encode()), f"mount {target}")

    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWNS) != 0:
        check(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
        Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="utf-8")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="utf-8")
    # What is mounted here stays here; what the machine unmounts goes here too, and is not kept busy.
    mount("none", "/", None, _MS_REC | _MS_SLAVE)
    if hosts is not None:
        mount(hosts, "/etc/hosts", None, _MS_BIND)
    itself = os.open(base, os.O_PATH | os.O_DIRECTORY)  # /opt may be above it, and is covered now
    if not _PLACE.is_dir():
        above = str(_PLACE.parent)
        covered = os.open(above, os.O_PATH | os.O_DIRECTORY)
        entries = [(entry.name, entry.is_dir(), entry.is_symlink()) for entry in os.scandir(above)]
        mount("tmpfs", above, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
        for name, is_directory, is_link in entries:
            source, target = Path(f"/proc/self/fd/{covered}/{name}"), _PLACE.parent / name
            if is_link:
                target.symlink_to(source.readlink())
                continue
            target.mkdir() if is_directory else target.touch()
            mount(str(source), str(target), None, _MS_BIND | _MS_REC)
        _PLACE.mkdir()
        os.close(covered)
    mount(f"/proc/self/fd/{itself}", str(_PLACE), None, _MS_BIND | _MS_REC)
    os.close(itself)


if __name__ == "__main__":
    main(sys.argv[1:])
