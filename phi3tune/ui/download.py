"""A button whose file is made when it is pressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from phi3tune.ui.wire import ACTION, Updates, stepwise, toasts


@dataclass
class Download:
    """What is pressed, and Gradio's own button, which is given the file and pressed for the person."""

    button: gr.Button
    file: gr.DownloadButton

    @classmethod
    def build(cls, text: str, elem_id: str) -> Download:
        button = gr.Button(text, size="sm", elem_id=elem_id)
        return cls(button, gr.DownloadButton(text, visible="hidden", elem_id=f"{elem_id}-file"))

    def connect(self, make: Callable[..., str], inputs: Any) -> None:
        """`make(*inputs)` writes a file outside the workspace and returns its path."""
        self.button.click(toasts(make), inputs, self.file, **ACTION).success(None, js=self._press)

    def connect_steps(self, make: Callable[..., Iterator[Updates]], inputs: Any, outputs: Sequence[Any]) -> Any:
        """The same for a file that takes long: `make(*inputs)` yields updates of `outputs`, and `self.file` at last.

        Returns the event, for a button that cancels it.
        """
        event = self.button.click(stepwise(make), inputs, [self.file, *outputs], **ACTION)
        event.success(None, js=self._press)
        return event

    @property
    def _press(self) -> str:
        return f"() => document.getElementById('{self.file.elem_id}').click()"
