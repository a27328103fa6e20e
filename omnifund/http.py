from omnifund.answers import raise_if_unavailable, read_json_object, retry_after, short_code
from omnifund.transport import Answer as Response
from omnifund.transport import Transport as HTTPClient

__all__ = [
    "HTTPClient",
    "Response",
    "raise_if_unavailable",
    "read_json_object",
    "retry_after",
    "short_code",
]
