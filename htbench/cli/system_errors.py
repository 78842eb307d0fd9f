"""What to say about an error of the system, such as no space or no permission."""

from __future__ import annotations

import errno

from benchmark.text import one_line

MAX_PATH = 300  # bytes of a path in a message

ELSEWHERE = (
    "choose another folder with --workspace or --out, or set HTBENCH_DATA for images and source "
    "models"
)

# What failed, and what to do.
_BY_NUMBER: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk has no space or no inodes left", f"free some, or {ELSEWHERE}"),
    errno.EDQUOT: ("the quota of the disk is used up", f"free some space, or {ELSEWHERE}"),
    errno.EROFS: ("its file system is read-only", ELSEWHERE),
    errno.EACCES: ("permission denied", f"change its permissions, or {ELSEWHERE}"),
    errno.EPERM: (
        "the operation is not permitted",
        f"change its owner, or {ELSEWHERE}",
    ),
    errno.ENOENT: ("it does not exist", "check the path; if it was removed meanwhile, run again"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", ELSEWHERE),
    errno.EEXIST: ("something else has that name", f"move it elsewhere, or {ELSEWHERE}"),
    errno.ENOTEMPTY: ("the folder is not empty", "move its files elsewhere, then run again"),
    errno.EISDIR: ("it is a folder, not a file", "give the path of a file"),
    errno.ENAMETOOLONG: ("the path is too long for this file system", "give a shorter one"),
    errno.ELOOP: ("its links form a loop", "remove one of the links"),
    errno.EIO: ("the disk or network reports an error", "check the disk, then run again"),
    errno.ESTALE: ("the network file system no longer has it", "mount it again, then run again"),
    errno.EFBIG: ("the file is too large for this file system or a limit", "see `ulimit -f`"),
    errno.ETXTBSY: ("a program uses the file", "end that program, then run again"),
    errno.EXDEV: ("the paths lie on two file systems", "choose folders on one file system"),
    errno.EMFILE: ("too many files are open", "raise the limit with `ulimit -n`, or use --jobs 1"),
    errno.ENFILE: ("the system has too many open files", "close some programs, then run again"),
    errno.ENOMEM: ("there is not enough memory", "use fewer --jobs, or close some programs"),
    errno.EAGAIN: ("the system has too few resources", "use fewer --jobs, then run again"),
    errno.ENOLCK: ("the file system offers no locks", ELSEWHERE),
}
_OTHER = "run `htbench doctor` to see the folders in use"


def sentence(error: OSError | NotImplementedError) -> str:
    """One sentence: what failed, the path, and what to do.

    Args:
        error: an ``OSError``, or what the lock of a file raises where locks do not exist.

    Example:
        >>> import errno
        >>> sentence(OSError(errno.EISDIR, "Is a directory", "/tmp"))
        '/tmp: it is a folder, not a file; give the path of a file'
    """
    number = error.errno if isinstance(error, OSError) else errno.ENOLCK
    what = (error.strerror if isinstance(error, OSError) else None) or str(error)
    what, remedy = _BY_NUMBER.get(number or 0, (what or type(error).__name__, _OTHER))
    paths = [p for p in (getattr(error, "filename", None), getattr(error, "filename2", None)) if p]
    place = " -> ".join(dict.fromkeys(_text(path) for path in paths))
    return f"{place or 'a file or the output'}: {what}; {remedy}"


def _text(path: object) -> str:
    text = path.decode(errors="replace") if isinstance(path, bytes) else str(path)
    return one_line(text, MAX_PATH)
