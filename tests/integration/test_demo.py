"""`python src/demo.py` as a user has it: the page in a real browser, and what it refuses."""

import contextlib
import http.client
import json
import signal
import socket
import time

import pytest

from helpers import random_image, write_image


@pytest.fixture(scope="module")
def url(start, tmp_path_factory):
    """Where the demo is served, which it also prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start("demo.py", f"port={port}", "threads=1", cwd=tmp_path_factory.mktemp("demo"))
    started = time.monotonic()
    while not answers(port):
        assert server.poll() is None, server.communicate(timeout=60)
        assert time.monotonic() - started < 120
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/"
    server.send_signal(signal.SIGTERM)
    assert f"http://127.0.0.1:{port}/" in server.communicate(timeout=60)[0]


def answers(port):
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=60):
        return True
    return False


def ask(url, method, path, body=None, **headers):
    connection = http.client.HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=60)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


@contextlib.contextmanager
def opened(browser, url):
    with browser.new_context() as context:
        page = context.new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        yield page
        assert errors == []


def test_page_shows_labels_classes_speed_and_a_slider(browser, url, tmp_path):
    write_image(tmp_path / "photo.jpg", random_image(size=(60, 80)))
    with opened(browser, url) as page:
        page.set_input_files("#file", tmp_path / "photo.jpg")
        page.wait_for_selector("#classes li")
        assert "frames a second" in page.text_content("#message")
        shares = [float(text.split()[-2]) for text in page.locator("#classes li").all_text_contents()]
        assert abs(sum(shares) - 100) < 0.1 * len(shares)
        page.fill("#slider", "30")
        assert "70%" in page.evaluate("document.getElementById('overlay').style.clipPath")


def test_answer_to_a_frame_of_the_camera_is_not_shown_over_what_was_chosen_after_it(browser, url, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"no picture")
    with opened(browser, url) as page:
        held = []
        page.route("**/image", lambda route: held.append(route), times=1)
        with page.expect_request("**/image"):
            page.click("#camera")
        page.set_input_files("#file", tmp_path / "torn.jpg")
        page.wait_for_function("document.getElementById('message').textContent.startsWith('The file')")
        with page.expect_response("**/image"):
            held[0].continue_()
        page.wait_for_timeout(500)
        assert page.text_content("#message").startswith("The file")
        assert page.locator("#classes li").count() == 0


def test_page_labels_what_the_camera_sees_and_says_what_is_no_picture(browser, url, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"no picture")
    with opened(browser, url) as page:
        page.click("#camera")
        page.wait_for_selector("#classes li")
        page.click("#camera")
        page.set_input_files("#file", tmp_path / "torn.jpg")
        page.wait_for_function("document.getElementById('message').textContent.startsWith('The file')")


def test_film_comes_back_labelled(url, tmp_path):
    av = pytest.importorskip("av")
    film = tmp_path / "drive.mp4"
    with av.open(str(film), "w") as container:
        pictures = container.add_stream("mpeg4", rate=5)
        pictures.width, pictures.height = 64, 48
        for seed in range(3):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(random_image(seed, (48, 64)), format="rgb24")))
        container.mux(pictures.encode())
    status, body = ask(url, "POST", "/film", film.read_bytes())
    assert status == 200
    (tmp_path / "drawn.mp4").write_bytes(body)
    with av.open(str(tmp_path / "drawn.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_other_pages_and_other_names_are_refused(url):
    assert ask(url, "GET", "/")[0] == 200
    assert ask(url, "GET", "/", Host="evil.example")[0] == 403
    assert ask(url, "POST", "/image", b"x", Origin="https://evil.example")[0] == 403
    assert ask(url, "GET", "/etc/passwd")[0] == 404


def test_photograph_gets_the_labels_that_the_network_gives(url, tmp_path):
    from fastscnn import Segmenter

    write_image(tmp_path / "photo.png", random_image(size=(60, 80)))
    found = json.loads(ask(url, "POST", "/image", (tmp_path / "photo.png").read_bytes())[1])
    segmenter = Segmenter.from_pretrained("camvid")
    labels = segmenter(tmp_path / "photo.png")
    for entry in found["classes"]:
        assert entry["share"] == pytest.approx((labels == segmenter.classes.names.index(entry["name"])).mean())
