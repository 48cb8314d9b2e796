"""What pyproject.toml cannot say: an installed package carries a copy of `conf/`, which its commands compose."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies `conf/` to `fastscnn/conf/`; an editable installation composes the checkout's own."""

    def run(self) -> None:
        """Build, and copy."""
        super().run()
        if not self.editable_mode:
            self.copy_tree("conf", str(Path(self.build_lib, "fastscnn", "conf")))


setup(cmdclass={"build_py": BuildWithConfigs})
