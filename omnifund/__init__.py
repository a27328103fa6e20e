"""An OAuth client of OmniFund, to use as it is or to copy. It depends on no web framework.

Begin with ``client``. From the bottom up: ``errors`` and ``events``; ``token``, ``http``,
``encryption``, and ``redis_client``; ``authorization`` (signing in); ``oauth`` (OmniFund's OAuth
endpoints, through Authlib) and ``token_store``; ``refresh`` (valid access tokens); ``api``.
"""
