"""The fault kit's honest provider, over HTTPS, in a process of its own.

So its CPU is not that of a peer. It has two ports: HTTPS for the peers, where TLS handshakes are
counted, and a plain one for the benchmark, which is the merchant's browser there and reads and sets
what ``/control`` has.

    python -m benchmarks.provider HTTPS_PORT PLAIN_PORT CERTIFICATE_PEM
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from typing import Final

from local_omnifund.data import Books
from tests.faults.provider import Answer, HonestProvider, Request, json_answer, raw_answer

_CUSTOMERS: Final = 30  # a page of OmniFund's


class Provider(HonestProvider):
    """Takes orders of the benchmark: how long tokens are valid, how long issuing one takes."""

    def __init__(self, https_port: int, plain_port: int, tls: ssl.SSLContext) -> None:
        super().__init__(tls=tls, port=https_port)
        self.listen(plain_port)
        self._customers = raw_answer(_customers(), 200, "application/ld+json; charset=utf-8")

    def find_answer(self, request: Request) -> Answer:
        """Answer ``/control`` too; remember no requests, because there are many."""
        with self._lock:
            self.requests.clear()
        if request.path != "/control":
            return super().find_answer(request)
        if request.body:
            orders = json.loads(request.body)
            self.expires_in, self.delay = orders.get("expires_in", 3600), orders.get("latency", 0)
        return json_answer({"handshakes": self.tls_handshakes})

    def collection(self, request: Request) -> Answer:
        """Return a page of customers."""
        return self._customers


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


def main(https_port: int, plain_port: int, certificate: str) -> None:
    """Serve until the process is ended."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with Provider(https_port, plain_port, tls):
        threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
