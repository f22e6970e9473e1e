"""Input that cannot run: one clear line, the right status, never a crash and never a half-run."""

from __future__ import annotations

import os
import random
import resource
import struct
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import HRT, Outcome, execute

from multiverse.core import core_path

# _start: exit_group(0)
TINY = """
.globl _start
_start: xor %edi,%edi
mov $231,%eax
syscall
.data
.quad 1
.bss
.skip 9000
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("tiny")
    (directory / "t.s").write_text(TINY)
    target = directory / "t"
    command = ["cc", "-nostdlib", "-static", "-s", "-o", str(target), str(directory / "t.s")]
    subprocess.run(command, check=True)
    return target.read_bytes()


def one_line(outcome: Outcome, status: int) -> None:
    assert outcome.status == status, outcome
    assert outcome.stdout == b""
    assert outcome.stderr.startswith(b"multiverse: ")
    assert outcome.stderr.count(b"\n") == 1 and outcome.stderr.endswith(b"\n"), outcome


def make(path: Path, content: bytes, mode: int = 0o755) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("name", ["/nonexistent/program", ""])
def test_missing(name: str) -> None:
    one_line(execute([name]), 127)


def test_directory() -> None:
    one_line(execute(["/usr"]), 126)


def test_not_executable(tmp_path: Path, tiny: bytes) -> None:
    one_line(execute([make(tmp_path / "x", tiny, 0o644)]), 126)


def test_missing_interpreter(tmp_path: Path) -> None:
    one_line(execute([make(tmp_path / "x", b"#!/nonexistent/sh\n")]), 127)


def test_script_that_runs_itself(tmp_path: Path) -> None:
    path = tmp_path / "x"
    one_line(execute([make(path, f"#!{path}\n".encode())]), 126)


def foreign(tiny: bytes, offset: int, value: bytes) -> bytes:
    return tiny[:offset] + value + tiny[offset + len(value) :]


NOT_RUNNABLE = {
    "empty": lambda t: b"",
    "text": lambda t: b"hello\n",
    "truncated header": lambda t: t[:40],
    "truncated": lambda t: t[:200],
    "aarch64": lambda t: foreign(t, 18, struct.pack("<H", 183)),
    "no program headers": lambda t: foreign(t, 56, struct.pack("<H", 0)),
    "headers beyond the end": lambda t: foreign(t, 32, struct.pack("<Q", 1 << 62)),
    "relocatable": lambda t: foreign(t, 16, struct.pack("<H", 1)),
}


@pytest.mark.parametrize("what", NOT_RUNNABLE)
def test_not_runnable(what: str, tmp_path: Path, tiny: bytes) -> None:
    content = NOT_RUNNABLE[what](tiny)
    # Linux is asked, too, and refuses as well: with require=1 we say so before.
    path = make(tmp_path / "x", content)
    one_line(execute([path]), 125)
    outcome = execute([path], config="")
    assert outcome.status in (125, 126)
    assert outcome.stderr.startswith(b"multiverse: ")


def mutate(rng: random.Random, image: bytes) -> bytes:
    data = bytearray(image)
    for _ in range(rng.randint(1, 4)):
        where = rng.choice([(0, 64), (64, 64 + 56 * 5), (0, len(data))])
        at = rng.randrange(where[0], min(where[1], len(data)))
        width = rng.choice([1, 2, 4, 8])
        value = rng.choice(
            [0, 1, 2, 0x7F, 0xFF, 4096, 4095, 1 << 20, 1 << 31, 1 << 47, (1 << 47) - 4096]
            + [1 << 63, (1 << 64) - 1, (1 << 64) - 4096, rng.getrandbits(64)]
        )
        data[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data))]
    return bytes(data)


@pytest.mark.parametrize("seed", range(6))
def test_mutated_elf(seed: int, tmp_path: Path, tiny: bytes, hrt: Callable[..., Outcome]) -> None:
    """500 mutations a seed, loaded up to the first instruction."""
    rng = random.Random(seed)
    images = [mutate(rng, tiny) for _ in range(500)]

    def load(number: int) -> tuple[int, Outcome]:
        path = make(tmp_path / f"x{number}", images[number])
        return number, execute([path], config=f"{HRT},loadonly=1", timeout=20)

    with ThreadPoolExecutor(2) as pool:
        for number, outcome in pool.map(load, range(len(images))):
            assert outcome.status in (0, 125, 126, 127), (number, images[number].hex(), outcome)
            assert outcome.stdout == b""
            assert outcome.stderr.count(b"\n") == (outcome.status != 0), outcome


def test_small_address_space() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (64 << 20, 64 << 20))

    command = [str(core_path()), HRT, "/bin/true", "true"]
    result = subprocess.run(command, capture_output=True, preexec_fn=limit)
    one_line(Outcome(result.returncode, result.stdout, result.stderr), 125)


def test_few_descriptors(hrt: Callable[..., Outcome]) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))

    command = [str(core_path()), HRT, "/bin/true", "true"]
    result = subprocess.run(command, capture_output=True, preexec_fn=limit)
    outcome = Outcome(result.returncode, result.stdout, result.stderr)
    if outcome.status != 0:
        one_line(outcome, 125)


CLOSED = 'for fd in 0 1 2; do [ -e /proc/self/fd/$fd ] && echo $fd >>"$1"; done; exit 9'


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_descriptors(
    closed: tuple[int, ...], tmp_path: Path, hrt: Callable[..., Outcome]
) -> None:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    command = ["/bin/sh", "-c", CLOSED, "sh"]
    seen = []
    for front in ([], [str(core_path()), HRT, "/bin/sh"]):
        out = tmp_path / f"out{len(front)}"
        result = subprocess.run(
            [*front, *command, str(out)], preexec_fn=close, capture_output=True, close_fds=True
        )
        seen.append((result.returncode, out.read_text() if out.exists() else ""))
    assert seen[0] == seen[1]
    assert seen[0][0] == 9


def test_closed_pipe(hrt: Callable[..., Outcome]) -> None:
    script = f"'{core_path()}' {HRT} /usr/bin/yes yes | head -1; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["/bin/bash", "-c", script], capture_output=True, timeout=60)
    signalled = b"141" if result.stdout.endswith(b"141\n") else b"1"
    native = subprocess.run(
        ["/bin/bash", "-c", "yes | head -1; echo ${PIPESTATUS[0]}"], capture_output=True
    )
    assert result.stdout == native.stdout, signalled


def test_full_device(same: Callable[..., Outcome]) -> None:
    same(["/bin/sh", "-c", "echo x > /dev/full; echo $?"])


def test_no_device(tmp_path: Path) -> None:
    """Without /dev/kvm the program runs natively and says so once."""
    script = f"mount -t tmpfs none /dev && exec '{core_path()}' {{}} /bin/echo echo ran"
    unshare = ["/usr/bin/unshare", "--mount", "--map-root-user", "/bin/sh", "-c"]
    if subprocess.run([*unshare, "mount -t tmpfs none /dev"], capture_output=True).returncode:
        pytest.skip("unshare (util-linux) may not make a mount namespace here")
    plain = subprocess.run([*unshare, script.format("hvm=auto")], capture_output=True)
    assert (plain.returncode, plain.stdout) == (0, b"ran\n")
    assert plain.stderr.count(b"\n") == 1 and b"/dev/kvm" in plain.stderr
    quiet = subprocess.run([*unshare, script.format("quiet=1")], capture_output=True)
    assert (quiet.returncode, quiet.stderr) == (0, b"")
    required = subprocess.run([*unshare, script.format("require=1")], capture_output=True)
    one_line(Outcome(required.returncode, required.stdout, required.stderr), 125)


def test_unknown_configuration() -> None:
    one_line(execute(["/bin/true"], config="nonsense=1"), 125)
    one_line(execute(["/bin/true"], config="physbits=x"), 125)
