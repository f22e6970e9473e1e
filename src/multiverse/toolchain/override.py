"""Overrides in fat binaries: one more object, whose functions stand before the legacy ones.

Calls from the objects that are linked go to ``__wrap_NAME`` (ld's ``--wrap``), which jumps through
a variable: to the legacy function natively, to the module's in an HRT.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from multiverse.overrides.errors import Unusable
from multiverse.overrides.image import Image, assemble, place
from multiverse.overrides.module import NOTE_SECTION, Module
from multiverse.overrides.plan import load_together
from multiverse.toolchain.fat import module_note

ENOSYS = 38

SOURCE = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string("""\
    .section .multiverse.override, "a", @progbits
    .balign 64
    .globl mv_fat_modules, mv_fat_modules_end, mv_fat_links, mv_fat_links_end
    .hidden mv_fat_modules, mv_fat_modules_end, mv_fat_links, mv_fat_links_end
mv_fat_modules:
    .incbin "{{ blob }}"
mv_fat_modules_end:

    .section {{ note_section }}, "a", @note
    .balign 4
    .incbin "{{ notes }}"

    .text
{% for link in links if link.slot %}
    .globl {{ link.entry }}
    .type {{ link.entry }}, @function
{{ link.entry }}:
    endbr64
    jmp *{{ link.slot }}(%rip)
    .size {{ link.entry }}, . - {{ link.entry }}
{% endfor %}
absent:
    endbr64
    mov ${{ absent }}, %rax
    ret

    .data
    .balign 8
{% for link in links if link.slot %}
{{ link.slot }}:
    .quad {{ link.legacy }}
{% endfor %}

    .section .data.rel.ro, "aw", @progbits
    .balign 8
mv_fat_links:
{% for link in links %}
    .quad {{ link.slot or 0 }}, {{ link.legacy }}, {{ link.wrapper }}, {{ link.original }}
{% endfor %}
mv_fat_links_end:

    .section .note.GNU-stack, "", @progbits
""")


@dataclass(frozen=True)
class Link:
    """A struct mv_fat_link (core/abi/fat.h), as the assembler takes it."""

    entry: str
    slot: str | None
    legacy: str
    wrapper: int
    original: int


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


def _links(modules: Sequence[Module], image: Image) -> tuple[list[Link], list[str]]:
    """What the modules take over and call, and the names for ld's --wrap."""
    links = []
    pairs = [(i, f) for i, module in enumerate(modules) for f in module.description.functions]
    wrapped = {f.name for _, f in pairs if f.symbol and not f.new}
    for number, function in pairs:
        original = image.address(number, function.original) if function.original else 0
        legacy = f"__real_{function.name}" if function.name in wrapped else function.name
        if not function.symbol:
            links.append(Link("", None, legacy, 0, original))
            continue
        wrapper = image.address(number, function.symbol)
        entry = function.name if function.new else f"__wrap_{function.name}"
        legacy = "absent" if function.new else legacy
        links.append(Link(entry, f"slot_{len(links)}", legacy, wrapper, original))
    return links, sorted(wrapped)


def make_object(whats: Iterable[str], assembler: Sequence[str], directory: Path) -> list[str]:
    """Make the object for TOML files, built modules and sets' names.

    assembler: the compiler's words; directory: where files may be left until the link is done.
    Returns what the linker gets. Raises Mistakes, Unusable, OSError.
    """
    modules = load_together(whats, _warn)
    links, wrapped = _links(modules, Image(modules, place()))
    blob = directory / "modules.bin"
    blob.write_bytes(assemble(modules, []))
    notes = directory / "notes.bin"
    notes.write_bytes(b"".join(module_note(module.description.note()) for module in modules))
    source, target = directory / "override.s", directory / "override.o"
    source.write_text(
        SOURCE.render(
            blob=blob,
            notes=notes,
            note_section=NOTE_SECTION,
            links=links,
            absent=-ENOSYS,
        )
    )
    command = [*assembler, "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Unusable(f"the assembler refuses the overrides: {done.stderr.strip()}")
    return [str(target), *(f"--wrap={name}" for name in wrapped)]
