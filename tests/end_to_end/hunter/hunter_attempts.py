"""What the hunter knows, and how it carries out and reports an attempt."""

import contextlib
import errno
import hashlib
import json

KNOWN = json.loads("{}")
SECONDS = 2

REPORT = []


def report(stage, kind, lines):
    """Record the outcome of attempts; ``FOUND`` must not occur in a locked run."""
    REPORT.extend(f"{stage}|{kind} {line}" for line in lines)
    with contextlib.suppress(OSError):
        print(f"{stage}|{kind}|{'; '.join(lines)}", flush=True)


def attempts(stage, kind, *tries):
    """Carry out attempts, each a name and an action that returns what it found, or nothing."""
    report(stage, kind, [f"{name}: {outcome(action)}" for name, action in tries])


def outcome(action):
    try:
        finding = action()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except Exception as error:
        return type(error).__name__
    return f"FOUND {str(finding)[:100]}" if finding else "nothing"


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]
