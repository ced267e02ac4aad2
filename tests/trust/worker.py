"""Runs every hostile case in one process, watched by an audit hook that cannot be taken away; tells what it saw."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

PROGRAMS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "os.spawn",
    "pty.spawn",
)
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto", "urllib.Request")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """What happened while a case ran that must not."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.resolve())
        self.on = False
        self.children = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if (
            (event in PROGRAMS and not (self.children and self.is_reader(event, arguments)))
            or event in NETWORK
            or event in ("pickle.find_class")
        ):
            self.seen.append(f"{event} {arguments!r}"[:300])
        elif event == "open" and isinstance(arguments[0], str | bytes) and isinstance(arguments[2], int):
            if arguments[2] & WRITING and not self.inside(arguments[0]):
                self.seen.append(f"write {arguments[0]!r}")
        elif event in CHANGES and not all(self.inside(a) for a in arguments if isinstance(a, str)):
            self.seen.append(f"{event} {arguments!r}")

    def is_reader(self, event: str, arguments: tuple[Any, ...]) -> bool:
        """Whether this is the process of ours that reads foreign weights."""
        return event in ("subprocess.Popen", "os.posix_spawn", "os.fork") and (
            event != "subprocess.Popen" or list(arguments[1])[1:4] == ["-P", "-m", "goodfit.foreign"]
        )

    def inside(self, path: str | bytes) -> bool:
        full = os.path.realpath(os.fsdecode(path))
        return (
            full.startswith((self.root + os.sep, "/dev/null", "/dev/tty"))
            or full == self.root
            or "/__pycache__/" in full
        )


class TookTooLong(BaseException):
    """A case ran into the limit."""


def alarm(*_: Any) -> None:
    raise TookTooLong


def main() -> None:
    root, out, wanted = Path(sys.argv[1]).resolve(), Path(sys.argv[2]), sys.argv[3:]
    from goodfit import cli
    from goodfit.errors import GoodfitError
    from tests.trust import cases

    base = root / "base"
    os.chdir(root)
    done("goodfit", "train", "iris", "--quiet", "--out", str(base), "--set", "epochs=2", cli=cli)
    cases.BASE = base
    for library in ("transformers", "timm", "matplotlib.pyplot", "torchvision.models"):
        with contextlib.suppress(ImportError):
            __import__(library)
    watch = Watch(root)
    sys.addaudithook(watch)
    signal.signal(signal.SIGALRM, alarm)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + (4 << 30), held + (4 << 30)))
    told: dict[str, Any] = {}
    for number, one in enumerate(cases.CASES):
        if wanted and not any(word in one.name for word in wanted):
            continue
        folder = root / f"case{number}"
        folder.mkdir()
        os.chdir(folder)
        trap(folder)
        work = one.make(folder)
        watch.seen, watch.children = [], callable(work)
        before, began, out_text, err_text = set(sys.modules), time.monotonic(), io.StringIO(), io.StringIO()
        code: Any = None
        signal.alarm(30)
        watch.on = True
        try:
            with contextlib.redirect_stdout(out_text), contextlib.redirect_stderr(err_text):
                if callable(work):
                    work()
                    code = 0
                else:
                    sys.argv = ["goodfit", *work]
                    cli.main()
                    code = 0
        except SystemExit as stop:
            code = stop.code
        except GoodfitError as error:
            code = 2
            err_text.write(f"goodfit: {error}\n")
        except TookTooLong:
            code = "took more than 30 s"
        except BaseException:
            code = "traceback"
            err_text.write(traceback.format_exc())
        finally:
            watch.on = False
            signal.alarm(0)
        strange = [
            name
            for name in set(sys.modules) - before
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(root))
        ]
        marks = [str(p) for p in (folder / "pwned", folder.parent / "pwned", folder / "run" / "pwned") if p.exists()]
        told[one.name] = {
            "code": code,
            "out": out_text.getvalue()[:20000],
            "err": err_text.getvalue()[:20000],
            "seen": watch.seen + [f"import {name}" for name in strange] + [f"made {mark}" for mark in marks],
            "seconds": round(time.monotonic() - began, 2),
            "page": (folder / "page.html").read_text() if (folder / "page.html").exists() else "",
        }
    out.write_text(json.dumps(told, indent=1))


def trap(folder: Path) -> None:
    """Modules in the working folder that would be found by an import that looks there."""
    for name in ("evil", "torch", "pandas", "sitecustomize", "pickle", "yaml"):
        (folder / f"{name}.py").write_text("open('pwned', 'w').close()\n")


def done(*words: str, cli: Any) -> None:
    sys.argv = list(words)
    with contextlib.suppress(SystemExit):
        cli.main()


if __name__ == "__main__":
    main()
