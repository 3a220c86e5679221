"""What FastAPI cannot read from handlers that take a whole request: with it ``/docs`` can send photos."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from apps.limits import MAX_ALBUM_PHOTOS

_FILE = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "items": _FILE, "minItems": 1, "maxItems": MAX_ALBUM_PHOTOS}
_FORM = {"type": "object", "properties": {"photos": _FILES}, "required": ["photos"]}


def _route(body: str, schema: dict[str, Any], answer: str) -> dict[str, Any]:
    return {
        "response_class": Response,
        "responses": {200: {"content": {answer: {}}, "description": "OK"}},
        "openapi_extra": {"requestBody": {"required": True, "content": {body: {"schema": schema}}}},
    }


ENHANCE = _route("application/octet-stream", _FILE, "image/png")
ALBUM = _route("multipart/form-data", _FORM, "text/event-stream")
