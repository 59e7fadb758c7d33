"""Where errors become what the user reads: a sentence and an exit status, or a traceback that asks for a report.

0   success
1   a defect of this project: a traceback, and a request to report it
2   a mistake that the user can mend
74  the machine failed: a full disk, missing permissions, no memory (EX_IOERR)
75  interrupted: the same command resumes (EX_TEMPFAIL)
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.credentials import redacted
from pipeline.errors import PipelineError, folders, printable

DEFECT, USER_ERROR, MACHINE, INTERRUPTED = 1, 2, 74, 75
FULL_BYTES = 16 << 20  # a file system with less room counts as full

# {file} is what the system named, or a guess. Each ends in what to do.
NETWORK = "the network file system of {file} does not answer; mount it again, then run the same command again"
MACHINE_SENTENCES = {
    errno.ENOSPC: "the disk is full, so {file} could not be written; free some space and run the same command again",
    errno.EDQUOT: "your disk quota is used up, so {file} could not be written; free some space and run the same command again",
    errno.EROFS: "{file} is on a read-only file system; mount it for writing{elsewhere}",
    errno.ENOLCK: "the file system of {file} takes no locks; mount it with locks{elsewhere}",
    errno.ESTALE: NETWORK,
    errno.EACCES: "{file} may not be opened by this user; change its permissions or its owner (chmod, chown)",
    errno.EPERM: "{file} may not be changed by this user; change its permissions or its owner (chmod, chown)",
    errno.EFBIG: "{file} became larger than this user's limit; raise it (ulimit -f unlimited) and run the same command again",
    errno.EIO: "the disk failed while {file} was read or written; check the disk, then restore the file or make it again",
    errno.EMFILE: "this process may open no more files, {file} among them; raise the limit (ulimit -n 65536)",
    errno.ENFILE: "the system may open no more files, {file} among them; end other programs, or raise fs.file-max",
    errno.EAGAIN: "the system starts no more threads or processes; end other programs, or raise the limit (ulimit -u)",
    errno.ENOMEM: "there is not enough memory; end other programs, or lower data.workers, cluster.max_concurrent or recipe.batch_size",
    errno.EPIPE: "whatever read the output has ended; run the same command again without it",
}
USER_SENTENCES = {
    errno.ENOTDIR: "{file} needs a folder where a file is; move the file away, or name another folder",
    errno.EISDIR: "{file} is a folder where a file is needed; move it away, or name another file",
    errno.EEXIST: "{file} is in the way; move it away, or name another folder",
    errno.ENAMETOOLONG: "{file} is too long a name for this file system; choose a shorter one",
    errno.ELOOP: "{file} is a link that leads back to itself; remove it, or name the file itself",
}
# What network file systems say of a file. Sockets say it, too, and name none.
UNANSWERED = (errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH)
SOCKET = "AF_UNIX path"  # is too long, which comes without an errno and without the path
SOCKET_SENTENCE = (
    "the folder for temporary files, {file}, has too long a name for sockets; name a shorter one (TMPDIR=/tmp)"
)
# What libraries raise instead of an OSError, by their words.
WORDS = {
    errno.ENOSPC: r"No space left on device|database or disk is full|file write failed|unexpected pos \d+ vs|\d+ requested and \d+ written",
    errno.EDQUOT: r"Disk quota exceeded",
    errno.EROFS: r"Read-only file system|attempt to write a readonly database",
    errno.ESTALE: r"Stale file handle",
    errno.EACCES: r"Permission denied|unable to open database file",
    errno.EFBIG: r"File too large",
    errno.EIO: r"Input/output error|disk I/O error",
    errno.EMFILE: r"Too many open files",
    errno.EAGAIN: r"can't start new thread|Resource temporarily unavailable",
    errno.ENOMEM: r"[Cc]an(?:no|')t allocate memory|out of memory|bad_alloc|Unable to allocate|failed to map segment|could not create a primitive",
}
NO_EXCEPTION = "error return without exception set"
NO_MEMORY = b"pipeline: there is not enough memory; end other programs and run the same command again\n"


def report(error: BaseException, verb: str) -> int:
    """Prints an error to stderr as the user should read it, below all earlier output. Returns the exit status."""
    with suppress(OSError):
        sys.stdout.flush()
    try:
        return _report(error, verb)
    except MemoryError:  # not even enough for the sentence
        os.write(2, NO_MEMORY)
        return MACHINE


def _report(error: BaseException, verb: str) -> int:
    if isinstance(error, PipelineError):
        _print(verb, str(error))
        return USER_ERROR
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("pipeline"):
        _print(
            verb,
            f"the package {error.name} is not installed here; `make .venv/.installed` installs all that are needed",
        )
        return USER_ERROR
    if (refusal := system_error(error)) is not None:
        sentence, status = refusal
        _print(verb, sentence)
        return status
    print(redacted("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    _print(verb, f"this is a defect of the project; please report it with all lines above ({_place(error)})")
    return DEFECT


def system_error(error: BaseException) -> tuple[str, int] | None:
    """Sentence and exit status for an error of the system, or for one that it caused; None for any other error."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and SOCKET in str(cause):
            return SOCKET_SENTENCE.format(file=printable(tempfile.gettempdir())), USER_ERROR
        code, file = _system_code(cause)
        if code in USER_SENTENCES and file:
            return USER_SENTENCES[code].format(file=file), USER_ERROR
        if code in UNANSWERED and file:
            return NETWORK.format(file=file), MACHINE
        if code in MACHINE_SENTENCES:
            return MACHINE_SENTENCES[code].format(file=file or _guess(code), elsewhere=_elsewhere(file)), MACHINE
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _system_code(error: BaseException) -> tuple[int, str]:
    """errno and file of one exception; 0 where the system did not cause it."""
    # The interpreter raises the second where an import finds no memory even for its MemoryError.
    if isinstance(error, MemoryError) or (isinstance(error, SystemError) and str(error) == NO_EXCEPTION):
        return errno.ENOMEM, ""
    file = getattr(error, "filename", None)
    name = printable(os.fsdecode(file)) if isinstance(file, str | bytes | os.PathLike) else ""
    if isinstance(error, OSError) and error.errno:
        return error.errno, name
    if isinstance(error, (KeyError, TypeError, AttributeError, NameError, AssertionError)):
        return 0, ""
    text = str(error)
    return next((code for code, words in WORDS.items() if re.search(words, text)), 0), name


def _guess(code: int) -> str:
    """What to call the file that the system did not name: for a full disk, the folders whose disks are full."""
    if code not in (errno.ENOSPC, errno.EDQUOT):
        return "a file"
    places = {str(Path.cwd()), tempfile.gettempdir(), *filter(None, map(os.environ.get, ("PIPELINE_RUNS", "TMPDIR")))}
    full = sorted(place for place in places if _room(place) < FULL_BYTES)
    return f"a file below {' or '.join(full)}" if full else "a file"


def _elsewhere(file: str) -> str:
    """What names another folder for the file, where the configuration can; all that can for a file without a name."""
    names = [name for name, folder in folders.items() if not file or Path(file).absolute().is_relative_to(folder)]
    return f", or name another folder ({', '.join(names)})" if names else ""


def _room(place: str) -> int:
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return FULL_BYTES


def package() -> str:
    """This project's name and version."""
    try:
        return f"resnet-pipeline {version('resnet-pipeline')}"
    except PackageNotFoundError:  # a folder of code that nobody installed
        return "resnet-pipeline"


def _place(error: BaseException) -> str:
    """Version, kind of error, and the line of this project where it arose."""
    home = Path(__file__).resolve().parent
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if home in Path(frame.filename).parents]
    line = f" in {Path(own[-1].filename).relative_to(home.parent)}, line {own[-1].lineno}" if own else ""
    return f"{package()}, {type(error).__name__}{line}"


def _print(verb: str, text: str) -> None:
    """A line for each problem, each with the command's name."""
    for line in redacted(text).splitlines() or [""]:
        print(f"pipeline {verb}: {line}", file=sys.stderr)
