"""What pyproject.toml cannot say: an installed package carries a copy of `conf/` and of `weights/`."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithData(build_py):
    """Copies `conf/` and `weights/` into `fastscnn/`; an editable installation reads the checkout's own."""

    def run(self) -> None:
        """Build, and copy."""
        super().run()
        if not self.editable_mode:
            for folder in ("conf", "weights"):
                self.copy_tree(folder, str(Path(self.build_lib, "fastscnn", folder)))


setup(cmdclass={"build_py": BuildWithData})
