"""A careful OAuth client of OmniFund, to use as it is or to take away.

It knows no web framework. The pieces, from the bottom up: ``errors`` and ``token`` (what there is),
``transport`` (HTTP), ``store`` and ``sealing`` (Redis), ``attempts`` and ``callback`` (signing in),
``gateway`` (OmniFund's OAuth endpoints, through Authlib), ``vault`` (where tokens live), ``access``
(a fresh bearer token), ``api`` (OmniFund's REST API).
"""
