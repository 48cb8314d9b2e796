"""A page that labels photographs, films and the camera: `python src/demo.py` and `fastscnn-demo`."""

from typing import TYPE_CHECKING, Any

from fastscnn.cli.start import start

if TYPE_CHECKING:
    from omegaconf import DictConfig


def demo(config: "DictConfig") -> None:
    """Serve the page until the command is stopped."""
    from omegaconf import OmegaConf

    from fastscnn.predict.demo import DemoServer

    settings: Any = OmegaConf.to_container(config, resolve=True)
    with DemoServer(settings) as server:
        print(f"The page: {server.url} (for this machine alone; Ctrl-C ends it)", flush=True)
        server.serve_forever()


def main() -> None:
    """The command, as `src/demo.py` and `fastscnn-demo` call it."""
    start("demo", demo)
