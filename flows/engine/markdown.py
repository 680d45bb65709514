"""Text of others in a page of Markdown: shown as it is written, whatever marks are in it."""

from __future__ import annotations

import re

# What a backslash makes plain, code, backticks that begin none, and what may begin a tag.
_MARKDOWN = re.compile(r"\\[\\`<]|(`+)(?!`)(?:(?!\n\s*\n).)*?(?<!`)\1(?!`)|`+|<", re.DOTALL)
_TAG = re.compile(r"\\[\\<]|<")


def inert(text: str) -> str:
    """Text in which nothing outside of code is a tag: of https://<ref>.supabase.co a page showed https://.supabase.co."""

    def shown(found: re.Match[str]) -> str:
        if found[1] and "\n" in found[0]:  # a line of it may begin another paragraph, and then it is no code
            return _TAG.sub(shown_tag, found[0])
        return shown_tag(found)

    def shown_tag(found: re.Match[str]) -> str:
        return r"\<" if found[0] == "<" else found[0]

    return _MARKDOWN.sub(shown, text)


def code(text: str) -> str:
    """Text of a row as code, whatever is in it; nothing of none."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`" if text else ""
