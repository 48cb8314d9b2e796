"""The dashboard shows what runs really log, compares like with like, and is updated rather than doubled."""

import json
from types import SimpleNamespace

import pytest
import torch
import wandb
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fastscnn.cli.launch import CONF
from fastscnn.data.datasets.classes import CITYSCAPES
from fastscnn.reports.wandb.dashboard import outline, sections
from fastscnn.reports.wandb.wandb_objects import TITLE, report, save, workspace
from fastscnn.runs.identity import GROUPS, Identity
from fastscnn.runs.run_settings import recipe
from fastscnn.runs.tracking import wandb_config
from fastscnn.training.callbacks.record import best_summary
from fastscnn.training.metrics import score
from helpers import refused, track

pytestmark = pytest.mark.usefixtures("offline")
PICTURES = ["val/pictures/bochum_000000_000019", "val/pictures/ulm_000001_000019"]


@pytest.fixture
def logged(tmp_path):
    """Names in the history and in the summary of a run that logs the scores of a validation, as W&B keeps them."""
    matrix = torch.randint(1, 9, (CITYSCAPES.num_classes,) * 2)
    values = score(matrix, CITYSCAPES).named("val") | {"train/loss": 1.0, "train/lr": 0.1, "epoch": 0.0}
    with track(tmp_path) as run:
        run.log(values | {"trainer/global_step": 10})
        run.summary.update(best_summary(values | {"epoch": 1}))
        summary = {
            f"{key}.{part}" if part else key
            for key, value in run.summary._as_dict().items()
            for part in (value if isinstance(value, dict) else [""])
        }
    return {*values, "trainer/global_step"}, summary


def config_keys():
    """Every key of the W&B config of a training run, nested ones with dots."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        whole = OmegaConf.to_container(compose("train"), resolve=True)

    def walk(value, prefix=""):
        for key, item in value.items():
            yield f"{prefix}{key}"
            if isinstance(item, dict):
                yield from walk(item, f"{prefix}{key}.")

    return set(walk(wandb_config(whole, {**Identity(GROUPS).flat(0), "recipe": recipe({})})))


def spec(thing):
    return json.loads(thing._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))


def workspace_spec():
    return spec(workspace("me", "fast-scnn", sections(PICTURES)))["section"]


def report_grids():
    for section in sections(PICTURES):
        blocks = spec(report("me", "fast-scnn", section))["blocks"]
        yield from (block["metadata"] for block in blocks if block["type"] == "panel-grid")


def panels():
    """Every panel of the workspace and of the report, as W&B receives it."""
    for section in workspace_spec()["panelBankConfig"]["sections"]:
        yield from section["panels"]
    for grid in report_grids():
        yield from grid["panelBankSectionConfig"]["panels"]


def test_panels_show_what_is_logged_and_bars_what_is_in_the_summary(logged):
    history, summary = logged
    kinds = set()
    for panel in panels():
        kind, config = panel["viewType"], panel["config"]
        kinds.add(kind)
        if kind == "Run History Line Plot":
            assert {*config["metrics"], config["xAxis"]} <= history
        elif kind == "Bar Chart":
            assert set(config["metrics"]) <= summary | {"test/miou"}, "the last is in that of an evaluation"
        elif kind == "Scatter Plot":
            assert config["yAxis"].removeprefix("summary:") in summary
            assert config["xAxis"].removeprefix("config:").replace(".value", "", 1) in config_keys()
        else:
            assert (kind, config["mediaKeys"]) == ("Media Browser", PICTURES)
    assert len(kinds) == 4


def test_miou_is_drawn_over_steps_and_over_epochs():
    curves = [panel["config"] for panel in panels() if panel["config"].get("metrics") == ["val/miou"]]
    assert {curve["xAxis"] for curve in curves} == {"trainer/global_step", "epoch"}


def test_bars_show_the_best_validation_and_every_class():
    bars = [set(panel["config"]["metrics"]) for panel in panels() if panel["viewType"] == "Bar Chart"]
    assert {"best/miou"} in bars
    assert {f"best/iou/{name}" for name in CITYSCAPES.names} in bars


def test_line_of_the_workspace_is_one_recipe():
    (runs,) = workspace_spec()["runSets"]
    assert [key["name"] for key in runs["grouping"]] == [f"{key}.value" for key in (*GROUPS, "recipe")]
    assert {key["section"] for key in runs["grouping"]} == {"config"}
    columns = [column for column in runs["runFeed"]["columnOrder"] if column.startswith("config:")]
    assert {column.removeprefix("config:").removesuffix(".value") for column in columns} <= config_keys()


def test_report_compares_finished_runs_that_differ_in_nothing_else_and_never_mixes_data_or_trials():
    compared = 0
    for grid in report_grids():
        (runs,) = grid["runSets"]
        grouped = [key["name"].removesuffix(".value") for key in runs["grouping"]]
        filters = {(item["key"]["section"], item["key"]["name"]): item["value"] for item in runs["filters"]["filters"]}
        of_run = {name: value for (section, name), value in filters.items() if section == "run"}
        fixed = {
            name.removesuffix(".value"): value for (section, name), value in filters.items() if section == "config"
        }
        assert of_run["state"] == "finished" and of_run["jobType"] in ("train", "eval")
        if not grouped:
            assert not fixed
            continue
        compared += 1
        assert {"data", "recipe"} <= set(grouped)
        assert set(grouped) | set(fixed) >= set(GROUPS)
        assert not set(grouped) & set(fixed)
        assert fixed.items() <= GROUPS.items()
        assert {*grouped, *fixed} <= config_keys()
    assert compared >= 7


def test_recipe_is_shared_by_runs_that_differ_in_the_seed_or_where_files_lie_and_by_no_others():
    settings = {"trainer.max_epochs": 1000, "optimizer.lr": 0.045, "seed": 0, "data.root": "a", "pretrain.sha256": "0"}
    whole = recipe(settings)
    assert whole.startswith("1000 epochs, ")
    assert recipe(settings | {"seed": 1, "data.root": "b", "pretrain.checkpoint": "c"}) == whole
    for key, value in {
        "trainer.max_epochs": 2,
        "optimizer.lr": 0.1,
        "pretrain.sha256": "1",
        "data.batch_size": 3,
    }.items():
        assert recipe(settings | {key: value}) != whole


@pytest.mark.parametrize("group", ["data", "pretrain", "skip", "activation", "resolution", "seed"])
def test_every_choice_of_the_paper_has_its_section(group):
    assert any(group in section.compared for section in sections())


def test_outline_names_every_section_panel_metric_and_grouping():
    text = "\n".join(outline(sections()))
    for section in sections():
        assert section.title in text
        for panel in section.panels:
            assert panel.title in text
            assert all(metric in text for metric in (*panel.metrics[:1], *panel.metrics[-1:]))
    assert "val/miou over trainer/global_step" in text
    assert "val/miou over epoch" in text
    assert "grouped by data, pretrain, recipe;" in text


def test_panels_of_a_report_lie_side_by_side():
    for grid in report_grids():
        places = [(panel["layout"]["x"], panel["layout"]["y"]) for panel in grid["panelBankSectionConfig"]["panels"]]
        assert len(set(places)) == len(places)


class Server:
    """W&B's side of saving a view, by what its API promises: an id updates, no id creates."""

    def __init__(self, projects=("fast-scnn",)):
        self.views = []
        self.default_entity = "me"
        self.app_url = "https://wandb.example"
        self.known = projects
        self._service_api = self

    def projects(self, entity):
        return [SimpleNamespace(name=name) for name in self.known]

    def runs(self, path, per_page):
        assert path == "me/fast-scnn"
        return iter([SimpleNamespace(summary={"best/miou": 0.5, PICTURES[0]: {}})])

    def reports(self, path):
        return [SimpleNamespace(id=v["id"], display_name=v["displayName"]) for v in self.views if v["type"] == "runs"]

    def execute_graphql(self, query, variables):
        if "mutation" not in query:
            found = [view for view in self.views if view["name"] == variables["viewName"]]
            return {"project": {"allViews": {"edges": [{"node": view} for view in found]}}}
        identifier = variables.get("id") or f"id{len(self.views)}"
        self.views = [view for view in self.views if view["id"] != identifier]
        project = {"id": "1", "name": variables["projectName"], "entityName": variables["entityName"]}
        view = {**variables, "id": identifier, "project": project, "updatedAt": "2026-01-01T00:00:00"}
        self.views.append(view)
        return {"upsertView": {"view": view, "inserted": True}}


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "login", lambda **settings: True)
    monkeypatch.setattr(wandb, "Api", lambda *args, **settings: server)
    return server


def test_saving_creates_a_workspace_and_a_report_for_each_question_and_returns_their_addresses(server, capsys):
    view, *texts = save(None, "fast-scnn").values()
    assert view == "https://wandb.example/me/fast-scnn?nw=fastscnn"
    assert all(text.startswith("https://wandb.example/me/fast-scnn/reports/") for text in texts)
    assert len(set(texts)) == len(sections())
    kinds = [view["type"] for view in server.views]
    assert (kinds.count("project-view"), kinds.count("runs")) == (1, len(sections()))
    titles = {view["displayName"] for view in server.views}
    assert titles == {TITLE, *(f"Fast-SCNN: {section.title}" for section in sections())}
    assert sum(PICTURES[0] in view["spec"] for view in server.views) == 2
    assert capsys.readouterr().out == ""


def test_saving_again_updates_both(server):
    first = save("me", "fast-scnn")
    before = {view["id"] for view in server.views}
    for view in server.views:
        view["spec"] = view["spec"].replace("skip connection", "changed by hand")
    assert save("me", "fast-scnn") == first
    assert {view["id"] for view in server.views} == before
    assert not any("changed by hand" in view["spec"] for view in server.views)


def test_report_of_another_title_is_left_alone(server):
    server.views.append({"id": "other", "type": "runs", "name": "x", "displayName": "My report", "spec": "{}"})
    save("me", "fast-scnn")
    assert next(view for view in server.views if view["id"] == "other")["spec"] == "{}"
    assert len(server.views) == 2 + len(sections())


def test_unknown_project_is_a_wrong_request_and_creates_nothing(server):
    with refused("project", "fast-scn", "me"):
        save("me", "fast-scn")
    assert not server.views


@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError('400 Bad Request: {"errors":[{"message":"Cannot query field viewSpec"}]}'),
        ValueError("Error: unknown field\nTraceback"),
        KeyError("project"),
        wandb.errors.CommError("no such entity"),
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_whatever_a_server_answers_is_one_sentence(server, monkeypatch, answer):
    def refuse(*arguments, **settings):
        raise answer

    monkeypatch.setattr(server, "execute_graphql", refuse)
    with refused("project", "W&B at", fix="wandb login") as caught:
        save("me", "fast-scnn")
    assert "\n" not in str(caught.value)


def test_dashboard_of_a_study_shows_the_runs_with_its_tag_and_is_another_one(server):
    whole, other = save("me", "fast-scnn"), save("me", "fast-scnn", "seed-12345678")
    assert set(whole.values()).isdisjoint(other.values())
    specs = [view["spec"] for view in server.views if "seed-12345678" in view["displayName"]]
    assert len(specs) == len(other) == 1 + len(sections())
    assert all('"study:seed-12345678"' in text.replace("\\", "") for text in specs)


def test_without_a_key_the_fix_is_named(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    with refused("WANDB_API_KEY", fix="wandb login"):
        save("me", "fast-scnn")


def test_offline_mode_is_named():
    with refused("WANDB_MODE", "offline"):
        save("me", "fast-scnn")
