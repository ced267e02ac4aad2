"""Secrets stay out of run folders, pages run nothing, and weights of others are read as numbers alone."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
import torch

from goodfit.errors import ModelError
from goodfit.foreign import as_safetensors
from goodfit.models import build
from goodfit.report.template import policy, template
from goodfit.store import unpack_tensors
from goodfit.types import InputSpec
from tests.models.saved import save_bert, save_timm

PACKAGE = Path(__file__).parents[2] / "goodfit"


def test_no_secret_of_the_environment_reaches_a_run_folder_or_the_screen(tmp_path: Path) -> None:
    secrets = {
        name: f"s3cr3t-{name.lower()}" for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "MY_PASS")
    }
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text('[remote "origin"]\n url = https://me:s3cr3t-remote@example.com/x.git\n')
    (tmp_path / ".env").write_text("KEY=s3cr3t-dotenv\n")
    command = [sys.executable, "-m", "goodfit", "train", "iris", "--set", "epochs=1", "--out", "r"]
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    python = {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **secrets, **places, **python}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    files = [path for path in (tmp_path / "r").rglob("*") if path.is_file()]
    assert len(files) > 10
    for content in (done.stdout, done.stderr, *(path.read_bytes() for path in files)):
        assert b"s3cr3t" not in content


@pytest.mark.parametrize("name", ["page.html", "checked.html", "answer.html"])
def test_every_page_allows_its_own_style_and_nothing_else(name: str) -> None:
    made = template(name, amount=str, cost=str, number=str)
    source = (PACKAGE / "report" / name).read_text(encoding="utf-8")
    said = str(made.globals["policy"])
    assert '<meta http-equiv="Content-Security-Policy" content="{{ policy }}">' in source
    assert source.index("Content-Security-Policy") < source.index("<title>")
    assert said.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in said
    for style in re.findall(r"<style>(.*?)</style>", source, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in said


def test_no_template_has_a_handler_a_style_attribute_or_something_from_elsewhere() -> None:
    pages = sorted((PACKAGE / "report").glob("*.html"))
    assert len(pages) >= 4
    for path in pages:
        text = path.read_text(encoding="utf-8")
        tags = re.findall(r"<\w[^>]*>", text)
        assert not [tag for tag in tags if re.search(r"\s(on\w+|style)\s*=|https?://|javascript:", tag)], path.name
        assert "|safe" not in text.replace(" ", "")
        assert "autoescape" not in text


def test_a_policy_of_a_page_with_a_script_names_its_hash() -> None:
    digest = base64.b64encode(hashlib.sha256(b"go()").digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy("<script>go()</script>")
    assert jinja2.Environment(autoescape=True).from_string("{{ p }}").render(p=policy("")).count("&#39;none&#39;") == 5


def calls(path: Path) -> set[str]:
    """The names of everything that a source file calls, with the module they are called on."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_the_package_holds_no_reader_that_runs_what_it_reads() -> None:
    """``check`` runs the user's own program, and pickles are read in ``foreign`` alone."""
    banned = re.compile(
        r"(eval|exec|__import__|(pickle|dill|joblib|yaml|marshal)\.\w+|torch\.load|(pd|pandas)\.read_pickle)"
    )
    allowed = {"foreign.py": {"torch.load"}, "program.py": set()}
    for path in PACKAGE.rglob("*.py"):
        found = {name for name in calls(path) if banned.fullmatch(name)} - allowed.get(path.name, set())
        assert not found, f"{path}: {found}"
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"allow_pickle=True|trust_remote_code=True|weights_only=False|shell=True", text), path


def test_tensors_of_a_pickle_come_through_bit_by_bit(tmp_path: Path) -> None:
    made = {"a": torch.randn(3, 4), "b": torch.arange(5), "c": torch.randn(2).bfloat16(), "t": torch.randn(4, 2).T}
    torch.save({"state_dict": made, "epoch": 3}, tmp_path / "w.pt")
    as_safetensors(tmp_path / "w.pt", tmp_path / "w.safetensors")
    found = unpack_tensors((tmp_path / "w.safetensors").read_bytes())
    assert found.keys() == made.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in made.items())


def test_a_reader_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="took more than"):
        as_safetensors(tmp_path / "w.pt", tmp_path / "w.safetensors", seconds=0.01)  # type: ignore[arg-type]
    assert not (tmp_path / "w.safetensors").exists()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_a_saved_model_with_pickled_weights_is_read_and_one_with_a_program_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="an optional extra")
    text = InputSpec("text", (6,), vocabulary=12)
    folder = save_bert(tmp_path / "bert")
    expected = build(f"hf:{folder}", {}, text, 3).state_dict()
    torch.save(unpack_tensors((folder / "model.safetensors").read_bytes()), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found = build(f"hf:{folder}", {}, text, 3).state_dict()
    assert all(torch.equal(found[n], v) for n, v in expected.items() if n.startswith("backbone"))
    torch.save({"a": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"it wants posix\.system"):
        build(f"hf:{folder}", {}, text, 3)
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_attn_implementation": "evil/kernel"}, "code from the hub"),
        ({"attn_implementation": "evil/kernel"}, "code from the hub"),
        ({"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}, "model_type": "evil"}, "cannot load"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised|cannot load"),
    ],
)
def test_a_configuration_that_asks_for_code_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    pytest.importorskip("transformers", reason="an optional extra")
    folder = save_bert(tmp_path / "bert")
    (folder / "evil.py").write_text("open('pwned', 'w')\n")
    values = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**values, **change}))
    try:
        build(f"hf:{folder}", {}, InputSpec("text", (6,), vocabulary=12), 3)
    except ModelError as error:
        assert re.search(said, str(error))
    else:
        assert "_attn_implementation" in change, "transformers takes no private key from a file"
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "hf-hub:evil/model"}, "no model of timm's own"),
        ({"architecture": "local-dir:/"}, "no model of timm's own"),
        ({"model_args": {"checkpoint_path": "evil.pth"}}, "checkpoint_path"),
        ({"model_args": {"pretrained_cfg": {"url": "https://evil.example"}}}, "pretrained_cfg"),
    ],
)
def test_a_description_of_timms_that_leads_elsewhere_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    pytest.importorskip("timm", reason="an optional extra")
    folder = save_timm(tmp_path / "saved")
    values = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**values, **change}))
    with pytest.raises(ModelError, match=said):
        build(f"timm:{folder}", {}, InputSpec("image", (3, 32, 32)), 3)
