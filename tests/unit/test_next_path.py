"""Where a sign-in may lead: never off this origin."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.next_path import MAX_LENGTH, safe_next_path

ORIGIN = "https://app.example"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/dashboard",
        "/customers?page=2&lastName=O%27Brien",
        "/transactions?kind=pending&from=2026-01-01",
        "/transactions?id%5B%5D=1",
        "/a/b/c/",
    ],
)
def test_paths_of_this_app_are_kept(path: str) -> None:
    assert safe_next_path(path) == path


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "dashboard",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/ /evil.example",
        "\t//evil.example",
        " //evil.example",
        "https://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "@evil.example",
        ".evil.example",
        "/./\\evil.example",
        "/.//evil.example",
        "/..//evil.example",
        "/x//evil.example",
        "/dashboard#@evil.example",
        "/\u2028/evil.example",
        "/\uff0fevil.example",
        "/dashboard\r\nSet-Cookie: a=b",
        "/dashboard\x00",
        "/login",
        "/login?next=/login",
        "/logout",
        "/callback?code=x",
        "/token/refresh",
        "/" + "a" * MAX_LENGTH,
    ],
)
def test_everything_else_is_dropped(value: str | None) -> None:
    """G2"""
    assert safe_next_path(value) is None


@given(
    st.text(alphabet=st.sampled_from("/\\.@:?#%&=a1\t\n\r\x00 evil\u2028\uff0f"), max_size=12)
    | st.text(max_size=30)
)
def test_whatever_is_kept_stays_on_the_origin(value: str) -> None:
    """G2"""
    kept = safe_next_path("/" + value)
    if kept is None:
        return
    # What a browser makes of it: "\" is "/", tabs and newlines are dropped.
    as_read = kept.replace("\\", "/").translate(dict.fromkeys(map(ord, "\t\n\r")))
    for seen in (kept, as_read):
        target = urlsplit(urljoin(f"{ORIGIN}/login", seen))
        assert (target.scheme, target.netloc) == ("https", "app.example")
    assert "//" not in kept.partition("?")[0]
