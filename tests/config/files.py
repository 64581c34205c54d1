"""A directory with a proxy.yaml in it, loaded; shared by the tests of this room."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from token_tracker.config.load import load
from token_tracker.config.problems import ConfigurationError
from token_tracker.config.values import Configuration

DEMO = "model_list: [{model_name: demo, litellm_params: {model: demo/echo}}]\n"


class Files:
    """Writes files into a directory of its own and loads what is there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "config").mkdir()
        self.yaml(DEMO)

    def yaml(self, text: str) -> None:
        (self.directory / "config" / "proxy.yaml").write_text(dedent(text), encoding="utf-8")

    def load(self, text: str | None = None, **environ: str) -> Configuration:
        if text is not None:
            self.yaml(text)
        return load(environ, self.directory)

    def problems(self, text: str | None = None, **environ: str) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            self.load(text, **environ)
        return [problem.replace(f"{self.directory}/", "") for problem in caught.value.problems]
