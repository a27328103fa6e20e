"""What may be shown of a message: nothing secret, and no way back from a mark."""

from __future__ import annotations

import json

import pytest

from demo.masking import HIDDEN, MAX_FIELDS, Masker

CANARY = "canary-4f1d9a77c0b24e0c8f6d"


@pytest.fixture
def masker() -> Masker:
    return Masker("a key")


@pytest.mark.parametrize(
    "name",
    [
        "code",
        "state",
        "access_token",
        "refresh_token",
        "code_verifier",
        "something_new",
        "lastName",
    ],
)
def test_a_secret_has_a_mark_that_is_the_same_for_the_same_value(masker: Masker, name: str) -> None:
    """D1: whatever is not known to be harmless is a secret."""
    first = masker.fields([(name, CANARY)])[name]
    assert first.startswith("#")
    assert len(first) == 9
    assert first == masker.fields([(name, CANARY)])[name]
    assert first != masker.fields([(name, CANARY + "x")])[name]
    assert first != Masker("another key").fields([(name, CANARY)])[name]


@pytest.mark.parametrize("name", ["password", "client_secret", "username"])
def test_what_people_choose_gets_no_mark(masker: Masker, name: str) -> None:
    """D1: a short secret could be found by trying, were the key known."""
    assert masker.fields([(name, "hunter2")]) == {name: HIDDEN}


def test_harmless_parameters_are_shown(masker: Masker) -> None:
    fields = {"grant_type": "refresh_token", "client_id": "1_abc", "expires_in": "3600"}
    assert masker.fields(fields.items()) == fields


def test_what_this_app_wrote_is_shown_whole_and_what_a_server_wrote_is_not(
    masker: Masker,
) -> None:
    """K19: a server can put a secret that this app has never seen under a harmless name."""
    fields = {"client_id": CANARY, "redirect_uri": f"https://app.example/{CANARY}"}
    assert masker.fields(fields.items(), is_own=True) == fields
    assert masker.fields(fields.items()) == {
        "client_id": "…",
        "redirect_uri": "https://app.example/…",
    }


def test_the_bearer_is_masked_and_unknown_headers_are_left_out(masker: Masker) -> None:
    """D1"""
    shown = masker.headers({"Authorization": f"Bearer {CANARY}", "Cookie": CANARY, "X-Any": CANARY})
    assert shown == {"Authorization": f"Bearer {masker.mark(CANARY)}"}


def test_a_name_could_be_a_secret_too(masker: Masker) -> None:
    """K19: one that this app has never seen, in the place of a name."""
    assert masker.fields([(CANARY, "x")]) == {"…": masker.mark("x")}
    assert masker.headers({"Set-Cookie": f"{CANARY}=1; Path=/"}) == {
        "Set-Cookie": f"…={HIDDEN}; Path=/"
    }
    assert CANARY[:12] not in str(masker.headers({"Set-Cookie": CANARY}))
    assert CANARY[:12] not in str(masker.headers({"Authorization": CANARY}))


def test_the_long_names_of_oauth_are_shown(masker: Masker) -> None:
    names = ["code_challenge_method", "error_description", "client_assertion_type", "redirect_uri"]
    assert list(masker.fields((name, "x") for name in names)) == names
    cookie = {"Set-Cookie": f"PHPSESSID={CANARY}; path=/; HttpOnly; SameSite=Lax"}
    assert masker.headers(cookie) == {
        "Set-Cookie": f"PHPSESSID={HIDDEN}; path=/; HttpOnly; SameSite=Lax"
    }


def test_a_number_is_a_secret_as_any_text_is(masker: Masker) -> None:
    """D1, K19"""
    shown = masker.fields([("access_token", 4711471147114711), ("expires_in", 3600), ("a", None)])
    assert shown == {
        "access_token": masker.mark("4711471147114711"),
        "expires_in": "3600",
        "a": "null",
    }


def test_a_media_type_is_shown_unless_it_repeats_a_secret(masker: Masker) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html, */*;q=0.1"}
    assert masker.headers(form) == form
    masker.mark(CANARY)
    assert masker.headers({"Content-Type": f"text/{CANARY}"}) == {"Content-Type": HIDDEN}
    assert CANARY not in str(masker.headers({"Content-Type": f"text/<{CANARY}>"}))


def test_the_query_of_a_location_is_left_out(masker: Masker) -> None:
    shown = masker.headers({"Location": f"https://app.example/callback?code={CANARY}#x"})
    assert shown == {"Location": "https://app.example/callback"}


@pytest.mark.parametrize(
    ("kind", "body", "described"),
    [
        ("text/html", f"<p>{CANARY}</p>".encode(), "of text/html"),
        ("application/json", f'["{CANARY}"]'.encode(), "not a JSON object"),
        ("application/json", f'{{"a": "{CANARY}'.encode(), "not valid"),
        ("application/json", b"[" * 100_000, "not valid"),
        ("", CANARY.encode(), "no content type"),
    ],
)
def test_a_body_that_is_no_json_object_is_described_and_not_shown(
    masker: Masker, kind: str, body: bytes, described: str
) -> None:
    note, members = masker.body({"Content-Type": kind}, body)
    assert described in note
    assert CANARY not in note
    assert members == {}


def test_a_json_object_is_shown_with_its_members_masked(masker: Masker) -> None:
    body = {"access_token": CANARY, "expires_in": 60, "scope": None, "hydra:member": [{}, {}]}
    _note, members = masker.body({"Content-Type": "application/json"}, json.dumps(body).encode())
    assert members == {
        "access_token": masker.mark(CANARY),
        "expires_in": "60",
        "scope": "null",
        "hydra:member": "[2 entries]",
    }


def test_a_servers_own_words_are_shown_unless_they_repeat_a_secret(masker: Masker) -> None:
    """B7"""
    words = [("error_description", "The code has expired")]
    assert masker.fields(words) == dict(words)
    masker.mark("s3cr3t")
    assert masker.fields([("error_description", "bad: s3cr3t")])["error_description"] == HIDDEN
    unseen = masker.fields([("error_description", f"bad token {CANARY}")])
    assert unseen == {"error_description": "bad token …"}


def test_what_is_shown_is_bounded_and_printable(masker: Masker) -> None:
    """B7"""
    many = masker.fields((f"p{number}", "x") for number in range(1000))
    assert len(many) == MAX_FIELDS
    (name, _value), *_ = masker.fields([("n" * 1000, "x")]).items()
    assert len(name) <= 60
    long = masker.fields([("redirect_uri", "\u202e\r\n" + "x" * 10_000)])["redirect_uri"]
    assert len(long) <= 200
    assert long.isprintable()


def test_a_server_that_repeats_a_secret_where_none_belongs_does_not_show_it() -> None:
    """D2"""
    masker = Masker("key")
    masker.fields([("client_secret", "a-client-secret"), ("code", "a-code-of-sixty-letters")])
    shown = masker.fields(
        [
            ("error", "a-client-secret"),
            ("scope", "x a-code-of-sixty-letters"),
            ("a-client-secret", 1),
        ]
    )
    assert shown == {"error": HIDDEN, "scope": HIDDEN, HIDDEN: masker.mark("1")}
