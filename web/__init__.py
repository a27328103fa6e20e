"""The Flask side: sessions, pages, errors, security headers, operations."""
