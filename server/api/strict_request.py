"""JSON bodies, read strictly: the right content type, a size, a depth, valid UTF-8 and no NUL (I14, I15, W14)."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request

from server.domain.errors import InvalidRequest, TooLarge, UnsupportedMedia

LARGEST_JSON = 1_500_000  # bytes; a suite may have 1 MB
DEEPEST = 64


class StrictRequest(Request[Any, Any, Any]):
    """What handlers get. `json()` raises InvalidRequest, TooLarge or UnsupportedMedia, and nothing else."""

    async def json(self) -> Any:
        """The decoded body."""
        check_content_type(self.headers.get("content-type"))
        body = await self.body()
        if len(body) > LARGEST_JSON:
            raise TooLarge(f"The body has {len(body)} bytes; {LARGEST_JSON} are read.")
        return decode_json(body)


def check_content_type(value: str | None) -> None:
    """Raises UnsupportedMedia unless it is JSON in UTF-8."""
    media_type, _, parameters = (value or "").partition(";")
    charset = parameters.partition("charset=")[2].strip().strip('"').lower() or "utf-8"
    if media_type.strip().lower() != "application/json" or charset not in ("utf-8", "utf8"):
        raise UnsupportedMedia("Send JSON: `Content-Type: application/json`, in UTF-8.")


def decode_json(body: bytes) -> Any:
    """The value. Raises InvalidRequest."""
    if not body.strip():
        raise InvalidRequest("The body is empty; send a JSON object.", code="invalid_json")
    if b"\\u0000" in body:
        raise InvalidRequest("The body holds a NUL character (\\u0000); leave it out.", code="invalid_json")
    try:
        value = msgspec.json.decode(body)
        _check_depth(value)
    except RecursionError:
        raise InvalidRequest(f"The body is nested deeper than {DEEPEST} levels.", code="invalid_json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # The decoder's words name a position, never a value.
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for node in level
            if isinstance(node, (dict, list))
            for item in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return
    raise InvalidRequest(f"The body is nested deeper than {DEEPEST} levels.", code="invalid_json")
