"""What was found: as a TOML file, as a table, and as JSON."""

from __future__ import annotations

import dataclasses
import json
import shlex
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from multiverse.bench.stats import Summary, median_limit, summarize
from multiverse.tune.search import Result, Step, Trial

FORMAT = "multiverse-tune-1"


@dataclass
class Report:
    """A search and what it was about.

    Attributes:
        program: argv.
        stdin: the file that each run read.
        runs: rounds of each step.
        machine: see bench.machine.facts.
        unsteady: outputs that were not compared.
        result: what was found.
    """

    program: list[str]
    stdin: str
    runs: int
    machine: dict[str, Any]
    unsteady: tuple[str, ...]
    result: Result

    def verdict(self) -> str:
        """A line."""
        result = self.result
        if not result.kept or not result.confirmation:
            return "no set makes it faster by more than the noise of these runs"
        none, chosen = result.confirmation.trials
        to_native = result.confirmation.to_native(chosen)
        text = (
            f"with {', '.join(result.kept)}: {_range(to_native)} times the native time;"
            f" {_range(result.confirmation.to_native(none))} without"
        )
        if to_native.median >= 1:
            text += "; the sets help, but the program is no faster than natively"
        return text

    def to_json(self) -> dict[str, Any]:
        """All samples in seconds; ``docs/tune.md`` describes it."""
        result = self.result
        steps = [*result.steps, *([result.confirmation] if result.confirmation else [])]
        return {
            "format": FORMAT,
            "program": self.program,
            "stdin": self.stdin,
            "runs": self.runs,
            "machine": self.machine,
            "not_compared": list(self.unsteady),
            "kept": list(result.kept),
            "left_out": result.left_out,
            "steps": [_step_json(step) for step in steps],
            "verdict": self.verdict(),
        }

    def to_toml(self) -> str:
        """A file for ``--override``. There must be sets to keep."""
        command = printable(shlex.join(self.program))
        versions, kvm = self.machine["versions"], self.machine["kvm"]
        lines = [
            f"multiverse tune, {self.machine['date']}: {command}",
            f"Multiverse {versions['multiverse']}, ring {kvm.get('ring', '?')},"
            f" {self.machine['processor']}, Linux {self.machine['kernel']}",
            f"{self.runs} runs of each, by turns; stdin: {self.stdin}",
            self.verdict(),
        ]
        lines += [f"not kept: {name}: {why}" for name, why in self.result.left_out.items()]
        if self.unsteady:
            lines.append(f"not compared, as native runs differ: {', '.join(self.unsteady)}")
        summary = f"What makes {command} faster."
        return (
            "".join(f"# {printable(line)}\n" for line in lines)
            + f"summary = {json.dumps(summary, ensure_ascii=False)}\n"
            + f"sets = {json.dumps(list(self.result.kept))}\n"
        )

    def table(self) -> RenderableType:
        """For a terminal."""
        table = Table(title=f"medians of {self.runs} runs by turns, and quartiles")
        table.add_column("", no_wrap=True)
        for name in ("time", "to native", "to the first line"):
            table.add_column(name, justify="right", no_wrap=True)
        result = self.result
        for step in (*result.steps, result.confirmation):
            if step is not None:
                native = summarize(step.native)
                title = "confirming" if step is result.confirmation else "natively"
                table.add_row(title, f"{native.median:.3f} s", "1", "", style="dim")
                for trial in step.trials:
                    table.add_row(*_row(step, trial))
                table.add_section()
        lines = [Text(f"{name}: not kept: {why}") for name, why in result.left_out.items()]
        return Group(table, *lines, Text(self.verdict(), "bold"))


def printable(text: str) -> str:
    """On one line, of what a TOML comment may have."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _range(ratio: Summary) -> str:
    return f"{ratio.median:.3f} ({ratio.lower_quartile:.3f} to {ratio.upper_quartile:.3f})"


def _row(step: Step, trial: Trial) -> tuple[str, str, str, str]:
    title = ", ".join(trial.sets) or "as an HRT"
    if trial.difference is not None:
        return title, "DIFFERS", "", ""
    first = step.trials[0]
    beside = "" if first is trial or first.difference else _range(summarize(step.to_first(trial)))
    return (
        title,
        f"{summarize(trial.seconds).median:.3f} s",
        _range(step.to_native(trial)),
        f"{beside}{' *' if beside and step.helps(trial) else ''}",
    )


def _step_json(step: Step) -> dict[str, Any]:
    first = step.trials[0]
    trials = []
    for trial in step.trials:
        entry: dict[str, Any] = dataclasses.asdict(trial)
        if trial.difference is None:
            entry["to_native"] = dataclasses.asdict(step.to_native(trial))
            if trial is not first and first.difference is None:
                ratios = step.to_first(trial)
                entry["to_first"] = dataclasses.asdict(summarize(ratios))
                entry["to_first_limit"] = median_limit(ratios)
                entry["helps"] = step.helps(trial)
        trials.append(entry)
    return {"native": step.native, "trials": trials}
