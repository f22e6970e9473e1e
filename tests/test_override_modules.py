"""Modules built of overrides, and what is kept of what has been made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import multiverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from override_files import CALL, INCLUDES, F, Write, compiled, decode, function, no_warning

from multiverse.overrides import blob, kept, plan
from multiverse.overrides.build import build
from multiverse.overrides.errors import Mistakes, Unusable

pytestmark = pytest.mark.usefixtures("cache")


# ---- Modules and the cache ---------------------------------------------------------------------


def test_built_modules_are_the_same(write: Write, tmp_path: Path) -> None:
    path = write(CALL, F)
    target = tmp_path / "x.override"
    done = multiverse("override", "build", str(path), "-o", str(target))
    assert done.returncode == 0 and done.stderr == "", done
    path.unlink()
    (tmp_path / "x.c").unlink()
    assert blob([str(target)], "/bin/true") == blob([str(write(CALL, F))], "/bin/true")
    notes = subprocess.run(["readelf", "-nW", str(target)], capture_output=True, text=True).stdout
    assert ".note.multiverse.override" in notes and "Multiverse" in notes


@pytest.mark.parametrize(
    "damage", ["empty", "text", "program", "truncated", "note", "nr", "type", "version"]
)
def test_damaged_modules(write: Write, tmp_path: Path, damage: str) -> None:
    content = build(write(CALL, F)).content
    at = content.index(b'{"name"')
    damaged = {
        "version": content.replace(b'"multiverse": "0.', b'"multiverse": "9.'),
        "empty": b"",
        "text": b"summary = 'x'\n",
        "program": Path("/bin/true").read_bytes(),
        "truncated": content[: len(content) // 2],
        "note": content[:at] + b"[" + content[at + 1 :],
        "nr": content.replace(b'"nr": 39', b'"nr": -9'),
        "type": content.replace(b'"nr": 39', b'"nr": ""'),
    }[damage]
    target = tmp_path / "x.override"
    target.write_bytes(damaged)
    with pytest.raises(Unusable, match=f"^{target}: .*; ?build it"):
        blob([str(target)], "/bin/true")


@given(st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_a_module(tmp_path: Path, data: st.DataObject) -> None:
    """A module is used, or refused with a line; nothing else happens."""
    source = tmp_path / "x.toml"
    if not source.exists():
        source.write_text(CALL)
        (tmp_path / "x.c").write_text(INCLUDES + F)
    content = bytearray(build(source).content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    target = tmp_path / "y.override"
    target.write_bytes(content)
    try:
        blob([str(target)], "/bin/true")
    except (Unusable, Mistakes) as error:
        assert str(error)


def test_cache(write: Write, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second use needs no compiler; a change of any input, headers included, does."""
    (tmp_path / "x.h").write_text("#define X 1\n")
    c = '#include "x.h"\n' + F.replace("1", "X")
    path = write(CALL, c)
    first = build(path).content
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr("multiverse.overrides.compiler._run", None)
    assert build(path).content == first
    (tmp_path / "x.h").write_text("#define X 2\n")
    with pytest.raises(TypeError):
        build(path)
    monkeypatch.undo()


def test_no_cache(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    build(write(CALL, F))


def test_sets_of_a_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """A file may have installed sets with it, and a module built of it has them, too."""
    one = write("sets = ['memory']\n" + CALL, F, "one")
    assert blob([str(one)], "/bin/true") == blob([str(write(CALL, F)), "memory"], "/bin/true")
    made = str(tmp_path / "made.override")
    done = multiverse("override", "build", str(one), "-o", made)
    assert (done.returncode, done.stderr) == (0, "")
    assert blob([made], "/bin/true") == blob([str(one)], "/bin/true")
    shown = multiverse("override", "explain", made).stdout
    assert "with the installed sets memory" in shown and "system call getpid (39)" in shown
    assert "system call mmap (9)" in shown
    both = write("sets = ['memory', 'identity']\n", "", "both")
    assert multiverse("override", "build", str(both), "-o", made).returncode == 0
    monkeypatch.setenv("CC", "/nonexistent/cc")  # as nothing is to be compiled
    sets_alone = blob(["memory", "identity"], "/bin/echo")
    assert blob([str(both)], "/bin/echo") == sets_alone
    numbers = [
        [call.nr for call in decode(content)[1]]
        for content in (blob([made], "/bin/echo"), sets_alone)
    ]
    assert numbers[0] == numbers[1] != []


def test_sets_of_a_file_meet_others(write: Write) -> None:
    clash = write("sets = ['identity']\n" + CALL, F)
    done = multiverse("override", "check", str(clash))
    assert done.returncode == 1
    assert re.match(rf"identity\.toml:\d+: .* getpid is .* twice, also at {clash}:3;", done.stderr)
    again = write("sets = ['memory']\n", "", "y")
    done = multiverse("override", "check", "memory", str(again))
    assert done.returncode == 1 and "the system call mmap is taken over twice" in done.stderr


# ---- Blobs that are kept -----------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs for which blobs are made from now on, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "FRESH_NS", -(10**12))  # files of these tests are new
    programs: list[str] = []
    make = plan.make_blob

    def counted(whats: Any, program: str, *rest: Any) -> bytes:
        programs.append(program)
        return make(whats, program, *rest)

    monkeypatch.setattr(plan, "make_blob", counted)
    return programs


def entries(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("cache/multiverse/overrides/blobs/*"))


SETS = ["identity", "memory"]


def test_blobs_are_kept(made: list[str], tmp_path: Path) -> None:
    first = blob(SETS, "/bin/true", no_warning)
    assert blob(iter(SETS), "/bin/true", no_warning) == first
    assert made == ["/bin/true"]
    for others in (["identity"], ["memory", "identity"]):
        assert blob(others, "/bin/true", no_warning) != first
    blob(SETS, "/bin/false", no_warning)
    assert len(made) == 4 and len(entries(tmp_path)) == 4
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in entries(tmp_path))


def test_kept_blobs_take_little(tmp_path: Path) -> None:
    """Nothing of what makes blobs is imported then."""
    script = (
        "import sys; from multiverse.overrides import blob; blob(['identity'], '/bin/true');"
        "print(not {'elftools', 'pycparser', 'capstone', 'cffi', 'tempfile'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    outputs = [subprocess.check_output(command, env=environment) for _ in range(2)]
    assert outputs == [b"False\n", b"True\n"]


def test_what_changes_makes_another(
    made: list[str], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program, a library, where the linker finds it, an override, Multiverse."""
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}/first:{tmp_path}/second")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    library = compiled(
        tmp_path, "second/libx.so", "long x(void) { return 1; }\n", "-shared", "-fPIC"
    )
    source = "long x(void);\nint main(void) { return (int)x(); }\n"
    linked = ("-L", str(library.parent), "-lx")
    user = str(compiled(tmp_path, "user", source, *linked))
    module = tmp_path / "x.override"
    toml = write(function("long x(void)", "f()"), F)

    def build_module() -> None:
        module.write_bytes(build(toml, cache=False).content)

    def change() -> None:
        monkeypatch.setattr(kept, "__version__", "another")

    changes = [
        lambda: compiled(tmp_path, "user", source + "int y;\n", *linked),
        lambda: compiled(
            tmp_path, "second/libx.so", "long x(void) { return 2; }\n", "-shared", "-fPIC"
        ),
        lambda: shutil.copy(library, tmp_path / "first"),
        build_module,
        change,
    ]
    build_module()
    for number, changed in enumerate([lambda: None, *changes], 1):
        changed()
        for _ in range(2):
            content = blob([str(module)], user, no_warning)
        assert len(made) == number
    _, _, files, _ = decode(content)
    assert files[0].inode == (tmp_path / "first" / "libx.so").stat().st_ino


def test_what_is_not_kept(
    made: list[str], write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a compiler made, what was warned of, and what may have changed meanwhile."""
    blob([str(write(CALL, F))], "/bin/true", no_warning)
    monkeypatch.setattr(kept, "FRESH_NS", 10**9)
    user = str(compiled(tmp_path, "user", "int main(void) { return 0; }\n"))
    blob(["identity"], user, no_warning)
    monkeypatch.setattr(kept, "FRESH_NS", -(10**12))
    module = tmp_path / "x.override"
    path = write(function("long atoll(const char *s)", "f()"), F)
    module.write_bytes(build(path, cache=False).content)
    warnings: list[str] = []
    blob([str(module)], user, warnings.append)
    assert len(warnings) == 1 and len(made) == 3 and not entries(tmp_path)
    nothing = tmp_path / "script"
    nothing.write_text("#!\n")
    blob(["memory"], str(nothing), no_warning)  # which is Linux's to refuse


@given(data=st.data())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_entries(made: list[str], tmp_path: Path, data: st.DataObject) -> None:
    wanted = blob(["identity"], "/bin/true", no_warning)
    (entry,) = entries(tmp_path)
    content = bytearray(entry.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[at:]
    entry.write_bytes(content)
    made.clear()
    assert blob(["identity"], "/bin/true", no_warning) == wanted and len(made) == 1
    assert blob(["identity"], "/bin/true", no_warning) == wanted and len(made) == 1


def test_the_cache_does_not_grow(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "ENTRIES_MAX", 2)
    for name in ("true", "false", "cat", "ls"):
        blob(["memory"], f"/bin/{name}", no_warning)
    assert len(entries(tmp_path)) == 2
