"""Static files: read and compressed once, named after their content, kept by browsers for a year.

``static/app.css`` is served as ``/static/app.css`` and as ``/static/app.<hash>.css``. Pages link to
the second; another content has another address, so nobody ever has to ask whether it has changed.
A font has the version in its own name, and keeps it: stylesheets know it by that name.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from flask import Flask, Response, abort, request
from werkzeug.wrappers import Response as BaseResponse

from web.security import may_be_cached

_ONE_YEAR: Final = 365 * 24 * 3600
_HASH_LENGTH: Final = 12
_FONT: Final = ".woff2"


class StaticFile(NamedTuple):
    """A file as it is sent. ``packed`` is its gzip form, ``None`` where that saves nothing."""

    content_type: str
    etag: str
    plain: bytes
    packed: bytes | None


def init_app(app: Flask) -> Callable[[str], str]:
    """Serve the static folder of ``app``; return what turns a file's name into its address."""
    folder = Path(str(app.static_folder))
    files = {
        path.relative_to(folder).as_posix(): _read(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    hashed = {_hashed_name(name, file.etag): file for name, file in files.items()}
    addresses = {name: f"/static/{_hashed_name(name, file.etag)}" for name, file in files.items()}

    def static(filename: str) -> BaseResponse:
        is_hashed = filename in hashed
        file = hashed.get(filename) or files.get(filename) or abort(404)
        may_be_cached()
        response = Response(content_type=file.content_type)
        response.set_etag(file.etag)
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["Cache-Control"] = (
            f"public, max-age={_ONE_YEAR}, immutable" if is_hashed else "no-cache"
        )
        if file.packed is not None and request.accept_encodings["gzip"]:
            response.headers["Content-Encoding"] = "gzip"
            response.data = file.packed
        else:
            response.data = file.plain
        return response.make_conditional(request)

    # In place of Flask's own, which reads the disk each time and compresses nothing.
    app.view_functions["static"] = static
    # Browsers ask for it wherever a page names no icon of its own, as JSON does not.
    app.add_url_rule("/favicon.ico", "static", defaults={"filename": "favicon.ico"})
    # Below whatever path a proxy mounts the app, as url_for does it.
    return lambda name: request.environ.get("SCRIPT_NAME", "") + addresses[name]


def _read(path: Path) -> StaticFile:
    plain = path.read_bytes()
    guessed = "font/woff2" if path.suffix == _FONT else mimetypes.guess_type(path.name)[0]
    kind = guessed or "application/octet-stream"
    is_text = kind.startswith("text/") or kind in ("image/svg+xml", "application/javascript")
    packed = gzip.compress(plain, 9, mtime=0) if is_text else None
    return StaticFile(
        content_type=f"{kind}; charset=utf-8" if is_text else kind,
        etag=hashlib.sha256(plain).hexdigest()[:_HASH_LENGTH],
        plain=plain,
        packed=packed if packed is not None and len(packed) < len(plain) else None,
    )


def _hashed_name(name: str, etag: str) -> str:
    path = PurePosixPath(name)
    if path.suffix == _FONT:
        return name
    return str(path.with_name(f"{path.stem}.{etag}{path.suffix}"))
