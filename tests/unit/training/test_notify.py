"""`callbacks=[default,notify]`: one message at the end of a run, and no harm where nobody takes it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from omegaconf import OmegaConf

from fastscnn.runs.run import Run
from fastscnn.training.callbacks.build import build_callbacks
from helpers import job, refused


@pytest.fixture
def server():
    """Address and messages of a server on loopback."""
    messages = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    serving = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}/hook", messages
    serving.shutdown()
    serving.server_close()


def trained(tmp_path, url, error=None):
    asked = ["logger=csv", "callbacks=[default,notify]", f"notify.url={url}", f"paths.run_dir={tmp_path / 'run'}"]
    with job(*asked) as config:
        (notify,) = build_callbacks({"notify": OmegaConf.to_container(config, resolve=True)["callbacks"]["notify"]})
        run = Run.create(config)
        run.when_closed.append(notify.run_closed)
        with run:
            run.update(metrics={"best": {"val/miou": 0.5, "val/iou/road": 0.9, "epoch": 2}, "last": {}})
            if error:
                raise error


def test_finished_run_posts_one_message(tmp_path, server):
    trained(tmp_path, server[0])
    (message,) = server[1]
    assert message["status"] == "finished"
    assert message["best"] == {"val/miou": 0.5}
    assert message["text"] == "streets finished, best 50.00 %"
    assert message["folder"] == str(tmp_path / "run")
    assert message["minutes"] == 0


def test_failed_run_posts_its_error(tmp_path, server):
    with pytest.raises(ZeroDivisionError):
        trained(tmp_path, server[0], ZeroDivisionError("no"))
    assert (server[1][0]["status"], server[1][0]["error"]) == ("failed", "ZeroDivisionError: no")


def test_server_that_does_not_answer_costs_a_line(tmp_path, capsys):
    trained(tmp_path, "http://user:secret@127.0.0.1:9/hook")
    printed = capsys.readouterr().err
    assert "notify: 127.0.0.1:9 does not take the message" in printed
    assert "secret" not in printed
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("url", ["null", "ftp://x/y", "hook"])
def test_url_that_is_none_is_refused_before_anything_starts(tmp_path, url):
    with refused("notify.url", fix="notify.url=https"):
        trained(tmp_path, url)
    assert not (tmp_path / "run").exists()
