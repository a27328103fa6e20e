"""A careful OAuth client of OmniFund, to use as it is or to take away.

It knows no web framework. ``client`` puts it together and is where to begin. The pieces, from the
bottom up: ``errors`` and ``token`` (what there is), ``transport`` (HTTP), ``redis_client``,
``store`` and ``sealing`` (Redis), ``attempts`` and ``callback`` (signing in), ``gateway``
(OmniFund's OAuth endpoints, through Authlib), ``vault`` (where tokens live), ``access`` (a fresh
bearer token), ``api`` (OmniFund's REST API).
"""
