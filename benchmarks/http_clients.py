"""CPU of one exchange over TLS, by HTTP client, in one run (docs/adr/0006-http-client.md).

pyreqwest is measured if it is installed; it is no requirement of this project.
"""

from __future__ import annotations

import importlib
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx2
import urllib3

from benchmarks.peers import provider
from omnifund.http import HTTPClient

PATH: Final = "/oauth/v2/token"
HEADERS: Final = {"Content-Type": "application/x-www-form-urlencoded"}
BODY: Final = "grant_type=authorization_code&client_id=a&client_secret=b&code=" + "c" * 86
MAX_BYTES: Final = 64 * 1024
ROUNDS: Final = 5
EXCHANGES: Final = 1000

Exchange = Callable[[], object]


def main() -> None:
    """Measure, and print the best round of each client."""
    with provider() as running:
        bundle = str(running.bundle)
        clients = {
            "omnifund.http (httpcore2)": _ours(running.url, bundle),
            "urllib3": _urllib3(running.url, bundle),
            "httpx2": _httpx2(running.url, bundle),
        }
        try:
            clients["pyreqwest"] = _pyreqwest(running.url, bundle)
        except ModuleNotFoundError:
            print("pyreqwest is not installed")
        best = dict.fromkeys(clients, float("inf"))
        for _ in range(ROUNDS):
            for name, exchange in clients.items():
                best[name] = min(best[name], _seconds(exchange))
    for name, seconds in sorted(best.items(), key=lambda item: item[1]):
        print(f"{name:28}{seconds * 1000:.2f} ms")


def _seconds(exchange: Exchange) -> float:
    exchange()
    began = time.process_time()
    for _ in range(EXCHANGES):
        exchange()
    return (time.process_time() - began) / EXCHANGES


def _ours(url: str, bundle: str) -> Exchange:
    client = HTTPClient(url, ca_bundle=bundle)
    return lambda: client.send("POST", PATH, headers=HEADERS, body=BODY, max_bytes=MAX_BYTES)


def _urllib3(url: str, bundle: str) -> Exchange:
    context = ssl.create_default_context(cafile=bundle)
    pool = urllib3.connection_from_url(url, ssl_context=context, retries=False)

    def exchange() -> bytes:
        response = pool.urlopen(
            "POST", PATH, BODY, HEADERS, redirect=False, preload_content=False, retries=False
        )
        try:
            return response.read(MAX_BYTES)
        finally:
            response.release_conn()

    return exchange


def _httpx2(url: str, bundle: str) -> Exchange:
    context = ssl.create_default_context(cafile=bundle)
    client = httpx2.Client(base_url=url, verify=context, trust_env=False)

    def exchange() -> int:
        with client.stream("POST", PATH, content=BODY, headers=HEADERS) as response:
            return sum(map(len, response.iter_bytes()))

    return exchange


def _pyreqwest(url: str, bundle: str) -> Exchange:
    builder = importlib.import_module("pyreqwest.client").SyncClientBuilder()
    builder = builder.no_proxy().follow_redirects(False)
    client = builder.add_root_certificate_pem(Path(bundle).read_bytes()).build()

    def exchange() -> int:
        request = client.post(url + PATH).headers(HEADERS).body_text(BODY).build_streamed()
        with request as response:
            return len(response.body_reader.bytes())

    return exchange


if __name__ == "__main__":
    main()
