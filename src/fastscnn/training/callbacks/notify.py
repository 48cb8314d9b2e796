"""One message to a webhook once a run has ended: `callbacks=[default,notify]`."""

import json
import sys
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytorch_lightning as pl

from fastscnn.utils.errors import RequestError
from fastscnn.utils.files import plain_json

SECONDS = 5


class Notify(pl.Callback):
    """Posts `name`, `status`, `error`, `best`, `minutes`, `id` and `folder` of a run as JSON, and a sentence, `text`.

    `text` is what chat servers show. A server that does not answer in five seconds costs a line.

    Args:
        url: The webhook, http or https.

    Raises:
        RequestError: It is no such address.
    """

    def __init__(self, url: str | None) -> None:
        if urlsplit(str(url or "")).scheme not in ("http", "https") or not urlsplit(str(url)).netloc:
            raise RequestError(
                f"notify.url={url} is no address of a webhook.", key="notify.url", fix="Set notify.url=https://…."
            )
        self.url = str(url)

    def run_closed(self, record: Mapping[str, Any], folder: Path) -> None:
        """Post the end of a run."""
        body = json.dumps(plain_json(message(record, folder))).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=SECONDS):
                pass
        except (OSError, ValueError, HTTPException) as error:
            host = urlsplit(self.url).netloc.rpartition("@")[2]
            print(f"notify: {host} does not take the message ({type(error).__name__}: {error}).", file=sys.stderr)


def message(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What is posted."""
    found = record["metrics"]["best"]
    scores = {
        name: value for name, value in found.items() if name.startswith(("val/", "test/")) and "/iou/" not in name
    }
    minutes = None
    if record.get("started") and record.get("finished"):
        seconds = datetime.fromisoformat(record["finished"]) - datetime.fromisoformat(record["started"])
        minutes = round(seconds.total_seconds() / 60, 1)
    best = found.get("val/miou", found.get("val/top1"))
    score = "" if best is None else f", best {100 * best:.2f} %"
    return {
        "text": f"{record['name']} {record['status']}{score}",
        "name": record["name"],
        "status": record["status"],
        "error": record.get("error"),
        "best": scores,
        "minutes": minutes,
        "id": record["id"],
        "folder": str(folder),
    }
