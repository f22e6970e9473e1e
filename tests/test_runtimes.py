"""Language runtimes in more depth: compilers at run time, workers, collectors, terminals."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest
from conftest import HRT, SLOWNESS, Outcome, end_session, stat_of

from multiverse.core import core_path


def program(name: str, package: str | None = None) -> str:
    path = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
    if path is None:
        pytest.skip(f"{name} is not installed (apt-get install {package or name})")
    return path


NODE = {
    "jit": """
function f(n) { let s = 0; for (let i = 0; i < n; i++) s = (s * 31 + i) | 0; return s; }
for (let k = 0; k < 50; k++) f(10000);
console.log(f(1e6), [..."héllo"].map(c => c.codePointAt(0)));
class P { constructor(x) { this.x = x; } get y() { return this.x * 2; } }
let t = 0; for (let i = 0; i < 1e5; i++) t += new P(i).y; console.log(t);
console.log(/(\\d+)-(\\d+)/.exec("ab 12-34").slice(1), eval("1+".repeat(1000) + "1"));
""",
    "collector": """
let keep = []; for (let i = 0; i < 3e5; i++) { keep.push({ i, s: "x" + i }); }
if (keep.length > 1e5) keep = keep.filter(o => o.i % 1000 == 0);
console.log(keep.length, keep[7].s); const b = Buffer.alloc(5e6, 7); console.log(b[4e6]);
""",
    "workers": """
const { Worker } = require('worker_threads');
const code = `const { parentPort, workerData } = require('worker_threads');
  const shared = new Int32Array(workerData);
  for (let i = 0; i < 1000; i++) Atomics.add(shared, 0, 1);
  parentPort.postMessage('done');`;
const memory = new SharedArrayBuffer(4), shared = new Int32Array(memory);
let left = 3;
for (let i = 0; i < 3; i++)
  new Worker(code, { eval: true, workerData: memory }).on('exit', () => {
    if (--left == 0) console.log('sum', shared[0]); });
""",
    "children": """
const cp = require('child_process');
console.log(cp.spawnSync('cat', { input: 'in' }).stdout.toString());
console.log(cp.spawnSync('/nonexistent').error.code);
const c = cp.spawn('sh', ['-c', 'echo out; echo err >&2; kill -TERM $$']);
let out = ''; c.stdout.on('data', d => out += d); c.stderr.on('data', d => out += d);
c.on('close', (code, sig) => console.log(out.split('\\n').sort().join(), code, sig));
""",
    "input and output": """
const fs = require('fs'), net = require('net'), crypto = require('crypto');
(async () => {
  const d = fs.mkdtempSync('/tmp/node-guest-');
  await fs.promises.writeFile(d + '/f', 'x'.repeat(1e6));
  console.log((await fs.promises.readFile(d + '/f')).length);
  await Promise.all([...Array(20).keys()].map(i => fs.promises.writeFile(d + '/' + i, '' + i)));
  console.log(fs.readdirSync(d).length); fs.rmSync(d, { recursive: true });
  console.log(crypto.createHash('sha256').update('abc').digest('hex'));
  await new Promise(r => crypto.pbkdf2('p', 's', 1000, 16, 'sha1', (e, k) => {
    console.log(k.toString('hex')); r(); }));
  const s = net.createServer(c => c.pipe(c)).listen(0, () => {
    const c = net.connect(s.address().port, () => c.end('echo'));
    c.on('data', d => { console.log('' + d); s.close(); }); });
})();
""",
    "webassembly": """
const bytes = new Uint8Array([0,97,115,109,1,0,0,0,1,7,1,96,2,127,127,1,127,3,2,1,0,5,3,1,0,1,
  7,7,1,3,97,100,100,0,0,10,9,1,7,0,32,0,32,1,106,11]);
WebAssembly.instantiate(bytes).then(m => console.log(m.instance.exports.add(40, 2)));
""",
    "signals": """
process.on('SIGUSR2', () => { console.log('usr2'); process.kill(process.pid, 'SIGTERM'); });
setTimeout(() => {}, 10000); process.kill(process.pid, 'SIGUSR2');
""",
    "uncaught": "process.exitCode = 4; Promise.resolve().then(() => process.exit())",
}


@pytest.mark.parametrize("what", NODE)
def test_node(what: str, same: Callable[..., Outcome]) -> None:
    result = same([program("node", "nodejs"), "-e", NODE[what]])
    assert result.stdout or what == "uncaught"


PYTHON = {
    "threads and a signal": """
import signal, threading, time, os
hits = []
signal.signal(signal.SIGUSR1, lambda *a: hits.append(1))
stop = False
def spin():
    n = 0
    while not stop: n += 1
ts = [threading.Thread(target=spin) for _ in range(4)]
[t.start() for t in ts]
for i in range(20):
    os.kill(os.getpid(), signal.SIGUSR1)
    while len(hits) <= i: time.sleep(0.001)
stop = True
[t.join() for t in ts]
print(len(hits), signal.sigtimedwait([signal.SIGUSR2], 0.01))
""",
    "forkserver": """
import multiprocessing as m, os
def f(q, x): q.put(x * 2)
if __name__ == "__main__":
    c = m.get_context("forkserver")
    q = c.Queue()
    ps = [c.Process(target=f, args=(q, i)) for i in range(3)]
    [p.start() for p in ps]
    print(sorted(q.get() for _ in ps))
    [p.join() for p in ps]
    print([p.exitcode for p in ps])
    p = m.get_context("fork").Process(target=os.abort); p.start(); p.join(); print(p.exitcode)
""",
    "shared memory": """
from multiprocessing import shared_memory, Process
def change(name):
    s = shared_memory.SharedMemory(name); s.buf[0] = 42; s.close()
if __name__ == "__main__":
    s = shared_memory.SharedMemory(create=True, size=1 << 20)
    p = Process(target=change, args=(s.name,)); p.start(); p.join()
    print(s.buf[0], p.exitcode); s.close(); s.unlink()
""",
    "ctypes faults": """
import ctypes, faulthandler, sys, os, signal
print(ctypes.string_at(ctypes.create_string_buffer(b"abc")))
pid = os.fork()
if pid == 0:
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    faulthandler.enable()
    ctypes.string_at(8)
_, status = os.waitpid(pid, 0)
print(os.WTERMSIG(status))
""",
    "mmap and files": """
import mmap, os, tempfile
with tempfile.TemporaryFile() as f:
    f.truncate(1 << 20)
    with mmap.mmap(f.fileno(), 0) as m:
        m[5000:5005] = b"hello"; m.flush()
        print(os.pread(f.fileno(), 5, 5000), m.find(b"lo"))
        f.truncate(1 << 21); m.resize(1 << 21); m[-1] = 9; print(len(m), m[-1])
m = mmap.mmap(-1, 1 << 16, prot=mmap.PROT_READ)
try: m[0] = 1
except TypeError as e: print(e)
print(os.sendfile.__name__, os.cpu_count() == len(os.sched_getaffinity(0)))
""",
    "asyncio with children": """
import asyncio, signal, os
async def child(i):
    p = await asyncio.create_subprocess_exec("sh", "-c", f"echo {i}; exit {i}",
                                             stdout=asyncio.subprocess.PIPE)
    out, _ = await p.communicate()
    return out, p.returncode
async def main():
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, event.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(event.wait(), 5)
    print(await asyncio.gather(*map(child, range(8))))
    server = await asyncio.start_server(lambda r, w: (w.write(b"hi"), w.close()), "127.0.0.1", 0)
    r, w = await asyncio.open_connection(*server.sockets[0].getsockname())
    print(await r.read()); w.close(); server.close()
    print(await asyncio.to_thread(sum, range(1000)))
asyncio.run(main())
""",
    "standard modules": """
import hashlib, json, random, re, sqlite3, struct, zlib, decimal, math, ssl, select, pty, os
print(hashlib.sha512(b"x" * 100000).hexdigest()[:20], zlib.crc32(b"abc"))
random.seed(5); print([random.random() for _ in range(3)], math.fsum([.1] * 10))
print(decimal.Decimal(2).sqrt(), json.dumps({"a": [1.5, None]}), struct.pack("<d", 2.5))
db = sqlite3.connect(":memory:")
print(db.execute("select sum(value) from json_each('[1,2]')").fetchall())
pid, fd = pty.fork()
if pid == 0: os.write(1, b"in a terminal %d\\n" % os.isatty(0)); os._exit(3)
shown = b""
while b"\\n" not in shown: shown += os.read(fd, 100)
print(shown, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
    "recursion": """
import sys, threading
sys.setrecursionlimit(100000); threading.stack_size(256 << 20)
def f(n): return 0 if n == 0 else 1 + f(n - 1)
t = threading.Thread(target=lambda: print(f(20000))); t.start(); t.join()
try:
    sys.setrecursionlimit(2000); f(5000)
except RecursionError as e: print(type(e).__name__)
""",
    "exit paths": """
import atexit, sys, threading
atexit.register(print, "bye")
threading.Thread(target=lambda: print("thread")).start()
sys.exit("message")
""",
}


@pytest.mark.parametrize("what", PYTHON)
@pytest.mark.parametrize("python", sorted({sys.executable, "/usr/bin/python3"}))
def test_python(python: str, what: str, tmp_path: Path, same: Callable[..., Outcome]) -> None:
    if not Path(python).exists():
        pytest.skip(f"{python} is not installed (apt-get install python3)")
    script = tmp_path / "script.py"
    script.write_text(PYTHON[what])
    assert same([python, str(script)]).stdout


RACKET = {
    "collector": """
(define (tree n) (if (zero? n) '() (cons (tree (- n 1)) (tree (- n 1)))))
(define (leaves t) (if (null? t) 1 (+ (leaves (car t)) (leaves (cdr t)))))
(displayln (for/sum ([i 5]) (leaves (tree 15))))
(displayln (vector-length (for/fold ([v #f]) ([i 20]) (make-vector 1000000 i))))
(collect-garbage) (displayln (bytes-length (make-bytes 10000000)))""",
    "exact arithmetic": "(displayln (exact->inexact (/ (for/fold ([p 1]) ([i (in-range 1 2000)])"
    " (* p i)) (expt 7 3000)))) (displayln (modulo (expt 3 100000) 1000007))",
    "continuations and exceptions": """
(displayln (call/cc (lambda (k) (for ([i 10]) (when (= i 7) (k i))) 'no)))
(displayln (with-handlers ([exn:fail? exn-message]) (vector-ref (vector 1) 5)))
(define p (make-parameter 1)) (displayln (list (p) (parameterize ([p 2]) (p))))
(displayln (with-handlers ([exn:break? (lambda (e) 'break)])
  (define t (current-thread)) (thread (lambda () (break-thread t))) (sync never-evt)))""",
    "sockets": """
(require racket/tcp)
(define l (tcp-listen 0 5 #t "127.0.0.1"))
(define-values (a port b c) (tcp-addresses l #t))
(thread (lambda () (define-values (i o) (tcp-accept l))
  (write-string (string-upcase (read-line i)) o)
  (close-output-port o)))
(define-values (i o) (tcp-connect "127.0.0.1" port))
(write-string "hello\\n" o) (flush-output o) (displayln (read-line i))""",
    "foreign calls": """
(require ffi/unsafe)
(define strlen (get-ffi-obj "strlen" #f (_fun _string -> _size)))
(displayln (strlen "twelve bytes"))
(define qsort (get-ffi-obj "qsort" #f (_fun _pointer _size _size
  (_fun _pointer _pointer -> _int) -> _void)))
(define v (malloc 'raw 20))
(for ([x '(5 3 1 4 2)] [i 5]) (ptr-set! v _int i x))
(qsort v 5 4 (lambda (a b) (- (ptr-ref a _int) (ptr-ref b _int))))
(displayln (for/list ([i 5]) (ptr-ref v _int i)))""",
    "subprocess with ports": """
(define-values (p out in err) (subprocess #f #f #f "/usr/bin/tr" "a-z" "A-Z"))
(write-string "to be upcased" in) (close-output-port in)
(displayln (read-line out)) (subprocess-wait p) (displayln (subprocess-status p))
(define-values (q o i e) (subprocess #f #f #f "/bin/sleep" "100"))
(subprocess-kill q #t) (subprocess-wait q) (displayln (positive? (subprocess-status q)))""",
    "files": """
(require racket/file)
(define f (make-temporary-file)) (display-lines-to-file '(a b c) f #:exists 'truncate)
(displayln (file->lines f)) (delete-file f) (displayln (file-exists? f))
(displayln (path->string (find-system-path 'exec-file)))""",
}


@pytest.mark.parametrize("what", RACKET)
def test_racket(what: str, same: Callable[..., Outcome]) -> None:
    result = same([program("racket"), "-e", RACKET[what]])
    assert result.stdout


def test_racket_places_and_futures(tmp_path: Path, same: Callable[..., Outcome]) -> None:
    source = tmp_path / "many.rkt"
    source.write_text("""#lang racket/base
(require racket/place racket/future)
(define (start n)
  (place/context ch
    (define v (place-channel-get ch))
    (place-channel-put ch (for/fold ([s 0]) ([i v]) (+ s i)))))
(module+ main
  (define ps (for/list ([i 3]) (start i)))
  (for ([p ps] [i 3]) (place-channel-put p (* 1000 (+ i 1))))
  (displayln (map place-channel-get ps))
  (displayln (map place-wait ps))
  (define fs (for/list ([i 4])
    (future (lambda () (for/fold ([x 0.5]) ([k 300000]) (* x (- 1.0 x) 3.9))))))
  (displayln (map touch fs))
  (define p (start 0)) (place-kill p) (displayln (place-wait p)))
""")
    result = same([program("racket"), str(source)])
    assert result.status == 0, result.stderr


Dialogue = list[tuple[str, str] | tuple[str, str, str]]


def in_the_foreground(child: Any, name: str) -> bool:
    """True if a process of this name leads the terminal's foreground group, and is not stopped."""
    leader = os.tcgetpgrp(child.child_fd)
    state = stat_of(leader)
    try:
        return Path(f"/proc/{leader}/comm").read_text() == f"{name}\n" and state[:1] != ["T"]
    except OSError:  # it has just ended
        return False


def session(argv: list[str], dialogue: Dialogue) -> tuple[bytes, Any, Any]:
    """Talk to a program at a pseudo-terminal: wait for a prompt, then send, and so on.

    Where an entry names a program, too, it waits until that has the terminal: a shell echoes a
    command before it has made the process that a key shall reach. Returns everything that was
    shown, and how the program ended.
    """
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "TERM": "dumb",
        "INPUTRC": "/dev/null",
        "LANG": "C.UTF-8",
    }
    child = pexpect.spawn(
        argv[0], argv[1:], env=environment, timeout=30 * SLOWNESS, dimensions=(24, 200)
    )
    child.delaybeforesend = 0.05  # after the prompt the program still has to begin reading
    shown = b""
    try:
        for expected, reply, *foreground in dialogue:
            child.expect(expected)
            shown += child.before + child.after
            deadline = time.monotonic() + 20 * SLOWNESS
            while not all(in_the_foreground(child, name) for name in foreground):
                assert time.monotonic() < deadline, f"{foreground} never had the terminal"
                time.sleep(0.02)
            child.send(reply)
        child.expect(pexpect.EOF)
        shown += child.before
        child.wait()
    except (pexpect.TIMEOUT, pexpect.EOF) as error:
        left = "\n".join(end_session(child.pid, 0))
        pytest.fail(f"{argv}: {error}\n{left}\nshown so far: {shown!r} {child.before!r}")
    finally:
        child.close(force=True)
    return shown, child.exitstatus, child.signalstatus


C, D, Z = "\x03", "\x04", "\x1a"
TERMINALS: dict[str, tuple[list[str], Dialogue]] = {
    "racket": (
        ["racket", "-q", "-i"],
        [
            ("> ", "(+ 1 2)\n"),
            ("> ", "(define (f x) (* x x))\n"),
            ("> ", "(f 12)\n"),
            ("> ", "(car '())\n"),
            ("> ", "(begin (displayln 'begun) (let l () (l)))\n"),
            ("begun\r\n", C),
            ("> ", "(begin (displayln 'sleeping) (sleep 100))\n"),
            ("sleeping\r\n", C),
            ("> ", "(read-line)\n"),
            ("> ", "(exit 5)\n"),
        ],
    ),
    "racket, end of input": (["racket", "-q", "-i"], [("> ", "'bye\n"), ("> ", D)]),
    "python": (
        ["python3", "-q"],
        [
            (">>> ", "1 + 2\n"),
            (">>> ", "import os; os.ttyname(0)[:8], os.get_terminal_size().columns\n"),
            (">>> ", "print('begun'); [None for i in iter(int, 1)]\n"),
            ("begun\r\n", C),
            (">>> ", "input('?')\n"),
            (r"\?", "answer\n"),
            (">>> ", "1 / 0\n"),
            (">>> ", D),
        ],
    ),
    "bash": (
        ["bash", "--norc", "--noprofile", "--noediting"],
        [
            (r"bash-.*[$#] ", "PS1='P> '\n"),
            (r"\nP> ", "sleep 100\n"),
            ("sleep 100\r\n", C, "sleep"),
            ("P> ", "echo $?\n"),
            ("P> ", "sleep 101\n"),
            ("sleep 101\r\n", Z, "sleep"),
            ("P> ", "jobs\n"),
            ("P> ", "fg\n"),
            ("fg\r\nsleep 101\r\n", Z, "sleep"),
            ("P> ", "bg >/dev/null; kill %1; wait %1; echo $?\n"),
            ("P> ", "cat\n"),
            ("cat\r\n", "line\n"),
            ("line\r\nline\r\n", D),
            ("P> ", "stty size; tty | cut -c1-8\n"),
            ("P> ", "exit 7\n"),
        ],
    ),
}


# Times and process numbers, and which of the two CPU-bound places Ctrl-C hit, are no difference.
UNSTABLE = re.compile(rb"\[\d+\] \d+|\d{4,}|context\.\.\.:.*?(?=> )", re.DOTALL)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("who", TERMINALS)
def test_terminal(who: str, hrt: Callable[..., Outcome]) -> None:
    """What a user sees at a terminal, byte for byte, Ctrl-C, Ctrl-Z and Ctrl-D included."""
    command, dialogue = TERMINALS[who]
    path = program(command[0])
    native = session([path, *command[1:]], dialogue)
    hybrid = session([str(core_path()), HRT, path, path, *command[1:]], dialogue)
    assert UNSTABLE.sub(b"~", hybrid[0]) == UNSTABLE.sub(b"~", native[0])
    assert hybrid[1:] == native[1:]


def test_interrupt_from_the_keyboard_ends_it(hrt: Callable[..., Outcome]) -> None:
    """Ctrl-C at a program without a handler: it dies of SIGINT, and so says its parent's wait."""
    for argv in (["/bin/sleep"], [str(core_path()), HRT, "/bin/sleep", "sleep"]):
        child = pexpect.spawn(argv[0], [*argv[1:], "100"], timeout=20 * SLOWNESS)
        pid = child.pid
        deadline = time.monotonic() + 20 * SLOWNESS
        while b"nanosleep" not in Path(f"/proc/{pid}/wchan").read_bytes():
            assert time.monotonic() < deadline, "it never slept"
            time.sleep(0.02)
        child.sendintr()
        child.expect(pexpect.EOF)
        child.wait()
        assert child.signalstatus == 2, argv
        child.close()


def test_stdin_is_read_as_natively(same: Callable[..., Outcome]) -> None:
    """A shell reads its script byte by byte, so that its children find the rest."""
    script = b"read line\nfirst\necho got $line\ncat\nthird\nfourth\n"
    result = same(["/bin/bash"], stdin=script)
    assert result.stdout == b"got first\nthird\nfourth\n"


def test_a_large_input_and_output(same: Callable[..., Outcome]) -> None:
    data = os.urandom(1 << 22)
    assert same(["/bin/cat"], stdin=data).stdout == data
    same(["/usr/bin/sort", "-R", "--random-source=/bin/bash"], stdin=data.hex().encode()[:100000])
