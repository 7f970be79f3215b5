"""A Markdown page as the rules for texts ask about it: its sections, links, code, and the names in its tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it, down to the next heading of its level or a higher one."""

    heading: str
    line: int
    tokens: tuple[Token, ...]

    @property
    def paragraphs(self) -> int:
        return sum(token.type == "paragraph_open" and token.level == 0 for token in self.tokens)


@dataclass(frozen=True)
class Block:
    """A fenced block of code; `info` are the words behind the fence."""

    line: int
    info: tuple[str, ...]
    code: str


class Page:
    """One Markdown file, parsed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8", errors="replace")

    @cached_property
    def tokens(self) -> list[Token]:
        """The blocks of the page; raw HTML is text, tables are tables."""
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    def sections(self, level: int) -> list[Section]:
        """The sections under headings of one level, in order."""
        starts = [i for i, token in enumerate(self.tokens) if token.type == "heading_open"]
        found = []
        for number, start in enumerate(starts):
            if _level(self.tokens[start]) != level:
                continue
            later = (i for i in starts[number + 1 :] if _level(self.tokens[i]) <= level)
            end = next(later, len(self.tokens))
            heading = self.tokens[start + 1].content
            found.append(Section(heading, _line(self.tokens[start]), tuple(self.tokens[start + 3 : end])))
        return found

    @property
    def blocks(self) -> Iterator[Block]:
        for token in self.tokens:
            if token.type == "fence":
                yield Block(_line(token), tuple(token.info.split()), token.content)

    @property
    def links(self) -> Iterator[tuple[int, str]]:
        """Line and target of each link and picture."""
        for line, token in self._inline():
            target = token.attrGet("href") if token.type == "link_open" else token.attrGet("src")
            if token.type in ("link_open", "image") and isinstance(target, str):
                yield line, target

    @property
    def code_words(self) -> set[str]:
        """What stands between backticks, outside fenced blocks."""
        return {token.content for _, token in self._inline() if token.type == "code_inline"}

    @property
    def table_names(self) -> Iterator[tuple[int, str]]:
        """Line and text of what stands between backticks in the body of a table."""
        depth = 0
        for block in self.tokens:
            depth += (block.type == "tbody_open") - (block.type == "tbody_close")
            for token in block.children or () if depth else ():
                if token.type == "code_inline":
                    yield _line(block), token.content

    @property
    def words(self) -> Iterator[tuple[int, str]]:
        """Line and text of all that is said in headings, paragraphs and tables; not what fenced blocks hold."""
        for line, token in self._inline():
            if token.type in ("text", "code_inline"):
                yield line, token.content

    @property
    def anchors(self) -> set[str]:
        """What a link may name behind a `#`: the headings as GitHub spells them."""
        headings = (self.tokens[i + 1].content for i, token in enumerate(self.tokens) if token.type == "heading_open")
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    def _inline(self) -> Iterator[tuple[int, Token]]:
        for block in self.tokens:
            for token in block.children or ():
                yield _line(block), token


def _level(token: Token) -> int:
    return int(token.tag[1:])


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 1
