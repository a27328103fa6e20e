"""Where a sign-in may lead: never off this origin, never into another sign-in."""

from __future__ import annotations

from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnifund.authorization import MAX_NEXT_LENGTH, safe_next

ORIGIN = "https://app.example"
NEVER = ("/login", "/logout", "/callback", "/token")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/dashboard",
        "/customers?page=2&lastName=O%27Brien",
        "/transactions?kind=pending&from=2026-01-01",
        "/transactions?id%5B%5D=1",
        "/a/b/c/",
        "/caf%C3%A9",
        "/a%20b",
        "/loginx",
        "/logins/",
        "/my/login",
        "/customers?next=/login",
        "/customers?next=%2Flogin",
        "/a..b",
        "/a.",
    ],
)
def test_paths_of_this_app_are_kept(path: str) -> None:
    assert safe_next(path, never=NEVER) == path


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
        "/" + "a" * MAX_NEXT_LENGTH,
    ],
)
def test_everything_else_is_dropped(value: str | None) -> None:
    """G2"""
    assert safe_next(value, never=NEVER) is None


@pytest.mark.parametrize(
    "value",
    [
        "/l%6fgin",
        "/%6c%6F%67%69%6E",
        "/l%256fgin",
        "/l%25256fgin",
        "/login/",
        "/login%2f",
        "/login%3Fnext=x",
        "/login/password",
        "/a/%2e%2e/login",
        "/a/..%2flogin",
        "/a/%2e%2e%2flogin",
        "/a/%252e%252e/login",
        "/a/.%2e/login",
        "/%2e/login",
        "/a/../login",
        "/a/./b",
        "/c%61llback?code=x",
        "/c%61llback%3Fcode=x",
        "/t%6fken/refresh",
        "/logou%74",
        "/%2flogin",
        "/%2f%2fevil.example",
        "/%5cevil.example",
        "/a%5c..%5clogin",
        "/a%2f%2fevil.example",
        "/a%00",
        "/a%0d%0aSet-Cookie:%20a=b",
        "/a%250a",
        "/a%ff",
        "/a%E2%80%A8",
        "/a%7f",
    ],
)
def test_a_path_is_judged_after_decoding_and_normalizing(value: str) -> None:
    """K6"""
    assert safe_next(value, never=NEVER) is None


@given(
    st.text(alphabet=st.sampled_from("/\\.@:?#%&=a1\t\n\r\x00 evil\u2028\uff0f"), max_size=12)
    | st.text(max_size=30)
)
def test_what_is_kept_stays_on_the_origin(value: str) -> None:
    """G2"""
    kept = safe_next("/" + value)
    if kept is None:
        return
    # What a browser makes of it: "\" is "/", tabs and newlines are dropped.
    as_read = kept.replace("\\", "/").translate(dict.fromkeys(map(ord, "\t\n\r")))
    for seen in (kept, as_read):
        target = urlsplit(urljoin(f"{ORIGIN}/login", seen))
        assert (target.scheme, target.netloc) == ("https", "app.example")
    assert "//" not in kept.partition("?")[0]


@given(
    st.sampled_from(NEVER),
    st.lists(st.booleans(), min_size=12, max_size=12),
    st.integers(1, 3),
    st.sampled_from(["", "/", "/password", "?next=/", "%3F", "%2F"]),
    st.sampled_from(["", "/a/..", "/a/%2e%2e", "/a/.%2E", "/a/b/../%2e%2e", "/%2e", "/."]),
)
def test_no_spelling_of_a_page_that_signs_in_is_kept(
    page: str, escaped: list[bool], times: int, rest: str, detour: str
) -> None:
    """K6: any letters of it escaped, once or more often, behind any detour."""
    spelled = "".join(
        f"%{ord(letter):02x}" if escape and letter != "/" else letter
        for letter, escape in zip(page, [*escaped, *[False] * len(page)], strict=False)
    )
    for _ in range(times - 1):
        spelled = spelled.replace("%", "%25")
    assert unquote(unquote(unquote(spelled))) == page
    assert safe_next(detour + spelled + rest, never=NEVER) is None


@given(st.text(alphabet="abcxyz09-_~", min_size=1, max_size=8).filter(lambda text: text != "login"))
def test_an_escaped_path_of_this_app_is_kept(segment: str) -> None:
    """K6: decoding is for judging; what is kept is what was given."""
    escaped = "/" + "".join(f"%{ord(letter):02X}" for letter in segment) + "/x"
    # A first segment that is escaped could be read as the start of a host, so it is dropped.
    assert safe_next(escaped, never=NEVER) is None
    assert safe_next(f"/p{escaped}", never=NEVER) == f"/p{escaped}"
    assert safe_next(quote(f"/p/{segment}"), never=NEVER) == f"/p/{segment}"
