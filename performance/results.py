"""Run the measurements and write performance/RESULTS.md.

python performance/results.py                   all, as `make performance` does
python performance/results.py scoring loading   some; the other sections stay as they are
"""

from __future__ import annotations

import argparse
import re
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
    "finetune": "One run of fine-tuning",
    "fixed_cost": "The fixed cost of a run",
    "loading": "Loading images of 256 pixels",
    "suite": "The whole suite icons",
}


def measure(name: str) -> str:
    """Run a script and return its section."""
    about, command = machine(), ["python", f"performance/{name}.py"]
    print(f"{' '.join(command)} ...", flush=True)
    script = [sys.executable, str(FOLDER / f"{name}.py")]
    output = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True).stdout
    day = datetime.now(UTC).date()
    return f"## {SECTIONS[name]}\n\n`{' '.join(command)}`, {day}. {about}.\n\n{output.strip()}\n"


def sections(text: str) -> dict[str, str]:
    """The sections of the file by their titles."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].removeprefix("## "): part.rstrip() + "\n" for part in parts}


def main() -> None:
    """Measure, and write the file after each section."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SECTIONS))
    args = parser.parse_args()
    if unknown := set(args.names) - set(SECTIONS):
        parser.error(f"unknown measurement {min(unknown)!r}; known: {', '.join(SECTIONS)}")
    for name in args.names or SECTIONS:
        text = sections(FILE.read_text()) if FILE.exists() else {}
        text[SECTIONS[name]] = measure(name)
        ordered = [text[title] for title in SECTIONS.values() if title in text]
        FILE.write_text("\n".join([HEAD, *ordered]))


if __name__ == "__main__":
    main()
