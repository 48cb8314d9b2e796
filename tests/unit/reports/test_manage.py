"""`src/runs.py` and `compare.py diff=`: a table of runs, notes and tags, what may be deleted, and what differs."""

import json

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fastscnn.reports.comparison.compare import compare
from fastscnn.reports.manage.actions import act
from fastscnn.runs.run import Run
from helpers import CONF, job, refused, write_run


def runs(root, **changes):
    config = OmegaConf.load(CONF / "runs.yaml")
    return act(OmegaConf.create({**config, "runs": str(root), **changes}))


def folder_of(root, run_id):
    return next(file.parent for file in root.rglob("run.json") if json.loads(file.read_text())["id"] == run_id)


def checkpoints(root, *ids):
    for run_id in ids:
        for name in ("best.ckpt", "last.ckpt"):
            file = folder_of(root, run_id) / "checkpoints" / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"x" * 1000)


def left(root, run_id):
    return sorted(path.name for path in (folder_of(root, run_id) / "checkpoints").glob("*.ckpt"))


@pytest.fixture
def several(tmp_path):
    """Ids: superseded, newest, failed, of another seed, a trial."""
    ids = [write_run(tmp_path, 0.5 + place / 100, started=place) for place in range(2)]
    ids.append(write_run(tmp_path, 0.4, 1, started=3, status="failed"))
    ids += [write_run(tmp_path, 0.6, seed, started=4 + seed) for seed in (2, 3)]
    checkpoints(tmp_path, *ids)
    return tmp_path, ids


def test_list_has_a_row_for_each_run_that_the_filter_leaves(several, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    root, ids = several
    runs(root, filter="status=failed")
    printed = capsys.readouterr().out
    assert "1 run" in printed
    assert ids[2] in printed
    assert ids[0] not in printed
    assert "40.00" in printed


def test_notes_and_tags_stand_in_the_record_and_can_be_filtered(several, capsys):
    root, ids = several
    runs(root, action="annotate", id=ids[1], note="for the paper")
    runs(root, action="tag", id=[ids[3], ids[4]], tags=["trial", "old"])
    runs(root, action="tag", id=ids[4], tags=["-old"])
    record = json.loads((folder_of(root, ids[1]) / "run.json").read_text())
    assert record["note"] == "for the paper"
    capsys.readouterr()
    runs(root, action="show", id=ids[4])
    assert '"tags": [\n    "trial"\n  ]' in capsys.readouterr().out
    with refused("id", fix="id="):
        runs(root, action="tag", tags="all")


def test_run_that_is_going_on_keeps_the_note_that_is_written_meanwhile(tmp_path):
    with job("logger=csv", f"paths.run_dir={tmp_path / 'run'}") as config, Run.create(config) as run:
        runs(tmp_path, action="annotate", note="look at this", id=run.record.data["id"])
        run.update(device="a CPU")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["note"], record["device"], record["status"]) == ("look at this", "a CPU", "finished")


def test_gc_deletes_nothing_before_it_is_asked_to_and_then_what_it_said(several, capsys):
    root, ids = several
    runs(root, action="tag", id=ids[4], tags="trial")
    capsys.readouterr()
    runs(root, action="gc")
    printed = capsys.readouterr().out
    assert all(left(root, run_id) == ["best.ckpt", "last.ckpt"] for run_id in ids)
    assert "nothing is deleted" in printed
    assert f"{ids[0]} superseded" in printed
    runs(root, action="gc", delete=True)
    assert [left(root, run_id) for run_id in ids] == [
        [],
        ["best.ckpt", "last.ckpt"],
        ["last.ckpt"],
        ["best.ckpt", "last.ckpt"],
        [],
    ]
    runs(root, action="gc", delete=True, id=ids[2])
    assert left(root, ids[2]) == [], "it is named"


def test_gc_leaves_what_a_comparison_counts_and_what_was_exported(several, capsys):
    root, ids = several
    runs(root, action="tag", id=[ids[3], ids[4]], tags="trial")
    (root / "compare").mkdir()
    (root / "compare" / "comparison.csv").write_text(f"id,group_label\n{ids[3]},fine\n{ids[0]},\n")
    (folder_of(root, ids[4]) / "model.onnx").write_bytes(b"x")
    runs(root, action="gc", delete=True)
    assert [left(root, ids[place]) for place in (0, 3, 4)] == [
        [],
        ["best.ckpt", "last.ckpt"],
        ["best.ckpt", "last.ckpt"],
    ]
    printed = capsys.readouterr().out
    assert "a comparison counts it" in printed
    assert "it was exported" in printed


def test_id_that_a_command_line_reads_as_a_number_is_refused_with_the_way_to_write_it(several):
    root, ids = several
    parsed = OverridesParser.create().parse_override("id=1e234567").value()
    assert isinstance(parsed, float), "the command line cannot name it without quotation marks"
    with refused("id", fix="id='1e23'"):
        runs(root, action="show", id=parsed)
    quoted = OverridesParser.create().parse_override(f"id='{ids[0]}'").value()
    runs(root, action="show", id=quoted)


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"action": "remove"}, "action"), ({"id": "zz"}, "id"), ({"action": "show"}, "id"), ({"action": "tag"}, "tags")],
)
def test_wrong_requests_are_one_sentence(several, changes, key):
    with refused(key):
        runs(several[0], **changes)


def test_diff_shows_what_differs_alone(several, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    root, ids = several
    for run_id, commit, version in ((ids[3], "a" * 40, "1.0"), (ids[4], "b" * 40, "1.0")):
        file = folder_of(root, run_id) / "run.json"
        record = json.loads(file.read_text()) | {"git": {"commit": commit}, "packages": {"file": "packages.txt"}}
        record["dataset"] |= {"fingerprint": f"9 frames {commit[:2]}"}
        file.write_text(json.dumps(record))
        (file.parent / "packages.txt").write_text(f"one=={version}\ntwo=={commit[:1]}\n")
    settings = OmegaConf.load(CONF / "compare.yaml")
    config = OmegaConf.create({**settings, "runs": str(root), "diff": [ids[3], ids[4]]})
    assert compare(config) is None
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if "│" in line]
    assert any("code" in row and "commit" in row and "a" * 40 in row for row in rows)
    assert any("packages" in row and "two" in row for row in rows)
    assert not any("one" in row for row in rows)
    assert any("fingerprint" in row and "9 frames aa" in row for row in rows)
    assert any("config" in row and "seed" in row for row in rows)
    assert not (root / "compare").exists()
    nowhere = {"runs": str(root / "none")}
    elsewhere = nowhere | {"diff": [str(folder_of(root, run_id)) for run_id in ids[3:]]}
    capsys.readouterr()
    assert compare(OmegaConf.merge(config, elsewhere)) is None
    assert ids[3] in capsys.readouterr().out, "runs' own folders need no runs=DIR"
    with refused("diff", "/none/a"):
        compare(OmegaConf.merge(config, nowhere | {"diff": ["/none/a", "/none/b"]}))
    with refused("diff", "zz"):
        compare(OmegaConf.merge(config, {"diff": ["zz", ids[3]]}))
