"""Hostile files: each case makes some and says which command reads them, how it ends and what its one line says.

A case is a function of an empty folder; what it returns is done in that folder: words for the command line, or a
function to call. ``expect`` gives its exit status and a part of what is printed.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import torch
from PIL import Image

from goodfit import store
from goodfit.foreign import as_safetensors

Work = list[str] | Callable[[], Any]


class Case(NamedTuple):
    name: str
    make: Callable[[Path], Work]
    code: int
    says: str


CASES: list[Case] = []
BASE = Path()
COLUMNS = [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")]
ESC = "\x1b[31m\x1b]0;owned\x07"
RLO = "\u202egnp.exe"


def case(name: str, make: Callable[[Path], Work], code: int = 2, says: str = "") -> None:
    CASES.append(Case(name, make, code, says))


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.mark}'",)


# Recipes


def recipe(name: str, text: str | bytes, says: str, code: int = 2) -> None:
    def make(folder: Path) -> Work:
        (folder / "r.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["train", "iris", "--dry-run", "--quiet", "--recipe", "r.toml"]

    case(f"recipe {name}", make, code, says)


recipe("of two megabytes", "#" * 2_000_000, "larger than a megabyte")
recipe("of nested arrays", "epochs = " + "[" * 50_000, "nested deeper")
recipe("of nested arrays that close", "epochs = " + "[" * 5_000 + "]" * 5_000, "nested deeper")
recipe("of nested tables", "epochs = " + "{a=" * 5_000 + "1" + "}" * 5_000, "nested deeper")
recipe("of deep dotted keys", "a" + ".a" * 20_000 + " = 1", "nested deeper")
recipe("with zero bytes", b"epochs = 1\0", "not TOML")
recipe("that is not UTF-8", b"\xff\xfe\x00e", "not UTF-8")
recipe("that is half a line", "epochs = ", "not TOML")
recipe("with a number of ten thousand digits", "seed = " + "9" * 10_000, "not TOML")
recipe("with a negative length", "epochs = -3", "epochs")
recipe("with an infinite rate", "[optimizer]\nlr = inf", "optimizer.lr")
recipe("with a rate that is no number", "[optimizer]\nlr = nan", "optimizer.lr")
recipe("with a date for a length", "epochs = 1979-05-27", "epochs")
recipe("with a list for a name", "[model]\nname = ['mlp']", "unknown model")
recipe("with a table for a name", "[model.name]\nx = 1", "unknown model")
recipe("with a dotted path for a model", "[model]\nname = 'os.system'", "unknown model 'os.system'")
recipe("with a call for a model", '[model]\nname = \'__import__("os").system("touch pwned")\'', "unknown model")
recipe("with a dotted path for an optimizer", "[optimizer]\nname = 'torch.optim.Adam'", "unknown optimizer")
recipe("with a Python file for a model", "[model]\nname = 'custom:evil.py'", "unknown model")
recipe("with an import for a loss", "[loss]\nname = 'evil:loss'", "unknown loss")
recipe("with YAML for TOML", "model: !!python/object/apply:os.system ['touch pwned']", "not TOML")
recipe("with a run that is none for a model", "[model]\nname = 'run:.'", "no run folder")
recipe("with a run outside for inputs", "[data]\nlike = 'run:../../../etc'", "no")
recipe("with an unknown prefix for inputs", "[data]\nlike = 'file:///etc/passwd'", "names no pretrained model")
recipe("with a run that is none for a teacher", "[loss]\nname = 'distill'\nteacher = '/etc'", "no run folder")
recipe("with an own module for a teacher", "[loss]\nname = 'distill'\nteacher = 'custom:os'", "own module")
recipe("with an unknown section", "[exec]\ncommand = 'touch pwned'", "unknown key 'exec.command'")
recipe("with an unknown key of dunders", "[model]\n__class__ = 'x'", "__class__")
recipe("with control characters in a key", f'["{"x".join(["", ""])}\\u001b[31m"]\na = 1', "\\x1b[31m")
recipe("with markup in a name", "[model]\nname = '[bold red]x[/]'", "unknown model '[bold red]x[/]'")
recipe("with a hundred wrong keys", "\n".join(f"k{n} = 1" for n in range(100)), "100 problems")
recipe("with fifty thousand wrong keys", "\n".join(f"k{n} = 1" for n in range(50_000)), "100 problems")
recipe("with a header of a thousand parts", "[" + ".".join(["'a b'"] * 1000) + "]", "nested deeper")
recipe("with a huge seed", "seed = 99999999999999999999999999", "", 0)
recipe("with a share above one", "[data]\nvalid = 7.0", "data.valid")
recipe("with a column for a target that is not there", "[data]\ntarget = '../../etc/passwd'", "etc/passwd")


def test_part(folder: Path) -> Work:
    (folder / "t.csv").write_text("x,y\n" + "1,a\n2,b\n" * 30)
    return ["train", "t.csv", "--dry-run", "--test", "/dev/zero"]


case("recipe with a test part that is a device", test_part, 2, "pipe or a device")


def recipe_place(name: str, make: Callable[[Path], None], says: str) -> None:
    def work(folder: Path) -> Work:
        make(folder / "r.toml")
        return ["train", "iris", "--dry-run", "--recipe", "r.toml"]

    case(f"recipe {name}", work, 2, says)


recipe_place("that is a named pipe", os.mkfifo, "is no file")
recipe_place("that is a folder", Path.mkdir, "is no file")
recipe_place("that links to a device", lambda p: p.symlink_to("/dev/zero"), "is no file")
recipe_place("that links to itself", lambda p: p.symlink_to(p), "cannot be read")
for bad, said in (
    ("__class__.__init__=1", "unknown key"),
    ("model.name=os.system", "unknown model"),
    ("epochs=" + "[" * 5000, "epochs"),
    ("seed=" + "9" * 9000, "seed"),
    ("=1", "write it as key=value"),
):
    case(
        f"--set {bad[:20]}",
        lambda folder, bad=bad: ["train", "iris", "--dry-run", "--set", bad],  # type: ignore[misc]
        2,
        said,
    )


# Tables


def table(name: str, content: str | bytes, says: str, code: int = 2, file: str = "t.csv") -> None:
    def make(folder: Path) -> Work:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["check", file]

    case(f"table {name}", make, code, says)


ROWS = "".join(f"{n % 7},{n % 3 - 1},{'ab'[n % 2]}\n" for n in range(60))


def parquet(frame: pd.DataFrame | pa.Table) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame), out)
    return out.getvalue()


GOOD = pd.DataFrame({"x": range(60), "y": ["a", "b"] * 30})
table("of no bytes", "", "is empty")
table("of white space", " \n\n\n ", "nothing but white space")
table("of zeros", b"\0" * 5000, "no text")
table("with a header alone", "a,b,c\n", "no rows")
table("with ragged rows", "a,b\n" + "1,2\n1,2,3\n" * 30, "other numbers of fields")
table("with an open quotation mark", 'a,b\n1,"2\n' + "1,2\n" * 50, "only one class")
table("with a huge field", "x,y\n" + f"{'z' * 300_000},a\n" + "q,b\nr,a\n" * 30, "", 0)
table("with a header of one huge field", "x" * 300_000 + ",y\n" + "1,a\n2,b\n" * 30, "")
table("with one column", "y\n" + "a\nb\n" * 30, "")
table("of one row", "x,y\n1,a\n", "")
table("with one class", "x,y\n" + "1,a\n2,a\n" * 30, "")
table("with columns of one name", "x,x,x,y\n" + "1,2,3,a\n4,5,6,b\n" * 30, "several columns of one name", 0)
table("with NaN and infinity", "x,z,y\n" + "nan,inf,a\n1,-inf,b\n2,1e999,a\n" * 20, "", 0)
table("with formulas", "=cmd|' /C calc'!A0,y\n" + "=1+1,a\n@SUM(A1),b\n" * 30, "", 0)
table("in another encoding", b"x,y\n" + "é,a\nü,b\n".encode("cp1252") * 30, "Windows-1252", 0)
table("in broken UTF-16", b"\xff\xfe" + "x,y\n".encode("utf-16-le") + b"\x00\xd8\x00", "UTF-16")
table("in mixed encodings", b"x,y\n" + ("é,a\n".encode() + "ü,b\n".encode("cp1252")) * 30, "mixes encodings", 0)
table("with numbers of ten thousand digits", "x,y\n" + ("9" * 10_000 + ",a\n1,b\n") * 5 + "2,a\n3,b\n" * 30, "", 0)
table("with control characters", f"x{ESC},y\n" + f"1{ESC},a{ESC}\n2,b\n" * 30, "\\x1b", 0)
table("with zero bytes inside", b"x,y\n1\0,a\n2,b\n" * 30, "zero bytes")
table("that is a zip archive", b"PK\x03\x04" + b"\0" * 100, "zip archive")
table("of damaged gzip", b"\x1f\x8b" + b"\0" * 50, "damaged gzip", file="t.csv.gz")
table("of torn gzip", gzip.compress(b"x,y\n" + b"1,a\n2,b\n" * 3000)[:-20], "damaged gzip", file="t.csv.gz")
table("that is a gzip bomb", gzip.compress(b"\0" * (1 << 29)), "unfolds to more than", file="t.csv.gz")
table("of Parquet without an end", parquet(GOOD)[:-4], "no readable Parquet", file="t.parquet")
table(
    "of Parquet with a damaged footer",
    parquet(GOOD)[:-40] + b"\xff" * 32 + parquet(GOOD)[-8:],
    "Parquet",
    file="t.parquet",
)
table(
    "of Parquet with a huge footer length",
    parquet(GOOD)[:-8] + struct.pack("<I", 2**31) + b"PAR1",
    "Parquet",
    file="t.parquet",
)
table("of Parquet that is text", "hello\n" * 50, "no readable Parquet", file="t.parquet")
table(
    "of Parquet with flipped pages",
    bytes(b ^ 0x55 if 10 < n < 60 else b for n, b in enumerate(parquet(GOOD))),
    "",
    file="t.parquet",
)
table(
    "of Parquet that is a bomb",
    parquet(pa.table({"x": pa.array(np.zeros(60_000_000, np.int8)), "y": pa.array(np.zeros(60_000_000, np.int8))})),
    "that is no table",
    file="t.parquet",
)
table("of Parquet with lists", parquet(pa.table({"x": [[1, 2]] * 60, "y": ["a", "b"] * 30})), "", file="t.parquet")
table(
    "of Parquet with a pickled type",
    parquet(GOOD).replace(b"pandas", b"arrow."),
    "",
    file="t.parquet",
)
table("of unknown ending", b"\x7fELF" + b"\0" * 100, "cannot be read", file="t.bin")
table("of a pickled frame", __import__("pickle").dumps({"x": 1}), "cannot be read", file="t.pkl")
table("of text that is one line", "x" * 100_000, "", 0, file="t.txt")


def columns(folder: Path) -> Work:
    header = ",".join(f"c{n}" for n in range(100_000))
    (folder / "t.csv").write_text(header + "\n" + (",".join("1" * 100_000) + "\n") * 3)
    return ["check", "t.csv"]


case("table of 100,000 columns", columns, 2, "only one class")


def place(name: str, make: Callable[[Path], None], says: str, file: str = "t.csv") -> None:
    def work(folder: Path) -> Work:
        make(folder / file)
        return ["check", file]

    case(f"table {name}", work, 2, says)


place("that is a named pipe", os.mkfifo, "pipe or a device")
place("that links to a device", lambda p: p.symlink_to("/dev/zero"), "pipe or a device")
place("that links to itself", lambda p: p.symlink_to(p), "does not exist")
place("that is a folder", Path.mkdir, "holds neither")
case("table with a name of zero bytes", lambda folder: ["check", "a\0b.csv"], 2, "a\\x00b.csv does not exist")
case("table with a name of five thousand letters", lambda folder: ["check", "a" * 5000], 2, "")


def array(name: str, write: Callable[[Path], None], says: str, code: int = 2, file: str = "t.npz") -> None:
    def work(folder: Path) -> Work:
        write(folder / file)
        return ["check", file]

    case(f"arrays {name}", work, code, says)


def objects(path: Path) -> None:
    np.savez(path, X=np.array([Evil(path.parent / "pwned")] * 4, dtype=object), y=np.arange(4))


def npz_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("X.npy", "w", force_zip64=True) as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": (1 << 29,)})
        for _ in range(512):
            f.write(b"\0" * (1 << 20))


def npz_lie(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive, archive.open("X.npy", "w") as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})


def npz_code(path: Path) -> None:
    header = b"{'descr': __import__('os').system('touch pwned'), 'fortran_order': False, 'shape': (3,), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 24)


array("of objects", objects, "holds Python objects")
array("that are a bomb", npz_bomb, "unfolds to more than")
array("that declare a terabyte", npz_lie, "which it does not hold")
array("with code in a header", npz_code, "no readable NumPy file")
array("that are text", lambda p: p.write_text("hello") and None, "no readable NumPy file")
array("of no bytes", lambda p: p.write_bytes(b"") and None, "no readable NumPy file")
array("that are a torn zip", lambda p: p.write_bytes(b"PK\x03\x04" + b"\0" * 60) and None, "no readable NumPy file")
array("with names of paths", lambda p: np.savez(p, **{"../../X": np.zeros(3)}), "call the inputs 'X'")


# Images


def image_set(folder: Path) -> Path:
    for kind in "ab":
        (folder / "set" / kind).mkdir(parents=True)
        for number in range(12):
            pixels = np.random.default_rng(number + 100 * (kind == "b")).integers(0, 255, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "set" / kind / f"{number}.png")
    return folder / "set"


def image(name: str, content: Callable[[], bytes], says: str, file: str = "z.png", code: int = 0) -> None:
    def work(folder: Path) -> Work:
        (image_set(folder) / "a" / file).write_bytes(content())
        return ["check", "set"]

    case(f"image {name}", work, code, says)


def saved(mode: str = "RGB", form: str = "PNG", size: tuple[int, int] = (16, 16), **more: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, form, **more)
    return out.getvalue()


def bomb(width: int, height: int) -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def exif(orientation: Any) -> bytes:
    marks = Image.Exif()
    marks[0x0112] = orientation
    return saved(form="JPEG", exif=marks)


image("bomb of a billion pixels", lambda: bomb(40_000, 40_000), "more than")
image("of two billion pixels on a side", lambda: bomb(2**31 - 1, 2**31 - 1), "left out")
image("that is truncated", lambda: saved(size=(64, 64))[:60], "left out")
image("of no bytes", lambda: b"", "the file is empty")
image("that is text", lambda: b"hello" * 100, "not an image")
image("that is a script", lambda: b"#!/bin/sh\ntouch pwned\n", "not an image")
image(
    "that is PostScript",
    lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(touch pwned) system\n",
    "not an image",
)
image("with another ending", lambda: saved(form="JPEG"), "", "z.png")
image("with a nonsense orientation", lambda: exif(99), "", "z.jpg")
image("of 16 bits", lambda: saved("I;16"), "")
image("of four inks", lambda: saved("CMYK", "JPEG"), "", "z.jpg")
image("with a palette and transparency", lambda: saved("P", transparency=0), "")
image(
    "that is animated",
    lambda: saved(form="GIF", save_all=True, append_images=[Image.new("RGB", (16, 16), "red")] * 3),
    "",
    "z.gif",
)
image("of SVG", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "", "z.svg")
image("called with markup", lambda: saved(), "", "<img src=x onerror=alert(1)>.png")
image("called with control characters", lambda: b"", "\\x1b", f"z{ESC.replace('/', '')}.png")
image("called with a right-to-left mark", lambda: b"", "\\u202e", f"z{RLO}.png")
image("called by bytes that are no UTF-8", lambda: b"", "left out", os.fsdecode(b"z\xff\xfe.png"))


def image_place(name: str, make: Callable[[Path], None], code: int = 0, says: str = "") -> None:
    def work(folder: Path) -> Work:
        make(image_set(folder) / "a" / "z.png")
        return ["check", "set"]

    case(f"image {name}", work, code, says)


image_place("that is a named pipe", os.mkfifo)
image_place("that links to a device", lambda p: p.symlink_to("/dev/zero"))
image_place("that links to its own folder", lambda p: p.symlink_to(p.parent))
image_place("that is a folder", Path.mkdir)


def paths_in_a_table(folder: Path) -> Work:
    image_set(folder)
    os.mkfifo(folder / "pipe.png")
    names = ["pipe.png", "/dev/zero", "../" * 20 + "etc/passwd", "x\0y.png"]
    rows = [f"set/{k}/{n}.png,{k}" for k in "ab" for n in range(12)] + [f"{name},a" for name in names[:3]]
    (folder / "t.csv").write_text("file,y\n" + "\n".join(rows) + "\n")
    return ["check", "t.csv"]


case("image paths in a table that lead to a pipe, a device and outside", paths_in_a_table, 0, "")


# Foreign weights


def weights(name: str, make: Callable[[Path], None], says: str) -> None:
    def work(folder: Path) -> Work:
        make(folder / "w.pt")
        return lambda: as_safetensors(folder / "w.pt", folder / "w.safetensors")

    case(f"weights {name}", work, 2, says)


def rezipped(path: Path, change: Callable[[zipfile.ZipFile, zipfile.ZipFile], None]) -> None:
    torch.save({"a": torch.ones(4)}, path.with_suffix(".ok"))
    with zipfile.ZipFile(path.with_suffix(".ok")) as old, zipfile.ZipFile(path, "w") as new:
        change(old, new)


def copied(old: zipfile.ZipFile, new: zipfile.ZipFile, how: int = zipfile.ZIP_STORED) -> None:
    for one in old.namelist():
        new.writestr(one, old.read(one), how)


weights("that would run a command", lambda p: torch.save({"a": Evil(p.parent / "pwned")}, p), "it wants posix.system")
weights("that are a whole module", lambda p: torch.save(torch.nn.Linear(1, 1), p), "it wants torch.nn")
weights(
    "of a terabyte of one number", lambda p: torch.save({"a": torch.ones(1).expand(1 << 38)}, p), "share their numbers"
)
weights("that are one number", lambda p: torch.save(3, p), "holds a int")
weights("with a text among them", lambda p: torch.save({"a": torch.ones(1), "b": "x"}, p), "'b' is a str")
weights("that are sparse", lambda p: torch.save({"a": torch.eye(3).to_sparse()}, p), "no plain tensor")
weights(
    "in the old format",
    lambda p: torch.save({"a": torch.ones(1)}, p, _use_new_zipfile_serialization=False),
    "no zip archive",
)
weights(
    "that are a plain pickle",
    lambda p: p.write_bytes(__import__("pickle").dumps(Evil(p.parent / "pwned"))) and None,
    "no zip archive",
)
weights("that are text", lambda p: p.write_text("hello") and None, "no zip archive")
weights("that are a named pipe", os.mkfifo, "no file")
weights("that are compressed", lambda p: rezipped(p, lambda o, n: copied(o, n, zipfile.ZIP_DEFLATED)), "compressed")
weights(
    "with a program",
    lambda p: rezipped(p, lambda o, n: (copied(o, n), n.writestr("w/code/x.py", "1"))[0]),
    "TorchScript",
)
weights("without a pickle", lambda p: rezipped(p, lambda o, n: n.writestr("w/version", "3")), "no data.pkl")


def stretched(path: Path) -> None:
    torch.save({"a": torch.ones(4)}, path)
    raw = path.read_bytes()
    at = raw.index(b"PK\x01\x02")
    path.write_bytes(raw[: at + 24] + struct.pack("<I", 2**31) + raw[at + 28 :])


weights("whose zip declares two gigabytes", stretched, "")


# Names


def named(name: str, text: str, says: str = "") -> None:
    def work(folder: Path) -> Work:
        rows = [{text: n % 5, "other": f"{text}{n % 3}", "y": f"{text}{n % 2}"} for n in range(60)]
        pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
        return ["check", "t.csv", "--report", "page.html"]

    case(f"name {name}", work, 0, says)


named("of markup", "<script>alert(1)</script>")
named("of a handler", '" onmouseover="alert(1)')
named("of a closing style", "</style><img src=//evil>")
named("of a path", "../../../../var/pwned")
named("of an absolute path", "/etc/cron.d/pwned")
named("of control characters", f"x{ESC}y")
named("of a right-to-left mark", f"x{RLO}")
named("of line breaks", "a\r\nb\nc")
named("of rich's markup", "[bold red]x[/bold red][link=file:///etc]y[/link]")
named("of half a bracket", "[/")
named("of a template", "{{ 7*7 }}{% raw %}")
named("of a format", "{0.__class__.__mro__}%s%n")
named("of a formula", '=HYPERLINK("http://evil")')
named("of ten thousand letters", "n" * 10_000)
named("of the words of Python", "__import__('os').system('touch pwned')")
named("of a shell", "$(touch pwned)`touch pwned`;touch pwned")
named("of zero width", "\u200b\u200e\u2066")


# Run folders


def run(name: str, change: Callable[[Path], Any], words: list[str], says: str, code: int = 2) -> None:
    def work(folder: Path) -> Work:
        stranger = folder / "run"
        shutil.copytree(BASE, stranger)
        shutil.rmtree(stranger / "kept", ignore_errors=True)
        (stranger / "MANIFEST.json").unlink(missing_ok=True)
        pd.DataFrame(np.ones((2, 4)), columns=COLUMNS).to_csv(folder / "new.csv", index=False)
        change(stranger)
        return [words[0], "run", *words[1:]]

    case(f"run {name}", work, code, says)


def edited(file: str, *path: Any, value: Any) -> Callable[[Path], None]:
    """A change of one value in a JSON file; sealed anew where it has a seal."""

    def change(folder: Path) -> None:
        inside = tree = json.loads((folder / file).read_bytes())
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = value
        (folder / file).write_text(json.dumps(tree))

    return change


def written(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes(content) and None


def replaced(file: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / file
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path)

    return change


def model_of(**files: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        known = store.read_folder(folder / "model")
        store.write_folder(folder / "model", {**known, **{k.replace("__", "."): v for k, v in files.items()}})

    return change


def described(value: Any) -> Callable[[Path], None]:
    return model_of(architecture__json=json.dumps(value).encode())


PREDICT, REPORT, CHECK, TEST = ["predict", "new.csv"], ["report"], ["check"], ["test"]
run("without a change", lambda f: None, PREDICT, "prediction", 0)
run(
    "with a plan that links outside", replaced("plan.json", lambda p: p.symlink_to("/etc/passwd")), PREDICT, "is a link"
)
run(
    "with metrics that link outside",
    replaced("metrics.jsonl", lambda p: p.symlink_to("/etc/passwd")),
    REPORT,
    "is a link",
)
run(
    "with a report that links outside", replaced("report.html", lambda p: p.symlink_to("../pwned")), REPORT, "is a link"
)
run("with checkpoints that link outside", replaced("checkpoints", lambda p: p.symlink_to("/var")), CHECK, "is a link")
run("with a model that links outside", replaced("model", lambda p: p.symlink_to("/")), PREDICT, "is a link")
run("with a pipe for results", replaced("results.json", os.mkfifo), REPORT, "is a named pipe")
run("with a pipe nobody asked for", lambda f: os.mkfifo(f / "x"), CHECK, "is a named pipe")
run("with a pipe for data", replaced("data.json", os.mkfifo), PREDICT, "is a named pipe")
run("with folders in folders", lambda f: (f / "a/b/c/d/e/f/g/h").mkdir(parents=True), CHECK, "deeper")
run("with a plan of no bytes", written("plan.json", b""), PREDICT, "damaged")
run("with a plan that is a list", written("plan.json", b"[]"), PREDICT, "damaged or of another version")
run("with a plan of nested lists", written("plan.json", b"[" * 100_000), PREDICT, "damaged")
run("with a plan of nested tables", written("plan.json", b'{"a":' * 100_000), CHECK, "damaged")
run("with a plan that is not UTF-8", written("plan.json", b"\xff\xfe\xfa"), PREDICT, "damaged")
run("with a plan of a huge number", written("plan.json", b'{"choices": ' + b"9" * 10_000 + b"}"), PREDICT, "damaged")
run("with no classes", edited("plan.json", "data", "task", "classes", value=None), PREDICT, "damaged")
run("with other classes", edited("plan.json", "data", "task", "classes", value=["a"]), PREDICT, "")
run("with a million classes", edited("plan.json", "data", "task", "classes", value=["x"] * 1_000_000), PREDICT, "")
run(
    "with a shape of a terabyte",
    edited("plan.json", "data", "spec", "shape", value=[1 << 40]),
    PREDICT,
    "prediction",
    0,
)
run("with a negative shape", edited("plan.json", "data", "spec", "shape", value=[-4]), PREDICT, "prediction", 0)
run("with an unknown encoder", edited("data.json", "encoder", "kind", value="pickle"), PREDICT, "unknown encoder")
run(
    "with a class for an encoder", edited("data.json", "encoder", "kind", value="os.system"), PREDICT, "unknown encoder"
)
run("with an encoder that is a list", edited("data.json", "encoder", value=[]), PREDICT, "damaged")
run("with data that is null", written("data.json", b"null"), PREDICT, "damaged")
run(
    "with a path for a model",
    described({"name": "os.system", "settings": {}, "config": None}),
    PREDICT,
    "unknown model",
)
run("with a run for a model", described({"name": "run:..", "settings": {}, "config": None}), PREDICT, "run's model")
run(
    "with a model of the hub by timm",
    described({"name": "timm:x", "settings": {}, "config": {"architecture": "hf-hub:evil/x", "args": {}}}),
    PREDICT,
    "",
)
run(
    "with a billion layers",
    described({"name": "mlp", "settings": {"layers": 1_000_000_000}, "config": None}),
    PREDICT,
    "layers",
)
run(
    "with a width of a billion",
    described({"name": "mlp", "settings": {"width": 1_000_000_000}, "config": None}),
    PREDICT,
    "",
)
run("with a description that is a text", described("x"), PREDICT, "damaged")
run(
    "with settings that are unknown",
    described({"name": "mlp", "settings": {"__class__": 1}, "config": None}),
    PREDICT,
    "unknown key",
)
run("with weights of no bytes", model_of(model__safetensors=b""), PREDICT, "damaged tensors")
run(
    "with a huge header of weights",
    model_of(model__safetensors=struct.pack("<Q", 2**63) + b"{}"),
    PREDICT,
    "damaged tensors",
)
run(
    "with a header of 100 MB that is not there",
    model_of(model__safetensors=struct.pack("<Q", 10**8) + b"{}"),
    PREDICT,
    "damaged tensors",
)
run(
    "with offsets outside",
    model_of(
        model__safetensors=struct.pack("<Q", 64)
        + json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}}).encode().ljust(64)
    ),
    PREDICT,
    "damaged tensors",
)
run(
    "with a pickle for weights",
    model_of(model__safetensors=__import__("pickle").dumps(Evil(Path("pwned")))),
    PREDICT,
    "damaged tensors",
)
run(
    "with a manifest that leads outside",
    lambda f: (f / "model" / "MANIFEST.json").write_text('{"../../../etc/passwd": {"size": 1, "sha256": ""}}'),
    PREDICT,
    "is no file of this folder",
    0,
)
run(
    "with a manifest of zero bytes in names",
    lambda f: (f / "model" / "MANIFEST.json").write_text('{"a\\u0000b": {"size": 1, "sha256": ""}}'),
    PREDICT,
    "copy was used",
    0,
)
run(
    "with a manifest that is a number",
    lambda f: (f / "model" / "MANIFEST.json").write_text("7"),
    PREDICT,
    "no table of files",
    0,
)
run("with results that are a list", written("results.json", b"[1]"), REPORT, "cannot be used")
run("with results without metrics", written("results.json", b"{}"), REPORT, "cannot be used")
run(
    "with an infinite metric",
    lambda f: (f / "results.json").write_text(
        (f / "results.json").read_text().replace('"samples":', '"extra": 1e999, "samples":', 1)
    ),
    REPORT,
    "report.html",
    0,
)
run(
    "with a text for a metric",
    edited("results.json", "metrics", "accuracy", "value", value="<script>"),
    REPORT,
    "cannot be used",
)
run("with findings of another kind", written("findings.json", b'[{"rule": "x"}]'), CHECK, "damaged")
run(
    "with findings of no known severity",
    written("findings.json", b'[{"rule": "x", "severity": "evil", "message": "m"}]'),
    CHECK,
    "damaged",
)
run(
    "with findings of control characters",
    written(
        "findings.json",
        json.dumps([{"rule": "x", "severity": "error", "message": ESC, "where": RLO, "fix": "[bold]"}]).encode(),
    ),
    CHECK,
    "\\x1b",
    0,
)
run("with metrics of nested lists", written("metrics.jsonl", b"[" * 100_000 + b"\n"), REPORT, "report.html", 0)
run("with metrics that are a pickle", written("metrics.jsonl", b"\x80\x04" * 50), REPORT, "report.html", 0)
run(
    "with pictures from elsewhere",
    written("examples.json", b'{"1": {"image": "https://evil.example/x.png"}}'),
    REPORT,
    "report.html",
    0,
)
run("with a source that is a device", edited("data.json", "source", value="/dev/zero"), TEST, "pipe or a device")
run("with a source that is a secret", edited("data.json", "source", value="/etc/passwd"), TEST, "")
run("with a source of a shell", edited("data.json", "source", value="; touch pwned"), TEST, "")
