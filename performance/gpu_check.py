"""Check the suite on a GPU in a few minutes, and write performance/GPU.md.

    python performance/gpu_check.py                        one GPU, about seven minutes
    python performance/gpu_check.py --device cpu --quick   the same path with CPU tensors

It needs the project installed (a wheel is enough) and no network: icons' images are in the package,
those of Office-Home are generated. A check that fails does not end the others; the exit status is
1 if one failed. Data and workspaces are in a temporary folder, or in --folder, which is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Any

from gpu_bench import COMMAND_LIMIT, FULL, QUICK, Bench, Failure, machine, report, want
from tabulate import tabulate

from benchmark.errors import UsageError
from benchmark.runs.plan import resolve_device

FOLDER = Path(__file__).resolve().parent
REPORT = FOLDER / "GPU.md"
LIMIT = 360  # seconds, of everything
LOCK_LIMIT = 120  # seconds, to find what the sandbox refuses the driver
ISOLATION = ("no-filesystem", "no-network", "no-processes", "no-inspection")
SCORES = ("overall", "seen", "missing")


def doctor(bench: Bench) -> str:
    """`htbench doctor` finds the device."""
    report = json.loads(bench.htbench("doctor", "--json"))
    device = report["device"]["--device auto"]
    bench.tables["doctor"] = tabulate(
        [(name, value) for part in ("device", "isolation") for name, value in report[part].items()],
        ["fact", "value"],
        tablefmt="github",
        disable_numparse=True,
    )
    want(device == bench.device or bench.device == "cpu", f"--device auto is {device}")
    return f"--device auto is {device}"


def lock(bench: Bench) -> str:
    """The device can be used inside a run's sandbox; if not, the report says what is missing."""
    words = [sys.executable, "-P", str(FOLDER / "gpu_lock.py"), "--device", bench.device]
    try:
        result = subprocess.run(
            words, capture_output=True, text=True, timeout=LOCK_LIMIT, check=False
        )
    except subprocess.TimeoutExpired as late:  # what it printed so far says most
        raise Failure(f"{late.stdout!r}, then nothing within {LOCK_LIMIT} s") from None
    want(result.returncode == 0, result.stdout + result.stderr[-1000:])
    return result.stdout.strip()


def icons_runs(bench: Bench) -> str:
    """Icons run on the device."""
    seconds = bench.icons("one", "--jobs", 1)
    records = bench.records("one")
    bench.figures["icons, one run at a time"] = f"{len(records)} runs in {seconds:.1f} s"
    for label in bench.size.methods:
        cost = records[label, 0].cost
        bench.figures[f"one run of {label}"] = (
            f"{cost['wall_seconds']:.1f} s from fork to result, "
            f"{cost['adapt_seconds']:.1f} s of it from the lock to the adapted model"
        )
    failed = [label for (label, _), record in records.items() if record.status != "ok"]
    want(not failed, f"failed: {failed}")
    return f"{len(records)} runs ok"


def side_by_side(bench: Bench) -> str:
    """The same runs a second time, four side by side, give the same bytes as one at a time."""
    seconds = bench.icons("four", "--jobs", 4)
    bench.figures["icons, four runs at a time"] = f"{seconds:.1f} s"
    return bench.want_same_bytes("four", least=len(bench.size.methods))


def agrees_with_cpu(bench: Bench) -> str:
    """Accuracies on the device are within the intervals of those on the CPU."""
    bench.icons("cpu", device="cpu")
    cells = [_cells(bench, workspace) for workspace in ("one", "cpu")]
    rows, outside = [], []
    for label in sorted(cells[0].keys() & cells[1].keys()):
        ours, cpu = cells[0][label], cells[1][label]
        row = [label]
        for score in SCORES:
            half = cpu.get(f"{score}_half")
            want(half is not None, f"{label} has no interval of {score}")
            row.append(f"{ours[score]:.1f} / {cpu[score]:.1f} ± {half:.1f}")
            if abs(ours[score] - cpu[score]) > half:
                outside.append(f"{label} {score}: {row[-1]}")
        rows.append(row)
    bench.tables[f"accuracy: {bench.device} / CPU ± half an interval"] = tabulate(
        rows, ["method", *SCORES], tablefmt="github", disable_numparse=True
    )
    absent = set(bench.size.methods) - (cells[0].keys() & cells[1].keys())
    want(not absent, f"no accuracies of {', '.join(absent)}")
    want(not outside, "; ".join(outside))
    return f"{len(rows)} methods"


def _cells(bench: Bench, workspace: str) -> dict[str, Any]:
    options = ("--suite", "icons", "--allow-partial", "--format", "json")
    tables = json.loads(bench.htbench("leaderboard", *options, "--workspace", workspace))
    return {c["label"]: c for t in tables for c in t["cells"] if c["task"] == "outline-solid"}


def kill_and_resume(bench: Bench) -> str:
    """A command that is killed leaves no process, and the same command then finishes its runs."""
    words = ["run", "--suite", "icons", "--task", "outline-solid"]
    words += ["--method", bench.size.methods[1]]
    words += [word for s in bench.size.seeds for word in ("--seed", str(s))]
    words += ["--jobs", "1", "--workspace", "killed", "--device", bench.device]
    workspace = bench.folder / "killed"
    process = subprocess.Popen(
        bench.command(*words),
        env=bench.environment,
        cwd=bench.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + COMMAND_LIMIT
    while not list(workspace.glob("runs/*/run.json")):
        want(process.poll() is None, "the command ended before it was killed")
        want(time.monotonic() < deadline, "no run finished in time")
        time.sleep(0.05)
    time.sleep(0.2)  # the next run has begun
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list(workspace.glob("runs/*/run.json")))
    time.sleep(5)
    leftover = list(_processes_in(workspace))
    bench.htbench(*words[:-2])
    same = bench.want_same_bytes("killed", least=len(bench.size.seeds))
    want(not leftover, f"processes {leftover} still run 5 s after the command was killed")
    return f"killed with {finished} of {len(bench.size.seeds)} runs finished; {same}"


def _processes_in(folder: Path) -> Iterator[int]:
    """Processes whose working folder is in a folder: those of runs."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            inside = (entry / "cwd").readlink().is_relative_to(folder)
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if inside and state != "Z":
            yield int(entry.name)


def isolation(bench: Bench) -> str:
    """Runs on the device are isolated as runs on a CPU are, and say so."""
    facts = {tuple(record.isolation) for record in bench.records("one").values()}
    cpu = {tuple(record.isolation) for record in bench.records("cpu").values()}
    bench.figures["isolation on the device"] = "; ".join(", ".join(each) for each in facts)
    want(facts == cpu, f"on the CPU: {cpu}")
    absent = [fact for fact in ISOLATION if any(fact not in each for each in facts)]
    want(not absent, f"not in force: {', '.join(absent)}")
    return "the same facts, all in force"


def office_home(bench: Bench) -> str:
    """A ResNet at 224 pixels runs with Office-Home's recipe, names and counts."""
    suite = _generated(bench)
    start = time.perf_counter()
    cells = ("--suite", suite, "--workspace", "office")
    bench.htbench("run", *cells, "--seed", 0, "--jobs", 1)
    seconds = time.perf_counter() - start
    records = bench.records("office")
    run = records["finetune", 0]
    bench.figures[f"{bench.size.network}, source and finetune"] = (
        f"{seconds:.1f} s with the image store, of which finetune {run.cost['wall_seconds']:.1f} s "
        f"({run.cost['total_steps']:.0f} steps, {run.cost['adapt_seconds']:.1f} s to adapt, "
        f"{run.cost['predict_seconds']:.1f} s to predict)"
    )
    if memory := run.cost.get("device_peak_memory"):
        bench.figures[f"{bench.size.network}, memory of tensors"] = f"{memory / 2**30:.1f} GiB"
    want(all(r.status == "ok" for r in records.values()), f"failed: {run.error}")
    return f"{len(records)} runs ok"


def _generated(bench: Bench) -> Path:
    """The suite of Office-Home with generated images, with its source model."""
    folder = bench.folder / "office-home"
    suite = folder / "generated-office-home.toml"
    if suite.exists():
        return suite
    os.environ["HTBENCH_DATA"] = bench.environment["HTBENCH_DATA"]
    from generated_images import write_office_home, write_source

    from benchmark.manifest.read import read_manifest

    size, start = bench.size, time.perf_counter()
    suite = write_office_home(
        folder, size.network, steps=size.steps, batch=size.batch, most=size.images
    )
    manifest = read_manifest(folder)
    count = manifest.table.num_rows
    bench.figures["generated images"] = f"{count} files in {time.perf_counter() - start:.1f} s"
    weights = bench.folder / "source.safetensors"
    write_source(manifest, weights)
    bench.htbench("source", "import", weights, "--manifest", folder)
    return suite


def four_resnets(bench: Bench) -> str:
    """Four runs of a ResNet fit on the device side by side."""
    suite = _generated(bench)
    cells = ("--suite", suite, "--workspace", "office", "--method", "finetune")
    start = time.perf_counter()
    bench.htbench("run", *cells, "--jobs", 4)
    seconds = time.perf_counter() - start
    records = bench.records("office")
    runs = [record for (label, _), record in records.items() if label == "finetune"]
    want(all(run.status == "ok" for run in runs), f"failed: {[run.error for run in runs]}")
    bench.figures[f"{bench.size.network}, three more runs side by side"] = f"{seconds:.1f} s"
    return f"{len(runs)} runs ok"


def speed(bench: Bench) -> str:
    """Training is as fast as a bare loop, with the same weights, and faster than a DataLoader."""
    _generated(bench)
    words = [str(bench.folder / "office-home"), "--steps", str(bench.size.steps)]
    words += ["--turns", str(bench.size.turns)]
    result = json.loads(_printed(bench, "gpu_speed.py", *words).splitlines()[-1])
    bench.tables[f"training {bench.size.network} at 224 pixels"] = tabulate(
        [
            (way, f"{rate:.0f}", f"{result['steps_per_second'][way]:.2f}")
            for way, rate in result["images_per_second"].items()
        ],
        ["way", "images/s", "steps/s"],
        tablefmt="github",
        disable_numparse=True,
        colalign=("left", "right", "right"),
    )
    bench.figures["first use of the device in a process"] = f"{result['context_seconds']:.2f} s"
    bench.figures["training images"] = (
        f"{result['training_images']}, on {result['images_on_device']}; batches of "
        f"{result['batch']}, {result['steps']} steps a turn"
    )
    if result["peak_memory"]:
        bench.figures["memory of tensors in training"] = f"{result['peak_memory'] / 2**30:.1f} GiB"
    want(result["same_weights_as_bare_loop"], "other final weights than the bare loop")
    rates = list(result["images_per_second"].values())
    if bench.device == "cuda":
        want(rates[0] >= rates[1] / 1.05, "more than 5 % slower than the bare loop")
        want(rates[0] > rates[2], "slower than ImageFolder + DataLoader")
        want(rates[3] >= 5000, f"the augmentation makes {rates[3]:.0f} images/s; wanted 5000")
    return f"{rates[0]:.0f} images/s; the bare loop {rates[1]:.0f}, ImageFolder {rates[2]:.0f}"


def steps(bench: Bench) -> str:
    """The time of a step by the switches of torch and by the layout of images."""
    quick = ("--networks", "resnet18", "--batch", "2", "--steps", "1")
    bench.tables["a step of training"] = _printed(
        bench, "gpu_steps.py", *(quick if bench.size.steps == 1 else ())
    )
    return "measured"


def batched_seeds(bench: Bench) -> str:
    """Seeds of a cell that train as one batched model, beside one after another."""
    words = ("--seeds", "3", "10", "--turns", str(bench.size.turns))
    bench.tables["seeds of icons trained together"] = _printed(bench, "batched_seeds.py", *words)
    return "measured"


def _printed(bench: Bench, script: str, *words: str) -> str:
    """What a script of this folder prints."""
    output = subprocess.run(
        [sys.executable, "-P", str(FOLDER / script), *words, "--device", bench.device],
        env={**bench.environment, "PYTHONPATH": _python_path()},
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT,
        check=False,
    )
    want(output.returncode == 0, output.stderr[-2000:])
    return output.stdout.strip()


def _python_path() -> str:
    """The path with this folder, whose modules the scripts import."""
    return os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH"))))


def tests(bench: Bench) -> str:
    """The tests in tests/gpu pass."""
    want(util.find_spec("pytest") is not None, "pytest is not installed")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu"]
    result = subprocess.run(
        [*words, "tests/gpu"],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT,
        check=False,
    )
    last = result.stdout.strip().splitlines()[-1:] or [""]
    want(result.returncode == 0, (result.stdout + result.stderr)[-2000:])
    want("skipped" not in last[0] or bench.device == "cpu", last[0])
    return last[0]


CHECKS: dict[str, Callable[[Bench], str]] = {
    check.__name__.replace("_", "-"): check
    for check in (
        doctor,
        lock,
        icons_runs,
        side_by_side,
        agrees_with_cpu,
        isolation,
        kill_and_resume,
        office_home,
        four_resnets,
        speed,
        steps,
        batched_seeds,
        tests,
    )
}
# Checks that compare with the runs of others.
NEEDS = {
    "side-by-side": ("icons-runs",),
    "agrees-with-cpu": ("icons-runs",),
    "isolation": ("icons-runs", "agrees-with-cpu"),
    "kill-and-resume": ("icons-runs",),
}


def with_needs(names: Collection[str]) -> list[str]:
    """Checks and those that they need, in the order of ``CHECKS``."""
    wanted = {*names, *(need for name in names for need in NEEDS.get(name, ()))}
    return [name for name in CHECKS if name in wanted]


def main() -> None:
    """Run the checks, write the report, exit with status 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="two seeds, one step, few images")
    parser.add_argument("--images", type=int, help="of each class, domain and split  [all]")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(CHECKS),
        default=list(CHECKS),
        help="these, after the checks whose runs they need  [all]",
    )
    parser.add_argument("--folder", type=Path, help="for data and workspaces; it is kept")
    parser.add_argument("--out", type=Path, default=REPORT)
    args = parser.parse_args()
    try:
        resolve_device(args.device)
    except UsageError as error:  # nothing is written: a report from a GPU may be there
        parser.error(f"{error}; --device cpu --quick runs the same path here")
    size = QUICK if args.quick else FULL
    if args.images is not None:
        size = replace(size, images=args.images)
    folder = (args.folder or Path(tempfile.mkdtemp(prefix="gpu-check-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bench, about = Bench(args.device, size, folder), machine(args.device)
    results: dict[str, tuple[bool, float, str]] = {}
    try:
        for name in with_needs(args.only):
            start = time.perf_counter()
            try:
                passed, text = True, CHECKS[name](bench)
            except Failure as failure:
                passed, text = False, str(failure)
            except Exception:
                passed, text = False, traceback.format_exc()
            results[name] = passed, time.perf_counter() - start, text
            word = "pass" if passed else "FAIL"
            print(f"{word} {name} ({results[name][1]:.1f} s): {text}", flush=True)
            # After each check: a machine that is taken away leaves what was measured.
            args.out.write_text(report(bench, results, about, sys.argv[1:]), "utf-8")
    finally:
        if args.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    total = sum(seconds for _, seconds, _ in results.values())
    in_time = args.device != "cuda" or total <= LIMIT
    results["time"] = in_time, 0.0, f"{total:.0f} s; wanted at most {LIMIT} s on one GPU"
    args.out.write_text(report(bench, results, about, sys.argv[1:]), "utf-8")
    print(f"{results['time'][2]}; {args.out}")
    sys.exit(any(not passed for passed, _, _ in results.values()))


if __name__ == "__main__":
    main()
