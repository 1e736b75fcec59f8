"""What a visitor of a hosted app is told above everything: how long their work is kept, and what they may use."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import gradio as gr

from phi3tune import hosted
from phi3tune.config import HostedConfig
from phi3tune.hosted import Usage
from phi3tune.paths import Workspace
from phi3tune.ui.live import Cursor
from phi3tune.ui.render import counted, duration, esc, number
from phi3tune.ui.wire import Updates
from phi3tune.ui.words import t

# What is used is told anew so often: every file has to be looked at for that.
SECONDS = 30.0


@dataclass
class Banner:
    line: gr.HTML

    def update(self, cursor: Cursor, workspace: Workspace) -> Updates:
        """What is used, when it is time to tell that again."""
        rules = hosted.rules(workspace)
        now = time.monotonic()
        if rules is None or now < cursor.usage_due:
            return {}
        cursor.usage_due = now + SECONDS
        text = banner(rules, hosted.usage(workspace))
        return {self.line: text} if cursor.fresh("banner", text) else {}


def build(rules: HostedConfig | None) -> Banner | None:
    """None for the person at the machine."""
    if rules is None:
        return None
    with gr.Row(elem_id="banner", elem_classes="pt-bar-row"):
        line = gr.HTML(banner(rules, None), elem_id="banner-line")
        if os.environ.get("SPACE_ID"):
            gr.DuplicateButton(t("Duplicate this Space"), elem_id="duplicate", min_width=180)
    return Banner(line)


def banner(rules: HostedConfig, usage: Usage | None) -> str:
    """The line: what is kept how long, the limits, and how much of the storage is used."""
    kept = t(
        "You share this app with others, who do not see your work. It is deleted {hours} after your last visit.",
        hours=counted(round(rules.keep_hours), "hour"),
    )
    limits = t(
        "A run has at most {steps} steps and {time}; a file at most {upload} MB; {jobs} at a time.",
        steps=number(rules.max_steps),
        time=duration(60 * rules.max_minutes),
        upload=number(rules.max_upload),
        jobs=counted(rules.max_jobs, "job"),
    )
    used = ""
    if usage is not None:
        # In the unit in which the owner sets the limit.
        taken, limit = (f"{number(round(count / hosted.MB))} MB" for count in (usage.bytes, usage.limit))
        used = t("Storage: {used} of {limit} used.", used=taken, limit=limit)
    return f'<p class="pt-banner"><b>{esc(kept)}</b> {esc(limits)} {esc(used)}</p>'
