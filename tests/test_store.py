"""The one module that writes: whole or not there, verified when read, the lock of a dead process taken over."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from goodfit import lock, store
from goodfit.errors import RunError


def test_a_folder_comes_back_as_it_was_written(tmp_path: Path) -> None:
    files = {"a.json": b"{}", "b.bin": bytes(range(256)), "empty": b""}
    store.write_folder(tmp_path / "000010", files)
    assert store.read_folder(tmp_path / "000010") == files
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000010"]


def test_writing_again_replaces_the_folder(tmp_path: Path) -> None:
    store.write_folder(tmp_path / "model", {"a": b"old", "b": b"old"})
    store.write_folder(tmp_path / "model", {"a": b"new"})
    assert store.read_folder(tmp_path / "model") == {"a": b"new"}
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("place", range(0, 64, 7))
def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path, place: int) -> None:
    store.write_folder(tmp_path / "x", {"w": bytes(64)})
    path = tmp_path / "x" / "w"
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << (place % 8)
    path.write_bytes(bytes(content))
    with pytest.raises(RunError, match="damaged"):
        store.read_folder(tmp_path / "x")


@pytest.mark.parametrize("harm", ["truncate", "remove", "manifest"])
def test_the_newest_whole_checkpoint_is_used_and_the_damaged_one_set_aside(tmp_path: Path, harm: str) -> None:
    for step in (5, 10, 9):
        store.write_folder(tmp_path / f"{step:06d}", {"w": b"%d" % step})
    victim = tmp_path / "000010" / ("MANIFEST.json" if harm == "manifest" else "w")
    if harm == "truncate":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif harm == "remove":
        victim.unlink()
    else:
        victim.write_text("[not a manifest")
    found = store.newest(tmp_path)
    assert found is not None
    step, files, notes = found
    assert (step, files) == (9, {"w": b"9"})
    assert len(notes) == 1
    assert "000010.damaged" in notes[0]
    assert (tmp_path / "000010.damaged").is_dir()


def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    store.write_folder(tmp_path / "x", {"w": b"1"})
    secret = tmp_path / "secret"
    secret.write_bytes(b"1")
    manifest = json.loads((tmp_path / "x" / "MANIFEST.json").read_text())
    (tmp_path / "x" / "MANIFEST.json").write_text(json.dumps({"../secret": manifest["w"]}))
    with pytest.raises(RunError, match="no file of this folder"):
        store.read_folder(tmp_path / "x")


def test_a_full_disk_leaves_the_old_checkpoint_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_folder(tmp_path / "model", {"a": b"old"})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write_synced", full)
    with pytest.raises(RunError, match="No space left on device"):
        store.write_folder(tmp_path / "model", {"a": b"new"})
    with pytest.raises(RunError, match="No space left on device"):
        store.write_file(tmp_path / "f", b"x")
    monkeypatch.undo()
    assert store.read_folder(tmp_path / "model") == {"a": b"old"}
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False) | st.integers(0, 9)), max_size=6),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_metrics_are_the_longest_valid_prefix_wherever_the_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, float]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("m") / "metrics.jsonl"
    path.touch()
    for row in rows:
        store.append_line(path, row)
    whole = store.read_lines(path)
    assert len(whole) == len(rows)
    cut = data.draw(st.integers(0, path.stat().st_size))
    path.write_bytes(path.read_bytes()[:cut])
    found = store.read_lines(path)
    assert found == whole[: len(found)]
    store.cut_lines(path, len(found))
    store.append_line(path, {"next": 1})
    assert store.read_lines(path) == [*found, {"next": 1}]


def test_optimizer_state_survives_packing_exactly() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tensors, tree = store.pack_tree(optimizer.state_dict())
    again = store.unpack_tree(store.unpack_tensors(store.pack_tensors(tensors)), json.loads(json.dumps(tree)))
    old = optimizer.state_dict()
    assert again["param_groups"] == old["param_groups"]
    for key, state in old["state"].items():
        assert all(torch.equal(state[k], again["state"][key][k]) for k in state)


def test_a_lock_is_refused_while_its_owner_lives_and_taken_over_after(tmp_path: Path) -> None:
    script = (
        "import sys,time,pathlib;from goodfit import lock\n"
        "with lock.locked(pathlib.Path(sys.argv[1])):\n    print('held',flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(RunError, match=f"process {holder.pid}"), lock.locked(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with lock.locked(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock.json").exists()


def test_a_path_that_cannot_be_a_folder_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot be written"):
        store.probe(tmp_path / "file" / "run")


def test_values_that_are_not_finite_become_null_in_json(tmp_path: Path) -> None:
    store.write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": torch.tensor(2.0)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [None, 1.5], "c": 2.0}


def test_exported_csv_runs_no_formula(tmp_path: Path) -> None:
    store.write_table(tmp_path / "p.csv", pd.DataFrame({"prediction": ["=1+1", "@x", "fine"], "p": [0.5, -1.0, 0.0]}))
    assert (tmp_path / "p.csv").read_text().splitlines()[1:] == ["'=1+1,0.5", "'@x,-1.0", "fine,0.0"]


def test_equal_digests_mean_equal_bits() -> None:
    one = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([3], dtype=torch.int64)}
    assert store.weights_digest(one) == store.weights_digest({k: one[k].clone() for k in reversed(one)})
    assert store.weights_digest(one) != store.weights_digest({**one, "w": torch.tensor([1.0, 2.0000002])})
