"""The demo's network is chosen by its settings."""

from fastscnn.predict.demo import DemoServer


def test_demo_hands_its_settings_on_to_the_segmenter():
    settings = {"checkpoint": None, "port": 0, "opacity": 0.6, "backend": "torch", "device": "cpu"}
    settings |= {"precision": "auto", "threads": 1, "max_pixels": 1000, "trust": None}
    for longest, expected in (("auto", 720), (300, 300), (None, None)):
        with DemoServer(settings | {"longest_side": longest}) as server:
            found = server.segmenter
        assert (found.longest_side, found.max_pixels, found.threads) == (expected, 1000, 1)
