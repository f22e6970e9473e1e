"""`multiverse override`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from multiverse.core import EXIT_FAILURE

if TYPE_CHECKING:
    from collections.abc import Callable

    from multiverse.overrides.module import Description, TakenFunction

EXIT_MISTAKES = 1
FC = TypeVar("FC", bound="Callable[..., Any] | click.Command")


def complete_set(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of installed sets, and files."""
    from multiverse.overrides.sets import names

    found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
    return [*found, CompletionItem(incomplete, type="file")]


def override_option(text: str) -> Callable[[FC], FC]:
    """The option --override, which may be given again. text: what it does in this command."""
    return click.option(
        "--override",
        "overrides",
        multiple=True,
        metavar="FILE|NAME",
        shell_complete=complete_set,
        help=text,
    )


what = click.argument("what", metavar="FILE|NAME", shell_complete=complete_set)
whats = click.argument(
    "whats", metavar="FILE|NAME...", nargs=-1, required=True, shell_complete=complete_set
)
as_json_option = click.option("--json", "as_json", is_flag=True, help="as JSON")


def end(error: Exception) -> NoReturn:
    """End with what is wrong on stderr."""
    click.echo(str(error), err=True)
    sys.exit(EXIT_MISTAKES)


def warn(line: str) -> None:
    click.echo(line, err=True)


@click.group()
def override() -> None:
    """Check, build and explain overrides: C functions that take over system calls and functions.

    A TOML file says what is taken over (docs/overrides.md). `multiverse run --override FILE`
    uses it.
    """


@override.command()
@whats
@click.option("--program", metavar="PROG", help="also find the functions in this program")
@as_json_option
def check(whats: tuple[str, ...], program: str | None, as_json: bool) -> None:
    """Look for mistakes in TOML files, by themselves and together.

    Every mistake is a line with file, line and a hint. The status is 1 if there are any.
    """
    from multiverse.cli.run import find_program
    from multiverse.overrides.errors import Mistakes, Unusable
    from multiverse.overrides.plan import check_together, load_all, resolve
    from multiverse.overrides.program import Program

    warnings: list[str] = []
    wrong: list[Mistakes | Unusable] = []
    modules = []
    for name in whats:
        try:
            modules += load_all([name], warnings.append)
        except (Mistakes, Unusable) as error:
            wrong.append(error)
    try:
        check_together(modules)
        if program:
            resolve(modules, Program(find_program(program)), warnings.append)
    except (Mistakes, Unusable) as error:
        wrong.append(error)
    if as_json:
        mistakes = [m for error in wrong if isinstance(error, Mistakes) for m in error.mistakes]
        data = {
            "ok": not wrong,
            "mistakes": [{**asdict(m.place), "text": m.text} for m in mistakes],
            "errors": [str(error) for error in wrong if isinstance(error, Unusable)],
            "warnings": warnings,
        }
        click.echo(json.dumps(data, indent=2))
    else:
        for line in [*warnings, *map(str, wrong)]:
            click.echo(line, err=True)
    sys.exit(EXIT_MISTAKES if wrong else 0)


@override.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="the module's file; default: see above"
)
def build(files: tuple[str, ...], output: str | None) -> None:
    """Make a module of each TOML file and its C: one file that needs no compiler any more.

    That of NAME.toml is NAME.override in the current folder.
    """
    from multiverse.files import new_file_mode, write_whole
    from multiverse.overrides.build import build as make
    from multiverse.overrides.errors import Mistakes, Unusable
    from multiverse.overrides.sets import MODULE_SUFFIX

    if output and len(files) > 1:
        raise click.UsageError("-o names one module; give one file with it")
    for file in files:
        target = Path(output or Path(file).with_suffix(MODULE_SUFFIX).name)
        try:
            made = make(Path(file), cache=False)
            if made.messages:
                warn(made.messages)
            write_whole(target, made.content, new_file_mode())
        except (Mistakes, Unusable) as error:
            end(error)
        except OSError as error:
            line = f"multiverse: override: {target}: {error.strerror}; give another -o"
            click.echo(line, err=True)
            sys.exit(EXIT_FAILURE)


@override.command("list")
@as_json_option
def list_sets(as_json: bool) -> None:
    """Show the installed sets: what they answer or take over, and which calls of Linux's they are
    told of first."""
    from multiverse.overrides.errors import Mistakes
    from multiverse.overrides.sets import sets

    try:
        installed = sets()
    except Mistakes as error:
        end(error)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in installed], indent=2))
        return
    if not installed:
        click.echo("no sets are installed")
    for one in installed:
        click.echo(f"{one.name}: {one.summary}")
        if one.syscalls:
            click.echo(f"  system calls  {', '.join(one.syscalls)}")
        if one.functions:
            click.echo(f"  functions     {', '.join(one.functions)}")
        if one.watched:
            click.echo(f"  told of       {', '.join(one.watched)}")


@override.command()
@what
@click.option("--program", metavar="PROG", help="also say how functions of this program are got at")
@click.option("--source", is_flag=True, help="the C that is generated instead")
def explain(what: str, program: str | None, source: bool) -> None:
    """Say call by call what happens with a TOML file, a built module or an installed set."""
    from multiverse.overrides.build import check as check_file
    from multiverse.overrides.errors import Mistakes, Unusable
    from multiverse.overrides.plan import load_all
    from multiverse.overrides.sets import locate

    try:
        if not source:
            modules = load_all([what], warn)
            how = _in_program(program)
            click.echo("\n".join(explanation(m.description, how) for m in modules), nl=False)
            return
        path = locate(what)
        if path.suffix != ".toml":
            raise Unusable(f"{what}: a built module has no source; give its TOML file")
        click.echo(check_file(path, what).wrappers.source(with_lines=False), nl=False)
    except (Mistakes, Unusable) as error:
        end(error)


_CALL_FALLBACKS = {
    "auto": "AK_FALLBACK: Linux answers",
    "async": "AK_FALLBACK: Linux answers, by an exit",
}
_CALL_RESULTS = {
    "value": "the function's: a value or a negative errno",
    "error": "the negative of the function's, which is a positive error number or 0",
    "none": "0",
    "linux": "Linux's, after the function",
}
_FUNCTION_RESULTS = {
    "value": "the function's",
    "error": "the function's; of a negative errno the positive error number",
    "none": "nothing of the function's",
}


def _in_program(name: str | None) -> Callable[[TakenFunction], str]:
    """How functions are got at in a program; nothing without one. Raises Unusable."""
    from multiverse.cli.run import find_program
    from multiverse.overrides.errors import Mistake
    from multiverse.overrides.plan import describe, find
    from multiverse.overrides.program import Program

    if not name:
        return lambda function: ""
    program = Program(find_program(name))

    def how(function: TakenFunction) -> str:
        found = find(0, function, program)
        return f"not: {found.text}" if isinstance(found, Mistake) else describe(found)

    return how


def explanation(module: Description, how: Callable[[TakenFunction], str]) -> str:
    """What a module does, in words. how: functions are got at, in words."""
    lines = [f"{module.name}: {module.summary}" if module.summary else module.name]
    if module.sets:
        lines.append(f"with the installed sets {', '.join(module.sets)}, below")

    def add(head: str, *rows: tuple[str, str]) -> None:
        lines.extend(["", head, *(f"  {name:<9} {text}" for name, text in rows if text)])

    for call in module.calls:
        add(
            f"system call {call.name} ({call.nr}), {call.file}:{call.line}",
            ("legacy", call.prototype),
            ("when", f"{call.when}; else Linux answers" if call.when else "always"),
            ("calls", f"{call.call}, with {call.called}"),
            ("result", _CALL_RESULTS.get(call.result, call.result)),
            ("fallback", _CALL_FALLBACKS[call.channel] if call.fallback else "none"),
            (
                "cost",
                "a function call in the HRT, before Linux's answer"
                if call.result == "linux"
                else "a function call in the HRT, which is not left",
            ),
        )
    for function in module.functions:
        place = f"{function.file}:{function.line}"
        if not function.symbol:
            add(
                f"function {function.name} is called by the sources, {place}",
                ("legacy", function.prototype),
                ("found", how(function)),
            )
            continue
        of = f" of {function.library}" if function.library else ""
        failure = function.failure or ("NULL" if "*" in function.prototype.split("(")[0] else "-1")
        results = {"errno": f"the function's; of a negative errno {failure}, with errno set"}
        when = f"{function.when}; else the original is called" if function.when else "always"
        add(
            f"{'new ' if function.new else ''}function {function.name}{of}, {place}",
            ("legacy", function.prototype),
            ("found", how(function)),
            ("when", when),
            ("calls", f"{function.call}, with {function.called}"),
            ("result", {**_FUNCTION_RESULTS, **results}.get(function.result, function.result)),
            ("fallback", "AK_FALLBACK: the original is called" if function.fallback else "none"),
            ("signals", "" if function.signal_safe else "wait during the call, and so does fork"),
            ("uses", ", ".join(function.uses)),
            ("cost", "a jump and a function call"),
        )
    return "\n".join(lines) + "\n"
