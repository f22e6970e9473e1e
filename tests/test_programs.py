"""Real programs, natively and as an HRT."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from conftest import HRT, SLOWNESS, Outcome

from multiverse.core import core_path


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


BASH = {
    "pipes": "seq 1000 | sort -rn | head -3 | tee /dev/stderr | wc -l",
    "subshells": "x=1; (x=2; echo $x; exit 3); echo $? $x; echo $(echo a; echo b) `echo c`",
    # Notices of stopped jobs hold process numbers and come when they come.
    "jobs": "exec 2>/dev/null; set -m; sleep 0.2 & wait %1; echo $?; "
    "sleep 5 & kill -STOP %1; kill %1; kill -CONT %1; wait %1; echo $?",
    "traps": "trap 'echo usr' USR1; trap 'echo bye' EXIT; kill -USR1 $$; "
    "(trap 'echo sub' TERM; kill $BASHPID; echo on); echo end",
    "fallen child": "{ sh -c 'kill -SEGV $$'; } 2>/dev/null; echo $?; sh -c 'exit 42'; echo $?",
    "here document": "cat <<X | tr a-z A-Z\nhello\nX\nread -r a b <<<'one two'; echo $b",
    "coproc": "coproc cat; echo hi >&${COPROC[1]}; read -r x <&${COPROC[0]}; echo $x",
    "limits": "ulimit -n; umask; nice; cd /usr; pwd; echo $0 $# $PPID >/dev/null",
}


@pytest.mark.parametrize("what", BASH)
def test_bash(what: str, same: Callable[..., Outcome]) -> None:
    same(["/bin/bash", "-c", BASH[what]])


COREUTILS = [
    ["/bin/ls", "-l", "/usr"],
    ["/usr/bin/sha256sum", "/bin/bash"],
    ["/bin/dd", "if=/dev/zero", "of=/dev/stdout", "bs=64k", "count=16", "status=none"],
    ["/usr/bin/timeout", "0.2", "sleep", "10"],
    ["/usr/bin/env", "-i", "A=1", "/usr/bin/env"],
    ["/bin/false"],
    ["/bin/cat", "/nonexistent"],
]


@pytest.mark.parametrize("command", COREUTILS, ids=lambda c: Path(c[0]).name)
def test_coreutils(command: list[str], same: Callable[..., Outcome]) -> None:
    same(command)


def test_busybox(same: Callable[..., Outcome]) -> None:
    same([program("busybox"), "sh", "-c", "echo hi | sed s/h/H/; ls /bin | wc -l; exit 5"])


PYTHON = {
    "threads": """
import threading, queue
q = queue.Queue()
def work(n): q.put(sum(i * i for i in range(n)))
ts = [threading.Thread(target=work, args=(10000 + i,)) for i in range(20)]
[t.start() for t in ts]; [t.join() for t in ts]
print(sum(q.get() for _ in ts))
""",
    "subprocess": """
import subprocess
print(subprocess.run(["tr", "a-z", "A-Z"], input=b"hello", capture_output=True))
print(subprocess.run("exit 3", shell=True).returncode)
try: subprocess.run(["/nonexistent"])
except FileNotFoundError as e: print(e)
""",
    "multiprocessing": """
import multiprocessing as m
def square(x): return x * x
if __name__ == "__main__":
    for how in ("fork", "spawn"):
        with m.get_context(how).Pool(2) as pool: print(pool.map(square, range(10)))
""",
    "sockets": """
import socket, threading
s = socket.create_server(("127.0.0.1", 0))
def serve():
    c, _ = s.accept()
    with c: c.sendall(c.recv(100).upper())
t = threading.Thread(target=serve); t.start()
with socket.create_connection(s.getsockname()) as c:
    c.sendall(b"hello"); print(c.recv(100))
t.join()
""",
    "asyncio": """
import asyncio
async def tick(n):
    await asyncio.sleep(0.01 * n); return n
async def main():
    print(await asyncio.gather(*(tick(i) for i in range(10))))
    p = await asyncio.create_subprocess_exec("echo", "x", stdout=-1)
    print(await p.communicate())
asyncio.run(main())
""",
    "ctypes": """
import ctypes, ctypes.util
libc = ctypes.CDLL(None)
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
a = (ctypes.c_int * 5)(5, 3, 1, 4, 2)
libc.qsort(a, 5, 4, compare(lambda x, y: x[0] - y[0]))
print(list(a))
""",
    "mmap": """
import mmap, os
m = mmap.mmap(-1, 1 << 20)
if os.fork() == 0: m[:5] = b"child"; os._exit(0)
os.wait(); print(m[:5]); m.resize(1 << 21); m[-1:] = b"x"; print(m[-1:])
""",
    "signals": """
import signal, os, time
signal.signal(signal.SIGALRM, lambda *a: print("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.1); time.sleep(0.3)
try:
    signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
except KeyboardInterrupt: print("interrupted")
os.abort()
""",
}


@pytest.mark.parametrize("what", PYTHON)
@pytest.mark.parametrize("python", sorted({sys.executable, "/usr/bin/python3"}))
def test_python(python: str, what: str, tmp_path: Path, same: Callable[..., Outcome]) -> None:
    if not Path(python).exists():
        pytest.skip(f"{python} is not installed")
    script = tmp_path / "script.py"
    script.write_text(PYTHON[what])
    same([python, str(script)])


RACKET = {
    "expression": '(display (for/sum ([i 100000]) i)) (newline) (eprintf "x\\n") (exit 3)',
    "subprocess": """
(require racket/system racket/port)
(display (with-output-to-string (lambda () (system "echo hi; exit 0"))))
(displayln (system*/exit-code "/bin/sh" "-c" "exit 4"))""",
    "futures": """
(require racket/future)
(define (work) (for/fold ([s 0]) ([k 200000]) (+ s k)))
(displayln (map touch (for/list ([i 4]) (future work))))""",
    "threads": """
(define c (make-channel))
(for ([i 10]) (thread (lambda () (channel-put c i))))
(displayln (sort (for/list ([i 10]) (channel-get c)) <))""",
    "error": "(car '())",
}


@pytest.mark.parametrize("what", RACKET)
def test_racket(what: str, same: Callable[..., Outcome]) -> None:
    same([program("racket"), "-e", RACKET[what]])


def test_racket_places(tmp_path: Path, same: Callable[..., Outcome]) -> None:
    source = tmp_path / "places.rkt"
    source.write_text("""#lang racket/base
(require racket/place)
(provide work main)
(define (work ch) (place-channel-put ch (* 2 (place-channel-get ch))))
(define (main)
  (define ps (for/list ([i 3]) (dynamic-place (quote-module-path) 'work)))
  (for ([p ps] [i 3]) (place-channel-put p i))
  (displayln (map place-channel-get ps)))
(require syntax/location)
(module+ main (main))
""")
    same([program("racket"), str(source)])


@pytest.mark.parametrize("command", [["racket", "-q"], ["python3", "-q"], ["bash", "--norc"]])
def test_terminal(command: list[str], hrt: Callable[..., Outcome]) -> None:
    """A session at a pseudo-terminal: expressions, Ctrl-C in the middle, the end."""
    path = program(command[0])
    lines = {"racket": "(+ 1 2)", "python3": "1 + 2", "bash": "echo $((1 + 2))"}
    loops = {"racket": "(let l () (l))", "python3": "while True: pass\n", "bash": "sleep 30"}
    prompts = {"racket": "> ", "python3": ">>> ", "bash": "PROMPT"}
    name = command[0]

    def session(argv: list[str]) -> tuple[bytes, int | None, int | None]:
        env = {**os.environ, "TERM": "dumb", "PS1": "PROMPT", "INPUTRC": "/dev/null"}
        env["HOME"] = "/nonexistent"
        child = pexpect.spawn(argv[0], argv[1:], env=env, timeout=40 * SLOWNESS)
        seen = b""
        for text in (lines[name], loops[name], None):
            child.expect_exact(prompts[name])
            seen += child.before + child.after
            if text is None:
                break
            child.sendline(text)
            if text == loops[name]:
                child.expect_exact(text.split("\n")[0])
                seen += child.before + child.after
                # The loop has begun once its echo is there and the prompt is not back.
                with pytest.raises(pexpect.TIMEOUT):
                    child.expect_exact(prompts[name], timeout=1)
                child.sendintr()
        child.sendeof()
        child.expect(pexpect.EOF)
        child.wait()
        return seen + child.before, child.exitstatus, child.signalstatus

    argv = [path, *command[1:]]
    assert session([str(core_path()), HRT, path, *argv]) == session(argv)


def test_lua(same: Callable[..., Outcome]) -> None:
    code = (
        "local t={} for i=1,1e5 do t[i]=i*i end print(#t, t[10]); print(io.popen('echo x'):read())"
    )
    same([program("lua5.4"), "-e", code])


def test_perl(same: Callable[..., Outcome]) -> None:
    same(
        [program("perl"), "-e", 'print join(",", map {$_**2} 1..5), `echo hi`; fork; wait; die "x"']
    )


def test_sqlite(tmp_path: Path, same: Callable[..., Outcome]) -> None:
    sql = (
        "create table t(a,b); with recursive c(x) as (select 1 union all select x+1 from c limit "
        "1000) insert into t select x,x*x from c; select sum(b) from t; drop table t;"
    )
    same([program("sqlite3"), str(tmp_path / "db"), sql])


@pytest.mark.parametrize("config", [HRT, f"{HRT},follow=1"])
def test_gcc(config: str, tmp_path: Path, same: Callable[..., Outcome]) -> None:
    source = tmp_path / "x.c"
    source.write_text('#include <stdio.h>\nint main(void) { puts("compiled"); return 6; }\n')
    target = tmp_path / "x"
    same([program("gcc"), "-O2", str(source), "-o", str(target)], config=config)
    assert same([str(target)]).status == 6


def test_git(tmp_path: Path, same: Callable[..., Outcome]) -> None:
    git = program("git")
    origin = tmp_path / "origin"
    subprocess.run([git, "init", "-q", str(origin)], check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    (origin / "file").write_text("x" * 10000)
    subprocess.run([git, "-C", str(origin), "add", "."], check=True)
    subprocess.run([git, "-C", str(origin), *author, "commit", "-qm", "one"], check=True)
    clone = tmp_path / "clone"
    script = f"rm -rf '{clone}'; {git} clone -q '{origin}' '{clone}' && cat '{clone}/file'"
    same(["/bin/sh", "-c", script], config=f"{HRT},follow=1")


def test_node(same: Callable[..., Outcome]) -> None:
    code = """
const { Worker } = require('worker_threads'); const { execSync } = require('child_process');
let s = 0; for (let i = 0; i < 2e7; i++) s += i % 7; console.log(s);
console.log(execSync('echo child').toString());
const w = new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', { eval: true });
let left = 2; const done = () => --left || process.exit(3);
w.on('message', m => { console.log('worker', m); done(); });
require('fs').readFile('/etc/hostname', () => setTimeout(done, 100));
"""
    same([program("node"), "-e", code])


def test_stop_and_continue(hrt: Callable[..., Outcome]) -> None:
    argv = [str(core_path()), HRT, "/bin/sleep", "sleep", "0.5"]
    with subprocess.Popen(argv) as process:
        process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.wait(20 * SLOWNESS) == 0


def test_stop_while_it_starts(hrt: Callable[..., Outcome]) -> None:
    """The virtual CPU is measured before the program begins, and may be interrupted in that."""
    for step in range(60):
        with subprocess.Popen([str(core_path()), HRT, "/bin/true", "true"]) as process:
            time.sleep(step * 1e-4)
            process.send_signal(signal.SIGSTOP)
            process.send_signal(signal.SIGCONT)
            assert process.wait(20 * SLOWNESS) == 0
