"""docker's progress messages as the lines of an answer."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from corten.api.errors import error_text
from corten.api.response import encode


async def message_lines(messages: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[bytes]:
    """One JSON object a line; a failure on the way is the last one."""
    try:
        async for message in messages:
            yield _line(message)
    except Exception as error:
        text = error_text(error)
        yield _line({"errorDetail": {"message": text}, "error": text})
    finally:
        await messages.aclose()


def _line(message: dict[str, Any]) -> bytes:
    return encode(message)[:-1] + b"\r\n"
