"""Comparing runs from their records: means, differences, the paper's tables, filters."""

import csv
import io
import json

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from scipy import stats

from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.models.peers import PEERS
from fastscnn.reports import paper
from fastscnn.reports.comparison import tables
from fastscnn.reports.comparison.compare import build, choose_baselines, compare, filtered
from fastscnn.reports.comparison.groups import PLAIN_EXPERIMENTS, default_baselines, difference, group_runs
from fastscnn.reports.comparison.records import read_all
from fastscnn.reports.comparison.write import markdown, run_csv
from fastscnn.runs.identity import GROUPS
from helpers import COMPARE_SETTINGS, CONF, change_run, refused, write_evaluation, write_run


def groups_of(root):
    return group_runs(read_all([root])[0])


def column(table, title):
    place = list(table.columns).index(title)
    return {row[0]: row[place] for row in table.rows}


def test_runs_that_differ_in_the_seed_alone_are_one_group_with_numpys_mean_and_deviation(tmp_path):
    for seed, miou in enumerate((0.61, 0.64, 0.66)):
        write_run(tmp_path, miou, seed, overrides={"data.num_workers": str(seed), "paths.run_dir": f"d{seed}"})
    write_run(tmp_path, 0.5, 0, skip="zero")
    write_run(tmp_path, 0.9, 0, overrides={"trainer.max_epochs": "3"})
    groups = groups_of(tmp_path)
    assert sorted(len(group.runs) for group in groups) == [1, 1, 3]
    assert {group.label for group in groups} == {"fine", "fine trainer.max_epochs=3", "fine-skip_zero"}
    table = tables.seeds_table(groups, {}, "val/miou")
    values = np.array([61.0, 64.0, 66.0])
    assert column(table, "best val/miou %")["fine"] == f"{values.mean():.2f} ± {values.std(ddof=1):.2f} (3)"


def test_difference_over_the_same_seeds_is_paired_as_scipys():
    ours, base = {0: 61.0, 1: 64.5, 2: 66.0}, {0: 60.0, 1: 64.0, 2: 63.5}
    found = difference(ours, base)
    expected = stats.ttest_rel([61.0, 64.5, 66.0], [60.0, 64.0, 63.5]).confidence_interval(0.95)
    assert found.how == "paired"
    assert found.mean == pytest.approx(4 / 3)
    assert found.interval == pytest.approx((expected.low, expected.high))


def test_difference_over_other_seeds_is_welchs_as_scipys():
    ours, base = {0: 61.0, 1: 64.5, 2: 66.0}, {5: 60.0, 6: 64.0}
    found = difference(ours, base)
    expected = stats.ttest_ind(list(ours.values()), list(base.values()), equal_var=False).confidence_interval(0.95)
    assert found.how == "Welch"
    assert found.mean == pytest.approx(np.mean([61.0, 64.5, 66.0]) - 62.0)
    assert found.interval == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("seeds", [(0, 1), (7, 8)])
def test_difference_without_any_spread_is_a_point(seeds):
    found = difference(dict.fromkeys(seeds, 61.0), {0: 60.0, 1: 60.0})
    assert found.interval == (1.0, 1.0)


def test_single_seed_has_a_difference_but_no_interval():
    found = difference({0: 61.0}, {0: 60.0, 1: 62.0})
    assert (found.mean, found.interval) == (0.0, None)
    assert "1 seed: no interval" in str(found)
    assert difference({}, {0: 1.0}) is None


def test_newest_of_two_runs_with_one_seed_counts_and_failed_ones_do_not(tmp_path):
    write_run(tmp_path, 0.60, 0, started=1)
    write_run(tmp_path, 0.70, 0, started=2)
    write_run(tmp_path, 0.99, 1, started=3, status="failed")
    (group,) = groups_of(tmp_path)
    assert group.values("val/miou") == {0: pytest.approx(70.0)}
    assert len(group.superseded) == 1
    assert "not counted: 00000000" in tables.seeds_table([group], {}, "val/miou").caption


def test_each_kind_of_data_has_its_own_default_baseline_and_one_can_be_named(tmp_path):
    write_run(tmp_path, 0.5, data="fine_coarse")
    write_run(tmp_path, 0.6)
    write_run(tmp_path, 0.4, skip="zero")
    write_run(tmp_path, 0.3, place="streets", skip="zero")
    groups = groups_of(tmp_path)
    assert {place: group.label for place, group in default_baselines(groups, "val/miou").items()} == {
        "Cityscapes": "fine",
        "synthetic streets": "fine-skip_zero place=synthetic streets",
    }
    assert choose_baselines(groups, {"data": "fine_coarse"}, "val/miou")["Cityscapes"].label == "fine_coarse"
    assert choose_baselines(groups, "fine", "val/miou")["Cityscapes"].label == "fine"
    with refused("baseline", "fina", fix="fine_coarse"):
        choose_baselines(groups, "fina", "val/miou")
    with refused("baseline", "several"):
        choose_baselines(groups, {"skip": "zero"}, "val/miou")


def test_table_8_stands_beside_the_papers_numbers_and_is_blank_where_nothing_was_run(tmp_path):
    write_run(tmp_path, 0.6862, 0)
    write_run(tmp_path, 0.6922, 0, data="fine_coarse", pretrain="imagenet")
    write_run(tmp_path, 0.10, 0, skip="zero", pretrain="imagenet")
    write_run(tmp_path, 0.33, 0, place="streets", test=0.31)
    table = tables.table_8(groups_of(tmp_path))
    assert [float(row[1]) for row in table.rows] == [68.62, 69.15, 69.22, 69.19]
    assert list(column(table, "ours, Cityscapes: val").values()) == ["68.62", "", "", "69.22"]
    assert list(column(table, "ours, synthetic streets: val").values()) == ["33.00", "", "", ""]
    assert "not comparable" in table.caption


def test_skip_table_takes_evaluations_of_the_default_networks(tmp_path):
    first, second = write_run(tmp_path, 0.69, 0), write_run(tmp_path, 0.70, 1)
    other = write_run(tmp_path, 0.5, 0, activation="relu6")
    for run, kept, cut in ((first, 0.69, 0.64), (second, 0.70, 0.66), (other, 0.5, 0.1)):
        write_evaluation(tmp_path, run, kept)
        write_evaluation(tmp_path, run, 0.0, skip="zero")
        write_evaluation(tmp_path, run, cut, skip="zero")  # the newer one counts
    write_run(tmp_path, 0.62, 0, skip="zero")
    runs, evaluations, _ = read_all([tmp_path])
    published, ours = tables.skip_table(group_runs(runs), evaluations).rows
    assert published[1:3] == ["69.22", "64.30"]
    assert ours[1:] == ["69.50 ± 0.71 (2)", "65.00 ± 1.41 (2)", "62.00"]


def test_table_7_tells_training_at_a_resolution_from_applying_a_network_to_it(tmp_path):
    run = write_run(tmp_path, 0.68)
    write_run(tmp_path, 0.63, resolution="half")
    write_evaluation(tmp_path, run, 0.5, resolution="half")
    runs, evaluations, _ = read_all([tmp_path])
    rows = tables.table_7(group_runs(runs), evaluations).rows
    assert [row[1:] for row in rows] == [
        ["68.0", "123.5", "68.00", "68.00"],
        ["62.8", "285.8", "63.00", "50.00"],
        ["51.9", "485.4", "", ""],
    ]


@pytest.mark.parametrize("other", [{"dataset": {"name": "fine", "synthetic": True}}, {"data": "camvid"}])
def test_evaluation_on_other_data_than_the_runs_own_is_not_its_number(tmp_path, other):
    run = write_run(tmp_path, 0.69)
    write_evaluation(tmp_path, run, 0.64, skip="zero", dataset={"name": "fine", "synthetic": False})
    write_evaluation(tmp_path, run, 0.11, skip="zero", **other)
    runs, evaluations, _ = read_all([tmp_path])
    assert tables.skip_table(group_runs(runs), evaluations).rows[1][2] == "64.00"


def test_evaluation_of_an_older_form_is_found_by_its_checkpoints_folder(tmp_path):
    run = write_run(tmp_path, 0.6)
    (folder,) = (path.parent for path in tmp_path.rglob("run.json"))
    write_evaluation(tmp_path, None, 0.5, skip="zero", checkpoint=str(folder / "checkpoints" / "best.ckpt"))
    _, (evaluation,), _ = read_all([tmp_path])
    assert evaluation.run == run


def test_tables_compare_runs_of_equal_settings_only_and_say_which(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, 0.6, seed, overrides={"trainer.max_epochs": "20"})
    write_run(tmp_path, 0.9, 0, started=9)
    write_run(tmp_path, 0.7, 0, pretrain="imagenet", overrides={"trainer.max_epochs": "40"})
    groups = groups_of(tmp_path)
    assert list(column(tables.table_8(groups), "ours, Cityscapes: val").values()) == ["60.00 ± 0.00 (2)", "", "", ""]
    write_run(
        tmp_path, 0.65, 0, pretrain="imagenet", overrides={"trainer.max_epochs": "20", "pretrain.checkpoint": "x.pth"}
    )
    table = tables.table_8(groups_of(tmp_path))
    assert list(column(table, "ours, Cityscapes: val").values())[:2] == ["60.00 ± 0.00 (2)", "65.00"]
    assert "Cityscapes: trainer.max_epochs=20" in table.caption


LONG, SHORT = {"trainer.max_epochs": 3, "optimizer.lr": 0.045}, {"trainer.max_epochs": 1, "optimizer.lr": 0.045}


def test_groups_of_unlike_settings_have_no_difference_but_the_name_of_what_differs(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, 0.6 + 0.01 * seed, seed)
        write_run(tmp_path, 0.5, seed, overrides={"trainer.max_epochs": "1"})
        write_run(tmp_path, 0.4, seed, skip="zero")
    groups = groups_of(tmp_path)
    table = tables.seeds_table(groups, default_baselines(groups, "val/miou"), "val/miou")
    found = column(table, "difference")
    assert found["fine trainer.max_epochs=1"] == "not compared: trainer.max_epochs 1, unset"
    assert "[" in found["fine-skip_zero"] and "paired" in found["fine-skip_zero"]


def test_settings_that_no_command_line_names_are_compared_too(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, 0.6 + 0.01 * seed, seed, settings=LONG, overrides={"trainer.max_epochs": "3"})
        write_run(tmp_path, 0.5, seed, skip="zero", settings=SHORT | {"model.skip": "zero"})
        write_run(tmp_path, 0.4, seed, pretrain="imagenet", settings=LONG)
    groups = groups_of(tmp_path)
    table = tables.seeds_table(groups, default_baselines(groups, "val/miou"), "val/miou")
    found = column(table, "difference")
    assert found["fine-skip_zero"] == "not compared: trainer.max_epochs 1, 3"
    assert "paired" in found["fine-pretrain_imagenet"], "what the command line says of a default makes no difference"
    assert column(tables.skip_table(groups, []), "trained without it").get("ours, Cityscapes val", "") == ""
    assert "Left out: fine-skip_zero" in tables.table_8(groups).caption


def test_word_that_stood_for_other_numbers_is_another_setting(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, 0.6, seed, settings=LONG | {"trainer.max_epochs": "auto"})
        write_run(
            tmp_path, 0.5, seed, skip="zero", settings=LONG | {"trainer.max_epochs": "auto", "model.skip": "zero"}
        )
    for folder in {path.parent for path in tmp_path.rglob("run.json")}:
        change_run(folder, settled={"trainer.max_epochs": 4 if "zero" in str(folder) else 12})
    groups = groups_of(tmp_path)
    found = column(tables.seeds_table(groups, default_baselines(groups, "val/miou"), "val/miou"), "difference")
    assert found["fine-skip_zero"] == "not compared: trainer.max_epochs 4, 12"


def test_group_that_mixes_settings_is_not_compared_unless_it_groups_by_them(tmp_path):
    for seed in (0, 1):
        for skip in ("keep", "zero"):
            write_run(tmp_path, 0.6 + 0.01 * seed, seed, skip=skip, overrides={"optimizer.lr": f"0.{seed + 1}"})
    runs, evaluations, _ = read_all([tmp_path])
    mixed, _ = build(runs, evaluations, COMPARE_SETTINGS | {"group_by": ["skip"]}, [])
    assert "not compared: optimizer.lr 0.1, 0.2" in column(mixed.tables[0], "difference").values()
    apart, _ = build(runs, evaluations, COMPARE_SETTINGS | {"group_by": ["optimizer.lr"]}, [])
    assert any("not compared: skip" in cell for cell in column(apart.tables[0], "difference").values())
    both, _ = build(runs, evaluations, COMPARE_SETTINGS | {"group_by": ["skip", "optimizer.lr"]}, [])
    assert not any("not compared" in cell for cell in column(both.tables[0], "difference").values())


def test_runs_that_started_from_two_files_are_two_groups_that_table_8_does_not_mix(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path, 0.60, seed)
        write_run(tmp_path, 0.62, seed, pretrain="imagenet", weights="a" * 64)
        write_run(tmp_path, 0.70, seed, pretrain="imagenet", weights="b" * 64)
        write_run(tmp_path, 0.64, seed, pretrain="imagenet", data="fine_coarse", weights="a" * 64)
    groups = groups_of(tmp_path)
    assert sorted(len(group.runs) for group in groups) == [2, 2, 2, 2]
    table = tables.table_8(groups)
    assert list(column(table, "ours, Cityscapes: val").values()) == [
        "60.00 ± 0.00 (2)",
        "62.00 ± 0.00 (2)",
        "",
        "64.00 ± 0.00 (2)",
    ]
    assert "pretrain.sha256=aaaaaaaa" in table.caption


def write_peer(root, model, miou, category, **settings):
    """As `train.py model=NAME` records it: skip and activation are no choices of a peer."""
    run_id = write_run(root, miou, model=model, **settings)
    (path,) = (path for path in root.rglob("run.json") if json.loads(path.read_text())["id"] == run_id)
    record = json.loads(path.read_text())
    for group in ("skip", "activation"):
        del record["choices"][group]
    record["metrics"]["best"] |= {"val/category_miou": category, "val/iou/road": 0.9}
    path.write_text(json.dumps(record))


def test_peer_that_was_trained_here_stands_in_its_own_row_of_table_4(tmp_path):
    long = {"overrides": {"trainer.max_epochs": "20"}}
    write_run(tmp_path, 0.68, 0, **long)
    for seed in (0, 1):
        write_peer(tmp_path, "contextnet", 0.65 + 0.02 * seed, 0.81, seed=seed, **long)
    write_peer(tmp_path, "segnet", 0.55, 0.78, **long)
    write_peer(tmp_path, "enet", 0.99, 0.99)  # of other settings than Fast-SCNN's
    table = tables.table_4(groups_of(tmp_path))
    assert column(table, "ours, Cityscapes, val: class") == {
        **{model.name: "" for model in paper.TABLE_4},
        "Fast-SCNN": "68.00",
        "ContextNet": "66.00 ± 1.41 (2)",
        "SegNet": "55.00",
    }
    assert column(table, "category")["SegNet"] == "78.00"
    assert "pytorchcv" in table.caption
    classes = tables.table_5(groups_of(tmp_path))
    assert column(classes, "ours, Cityscapes, val: ContextNet")["road"] == "90.00 ± 0.00 (2)"
    assert column(classes, "ours, Cityscapes, val")["road"] == ""


def test_without_a_peer_the_tables_speak_of_none(tmp_path):
    write_run(tmp_path, 0.68)
    table = tables.table_5(groups_of(tmp_path))
    assert [name for name in table.columns if name.startswith("ours")] == ["ours, Cityscapes, val"]
    assert "pytorchcv" not in table.caption + tables.table_4(groups_of(tmp_path)).caption


def test_peers_of_table_4_are_trained_here_under_the_names_of_their_configs():
    for model in paper.TABLE_4:
        if model.option in PEERS:
            assert PEERS[model.option].paper_name == model.name
    trained = {model.option for model in paper.TABLE_4} - {None}
    assert trained == {GROUPS["model"], *PEERS} - {"pytorchcv_fastscnn"}
    assert all((CONF / "model" / f"{option}.yaml").exists() for option in trained)


def test_experiments_that_only_choose_groups_are_those_that_say_nothing_else():
    plain = set()
    for path in (CONF / "experiment").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        groups = {key.removeprefix("override /") for default in content.get("defaults", []) for key in default}
        if set(content) == {"defaults"} and groups <= set(GROUPS):
            plain.add(path.stem)
    assert plain == PLAIN_EXPERIMENTS


def test_published_numbers_are_consistent_with_each_other():
    assert tuple(CITYSCAPES.names) == paper.CLASSES
    for model in ("ContextNet", "Fast-SCNN"):
        mean = np.mean(list(paper.TABLE_5[model].values()))
        (published,) = (row.class_miou for row in paper.TABLE_4 if row.name == model)
        assert mean == pytest.approx(published, abs=0.06)
    assert paper.TABLE_7[0].class_miou == paper.TABLE_4[-1].class_miou
    assert paper.SKIP["keep"] == paper.TABLE_8["fine_coarse", "none"][1]


def test_broken_records_are_named_and_left_out(tmp_path):
    write_run(tmp_path, 0.6)
    for name, text in (("torn", '{"id": '), ("other", '{"id": "x"}'), ("list", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    runs, _, warnings = read_all([tmp_path])
    assert len(runs) == 1
    assert len(warnings) == 3
    assert any("torn" in warning for warning in warnings)


def test_curve_holds_each_validation_once_in_epochs_and_steps_done(tmp_path):
    rows = ["9,0.5,,", "10,,0,0.25", "19,0.4,,", "20,,1,0.5", "20,,1,0.5"]
    write_run(tmp_path, 0.5, rows=rows)
    (run,) = read_all([tmp_path])[0]
    curve = run.curve("val/miou")
    assert (list(curve.epochs), list(curve.steps), list(curve.values)) == ([1, 2], [10, 20], [25, 50])
    assert not run.curve("val/other").values


def test_filter_keeps_what_it_names_and_tells_what_there_is(tmp_path):
    for seed in range(3):
        write_run(tmp_path, 0.6, seed)
    write_run(tmp_path, 0.6, 0, skip="zero", overrides={"optimizer.lr": "0.1"})
    runs = read_all([tmp_path])[0]
    assert len(filtered(runs, {"seed": [0, 2], "skip": "keep"})) == 2
    assert len(filtered(runs, {"optimizer.lr": 0.1})) == 1
    with refused("filter", "skips", "skip?"):
        filtered(runs, {"skips": "keep"})
    with refused("filter", "seed=7", fix="0, 1, 2"):
        filtered(runs, {"seed": 7})


def test_csv_leaves_out_settings_that_no_run_changes(tmp_path):
    for seed, smoothing in ((0, 0.0), (1, 0.1)):
        settings = {"trainer.max_epochs": 3, "loss.label_smoothing": smoothing}
        write_run(tmp_path, 0.5, seed, started=seed, settings=settings)
    runs = read_all([tmp_path])[0]
    table = csv.DictReader(io.StringIO(run_csv(runs, [])))
    assert [row["loss.label_smoothing"] for row in table] == ["0.0", "0.1"]
    assert "trainer.max_epochs" not in table.fieldnames


def test_markdown_and_csv_hold_every_run(tmp_path):
    write_run(tmp_path, 0.6)
    write_run(tmp_path, None, status="failed", skip="zero")
    write_run(tmp_path, None, data="imagenet")
    runs, evaluations, warnings = read_all([tmp_path])
    comparison, groups = build(runs, evaluations, COMPARE_SETTINGS, warnings)
    text = markdown(comparison)
    for expected in ("Table 4", "Table 5", "Table 7", "Table 8", "60.71", "ValueError: no", "| failed |"):
        assert expected in text
    rows = list(csv.DictReader(io.StringIO(run_csv(runs, groups))))
    assert [row["status"] for row in rows] == ["finished", "failed", "finished"]
    assert {row["skip"] for row in rows} == {"keep", "zero"}
    assert "imagenet" not in {group.label for group in groups}


def test_any_key_groups(tmp_path):
    for seed, skip in ((0, "keep"), (1, "keep"), (0, "zero")):
        write_run(tmp_path, 0.6, seed, skip=skip, overrides={"optimizer.lr": f"0.{seed + 1}"})
    runs, evaluations, _ = read_all([tmp_path])
    _, groups = build(runs, evaluations, COMPARE_SETTINGS | {"group_by": ["skip"]}, [])
    assert sorted(len(group.runs) for group in groups) == [1, 2]
    with refused("group_by", "colour"):
        build(runs, evaluations, COMPARE_SETTINGS | {"group_by": ["colour"]}, [])


@pytest.mark.parametrize(
    ("arguments", "key", "fact"),
    [
        (["runs=nowhere"], "runs", "nowhere"),
        (["runs=empty"], "runs", "empty"),
        (["gallery=-1"], "gallery", "-1"),
        (['filter="colour=red"'], "filter", "colour"),
        (['filter="colour"'], "filter", "data=fine"),
        (["metric=val/mio"], "metric", "val/miou"),
        (["baseline=fina"], "baseline", "'fine'"),
    ],
)
def test_wrong_request_names_the_setting_and_writes_nothing(tmp_path, monkeypatch, arguments, key, fact):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "outputs", 0.6)
    (tmp_path / "empty").mkdir()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("compare", arguments)
    with refused(key, fact):
        compare(config)
    assert not (tmp_path / "outputs" / "compare").exists()
