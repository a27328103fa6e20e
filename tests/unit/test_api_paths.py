"""The access token goes to the API of the configured origin and nowhere else."""

from __future__ import annotations

from typing import Any, cast

import pytest

from omnifund.api import API


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "api/customers",
        "//evil.example/api/customers",
        "https://evil.example/api/customers",
        "/api",
        "/api/",
        "/api//evil.example",
        "/api/../oauth/v2/token",
        "/api/customers/..",
        "/api/./customers",
        "/api/customers?x=y",
        "/api/customers#x",
        "/api/customers\r\nHost: evil.example",
        "/api/customers\n",
        "/api/cus tomers",
        "/api/%2e%2e/oauth",
        "/api/customers\\..\\..",
        "/api/é",
        "/api@evil.example/customers",
        "/oauth/v2/token",
    ],
)
def test_a_path_that_is_not_the_apis_is_refused_before_anything_is_sent(path: str) -> None:
    """D5"""
    # Neither an HTTP client nor a token: using one of them would fail with another error.
    api = API(cast(Any, None), cast(Any, None), clock=lambda: 0)
    with pytest.raises(ValueError, match="not a path"):
        api.get("a connection", path)
