"""An OAuth provider that approves everybody at once, over HTTPS with kept-alive connections.

It runs in a process of its own, so that its CPU is nobody else's. It has two doors: an HTTPS one
for the peers, where TLS handshakes are counted, and a plain one for the benchmark, which is the
merchant's browser there and reads and sets what ``/control`` has.

    python -m benchmarks.provider HTTPS_PORT PLAIN_PORT CERTIFICATE_PEM
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import ssl
import sys
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from local_omnifund.data import Books

_CUSTOMERS: Final = 30  # a page of OmniFund's

Headers = dict[str, str]
Answer = tuple[int, Headers, bytes]


@dataclass
class Control:
    """What the benchmark may change: how long tokens live, how long making one takes (seconds)."""

    expires_in: int = 3600
    latency: float = 0


class Provider:
    """Issues, rotates and checks codes and tokens. Everything is single use that should be."""

    def __init__(self) -> None:
        self.control = Control()
        self.handshakes = 0
        self._challenges: dict[str, str] = {}
        self._expiry: dict[str, float] = {}
        self._refresh: set[str] = set()
        self._customers = _customers()

    async def serve_https(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a peer; asyncio calls this once the handshake is done."""
        self.handshakes += 1
        await self._serve(reader, writer, controlled=False)

    async def serve_plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the benchmark."""
        await self._serve(reader, writer, controlled=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, controlled: bool
    ) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                target = head[0].split(" ")[1]
                answer = await self._answer(target, headers, body, controlled=controlled)
                writer.write(_encoded(answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, target: str, headers: Headers, body: bytes, *, controlled: bool
    ) -> Answer:
        url = urlsplit(target)
        if url.path == "/oauth/v2/auth":
            return self._authorize(dict(parse_qsl(url.query)))
        if url.path == "/oauth/v2/token":
            if self.control.latency:
                await asyncio.sleep(self.control.latency)
            return self._token(dict(parse_qsl(body.decode())))
        if url.path == "/api/customers":
            return self._api(headers)
        if url.path == "/control" and controlled:
            if body:
                self.control = Control(**json.loads(body))
            return _json({"handshakes": self.handshakes})
        return _json({"error": "not_found"}, 404)

    def _authorize(self, query: dict[str, str]) -> Answer:
        code = new_token()
        self._challenges[code] = query.get("code_challenge", "")
        answer = urlencode({"state": query.get("state", ""), "code": code})
        return 302, {"Location": f"{query['redirect_uri']}?{answer}"}, b""

    def _token(self, form: dict[str, str]) -> Answer:
        if form.get("grant_type") == "refresh_token":
            given = form.get("refresh_token", "")
            good = given in self._refresh
            self._refresh.discard(given)
        else:
            challenge = self._challenges.pop(form.get("code", ""), None)
            good = challenge is not None and _proves(form.get("code_verifier", ""), challenge)
        if not good:
            return _json({"error": "invalid_grant", "error_description": "Not valid."}, 400)
        access_token, refresh_token = new_token(), new_token()
        self._expiry[access_token] = time.time() + self.control.expires_in
        self._refresh.add(refresh_token)
        return _json(
            {
                "access_token": access_token,
                "expires_in": self.control.expires_in,
                "token_type": "bearer",
                "scope": None,
                "refresh_token": refresh_token,
            }
        )

    def _api(self, headers: Headers) -> Answer:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or time.time() >= self._expiry.get(token, 0):
            return _json({"error": "invalid_grant", "error_description": "Not valid."}, 401)
        return 200, {"Content-Type": "application/ld+json; charset=utf-8"}, self._customers


def new_token() -> str:
    """Return a token in OmniFund's form: 86 characters, base64url of 64 hexadecimal digits."""
    return base64.urlsafe_b64encode(secrets.token_hex(32).encode()).rstrip(b"=").decode()


def _proves(verifier: str, challenge: str) -> bool:
    if not challenge:
        return True
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge


def _customers() -> bytes:
    """Return the first page of customers as Local OmniFund's API answers it."""
    customers = Books(time.time).of("merchant").customers
    link = "/api/customers?page="
    return json.dumps(
        {
            "@context": "/api/contexts/customers",
            "@id": "/api/customers",
            "@type": "hydra:Collection",
            "hydra:member": customers[:_CUSTOMERS],
            "hydra:totalItems": len(customers),
            "hydra:view": {
                "@id": f"{link}1",
                "@type": "hydra:PartialCollectionView",
                "hydra:first": f"{link}1",
                "hydra:last": f"{link}{-(-len(customers) // _CUSTOMERS)}",
                "hydra:next": f"{link}2",
            },
        },
        separators=(",", ":"),
    ).encode()


def _json(value: Any, status: int = 200) -> Answer:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store, private"}
    return status, headers, json.dumps(value).encode()


def _encoded(answer: Answer) -> bytes:
    status, headers, body = answer
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


async def main(https_port: int, plain_port: int, certificate: str) -> None:
    """Serve until the process is ended."""
    provider = Provider()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    at: dict[str, Any] = {"host": "127.0.0.1", "backlog": 1024}
    await asyncio.start_server(provider.serve_plain, port=plain_port, **at)
    https = await asyncio.start_server(provider.serve_https, port=https_port, ssl=tls, **at)
    await https.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
