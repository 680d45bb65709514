"""Names and texts keep every character, whoever reads them."""

from __future__ import annotations

import pytest

from tasks.platform.quoting import identifier, literal, url_column


@pytest.mark.parametrize(("name", "wanted"), [("a_b", '"a_b"'), ('odd "name"', '"odd ""name"""'), ("Ä b", '"Ä b"')])
def test_an_identifier_doubles_its_quotes(name: str, wanted: str) -> None:
    assert identifier(name) == wanted
    assert identifier("public", name) == f'"public".{wanted}'


def test_a_literal_doubles_its_quotes() -> None:
    assert literal("it's") == "'it''s'"


@pytest.mark.parametrize(("name", "wanted"), [("a_b", "a_b"), ('odd "name"', '"odd \\"name\\""'), ("a\\b", '"a\\\\b"')])
def test_a_column_in_a_url_is_quoted_where_it_must_be(name: str, wanted: str) -> None:
    assert url_column(name) == wanted
