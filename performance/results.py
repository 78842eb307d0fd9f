"""Run the measurements and write performance/RESULTS.md.

    python performance/results.py                   all, as `make performance` does
    python performance/results.py scoring loading   some
    python performance/results.py 'scoring --sizes 1000 10000'
    chrt -r 5 python performance/results.py finetune        where other programs run as well

Sections that are not measured stay as they are.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from measure import machine

FOLDER = Path(__file__).parent
FILE = FOLDER / "RESULTS.md"
HEAD = """# Measurements

Written by `make performance`; NOTES.md says what else was tried. Alternatives take turns in one
run of a script. Values are medians, with the least and the largest in brackets. Wall time includes
waiting for other programs on the machine, as its load average shows, and processor time does not:
ratios of processor time are the ones to compare between machines.
"""
SECTIONS = {
    "scoring": "Scoring",
    "pairs": "Paired tests of many methods",
    "finetune": "One run of fine-tuning",
    "batched_seeds": "Seeds of one cell as one batched model",
    "fixed_cost": "The fixed cost of a run",
    "loading": "Loading images of 256 pixels",
    "suite": "The whole suite icons",
    "growth": "Workspaces with many runs",
    "many_images": "As many files as DomainNet",
}
ALL = [f"{name} --all" if name == "suite" else name for name in SECTIONS]


def priority() -> list[str]:
    """The command that gave this process real-time priority, which scripts inherit; or empty."""
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_RR:
        return ["chrt", "-r", str(os.sched_getparam(0).sched_priority)]
    return []


def measure(name: str, options: list[str]) -> str:
    """Run a script and return its section."""
    about = machine()
    command = shlex.join([*priority(), "python", f"performance/{name}.py", *options])
    print(f"{command} ...", flush=True)
    script = [sys.executable, str(FOLDER / f"{name}.py"), *options]
    output = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True).stdout
    day = datetime.now(UTC).date()
    return f"## {SECTIONS[name]}\n\n`{command}`, {day}. {about}.\n\n{output.strip()}\n"


def sections(text: str) -> dict[str, str]:
    """The sections of the file by their titles."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].removeprefix("## "): part.rstrip() + "\n" for part in parts}


def main() -> None:
    """Measure, and write the file after each section."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(SECTIONS)
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=f"{names}, or with options")
    args = parser.parse_args()
    scripts = [shlex.split(script) for script in args.scripts or ALL]
    if unknown := {name for name, *_ in scripts} - set(SECTIONS):
        parser.error(f"unknown measurement {min(unknown)!r}; known: {names}")
    for name, *options in scripts:
        section = measure(name, options)
        text = sections(FILE.read_text()) if FILE.exists() else {}
        text[SECTIONS[name]] = section
        ordered = [text[title] for title in SECTIONS.values() if title in text]
        FILE.write_text("\n".join([HEAD, *ordered]))


if __name__ == "__main__":
    main()
